/**
 * Slots: each holds one machine's directories, and as root a uid of its own. A slot is used once and then removed.
 *
 * L1 A slot has one owner: claiming is one rename, which fails where a slot exists.
 * L2 A slot whose owner has died is removed by whoever opens the slots next.
 * L3 No slot has uid 0.
 */
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { PlatformError } from '../../schema/error.ts'
import { findProcess } from './processes.ts'

/** Above what distributions give to people and services, below what they give to subordinate ids. */
const UID_FIRST = 200_000
const SLOTS_MAX = 4096

export interface Slot {
  readonly number: number
  readonly directory: string
  readonly workspace: string
  readonly input: string
  /** Whom its processes run as; undefined for the server's own uid. */
  readonly uid: number | undefined
  /** Removes it with all its files. Idempotent. */
  release(): void
}

export interface Slots {
  /** Throws `machine_failed` when every slot is taken. */
  claim(): Slot
}

/** Opens the slots below `directory`, which is ours alone to write; sweeps what dead owners left. */
export function openSlots(directory: string): Slots {
  mkdirSync(directory, { recursive: true, mode: 0o755 })
  for (const name of readdirSync(directory)) {
    const path = join(directory, name)
    if (!isOwned(path)) remove(path)
  }
  return { claim: () => claim(directory) }
}

function claim(directory: string): Slot {
  const asRoot = process.getuid?.() === 0
  const made = mkdtempSync(join(directory, `new-${process.pid}-`))
  writeFileSync(join(made, 'owner'), JSON.stringify(ownerOf(process.pid)))
  for (const name of ['ws', 'input']) mkdirSync(join(made, name), { mode: 0o700 })
  const taken = new Set(readdirSync(directory))
  for (let number = 1; number <= SLOTS_MAX; number++) {
    const path = join(directory, `${number}`)
    if (taken.has(`${number}`)) continue
    const uid = asRoot ? UID_FIRST + number : undefined
    try {
      renameSync(made, path)
    } catch (error) {
      if (isTaken(error)) continue
      throw new PlatformError('machine_failed', `The slot ${path} cannot be claimed.`, { cause: error })
    }
    if (uid !== undefined) for (const name of ['ws', 'input', '']) chownSync(join(path, name), uid, uid)
    return {
      number,
      directory: path,
      workspace: join(path, 'ws'),
      input: join(path, 'input'),
      uid,
      release: () => remove(path),
    }
  }
  remove(made)
  throw new PlatformError('machine_failed', `All ${SLOTS_MAX} slots below ${directory} are taken.`)
}

function isTaken(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOTEMPTY' || error.code === 'EEXIST')
}

/** A process, told from a later one with the same pid and from one before a reboot. */
function ownerOf(pid: number): { pid: number; startedAt: string; boot: string } {
  let boot = ''
  try {
    boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    // Not Linux: the pid must do.
  }
  return { pid, startedAt: findProcess(pid)?.startedAt ?? '', boot }
}

function isOwned(slot: string): boolean {
  try {
    const written = readFileSync(join(slot, 'owner'), 'utf8')
    const { pid } = JSON.parse(written) as { pid: number } // we wrote it; anything else compares unequal
    process.kill(pid, 0)
    return written === JSON.stringify(ownerOf(pid))
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    // Not written yet: the one who makes it is in its name.
    const maker = /^new-(\d+)-/.exec(basename(slot))?.[1]
    if (code === 'ENOENT' && maker !== undefined) return findProcess(Number(maker)) !== undefined
    // Somebody else's process is alive although we may not signal it.
    return code === 'EPERM'
  }
}

function remove(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true, maxRetries: 3 })
  } catch {
    // A skill may have taken its own permissions away from its directories.
    permit(path)
    rmSync(path, { recursive: true, force: true, maxRetries: 3 })
  }
}

function permit(path: string): void {
  if (!lstatSync(path).isDirectory()) return
  chmodSync(path, 0o700)
  for (const name of readdirSync(path)) permit(join(path, name))
}
