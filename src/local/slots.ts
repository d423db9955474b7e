/**
 * Slots: each holds one machine's directories, and as root a uid of its own. A slot is used once and then removed.
 *
 * SL1 A slot has one owner: claiming is one rename, which fails where a slot exists.
 * SL2 A slot whose owner has died is removed by whoever opens the slots next.
 * SL3 No two machines of this computer have one uid, whichever servers they are of, and none has uid 0: what runs as a
 *    slot's uid is the slot's to kill.
 */
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
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
  /** Removes it with all its files, then gives the uid back. Idempotent. */
  release(): void
}

export interface Slots {
  /** Throws `machine_failed` when every slot is taken. */
  claim(): Promise<Slot>
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

async function claim(directory: string): Promise<Slot> {
  const made = mkdtempSync(join(directory, `new-${process.pid}-`))
  writeFileSync(join(made, 'owner'), JSON.stringify(ownerOf(process.pid)))
  for (const name of ['ws', 'input']) mkdirSync(join(made, name), { mode: 0o700 })
  for (let number = 1; number <= SLOTS_MAX; number++) {
    const path = join(directory, `${number}`)
    if (existsSync(path)) continue
    const lease = process.getuid?.() === 0 ? await holdUid(UID_FIRST + number) : { uid: undefined, giveBack: () => {} }
    if (lease === undefined) continue
    try {
      renameSync(made, path)
    } catch (error) {
      lease.giveBack()
      if (isTaken(error)) continue
      throw new PlatformError('machine_failed', `The slot ${path} cannot be claimed.`, { cause: error })
    }
    const { uid } = lease
    if (uid !== undefined) for (const name of ['ws', 'input', '']) chownSync(join(path, name), uid, uid)
    const release = () => {
      remove(path)
      lease.giveBack()
    }
    return { number, directory: path, workspace: join(path, 'ws'), input: join(path, 'input'), uid, release }
  }
  remove(made)
  throw new PlatformError('machine_failed', `All ${SLOTS_MAX} slots below ${directory} are taken.`)
}

/**
 * Holds a uid against every other server of this computer, as long as this process lives: the name of an abstract
 * socket has one owner, and the kernel gives it back when the owner dies. Undefined when somebody has it.
 */
async function holdUid(uid: number): Promise<{ readonly uid: number; giveBack(): void } | undefined> {
  const holder = createServer().unref()
  const { promise, resolve } = Promise.withResolvers<boolean>()
  holder.once('listening', () => resolve(true)).once('error', () => resolve(false))
  holder.listen(`\0senmon-uid-${uid}`)
  return (await promise) ? { uid, giveBack: () => void holder.close() } : undefined
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
