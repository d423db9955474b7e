/**
 * Puts a skill's packages on disk, from the content store and by integrity alone: no network, no script, no npm.
 *
 * IN1 An installation is named by the hash of what is in it, appears whole by one rename, and never changes.
 * IN2 Each tarball is checked against the lock's sha512 and read by the gate's rules before a byte is written.
 * IN3 Nothing is written outside the installation; files are read-only, readable by all, and none is a link.
 * IN4 One that nobody has asked for in UNUSED_MS goes, and what a crash left half-done after a day; none goes while it is
 *    asked for, and whoever asks later gets it anew.
 * IN5 One that a machine was given stays as long as the machine, whichever server looks: a skill may be started for the first
 *    time weeks after.
 */
import { createHash } from 'node:crypto'
import { chmod, mkdir, mkdtemp, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Clock } from '../schema/clock.ts'
import { PlatformError } from '../schema/error.ts'
import type { InstalledPackage, Lock, LockedStdioSkill } from '../schema/lock.ts'
import type { PackageStore } from '../schema/package-store.ts'
import { hashInstallation } from './closure.ts'
import type { Content } from './ports.ts'
import { openTarball, type OpenedTarball } from './tarball.ts'

export interface InstallerOptions {
  /** Holds one directory for each installation; must be on one file system. */
  readonly directory: string
  readonly content: Pick<Content, 'get'>
  readonly packages: Pick<PackageStore, 'findTarball'>
  readonly clock: Clock
}

/** Many times SWEEP_MS: what is kept is asked for again by then. */
export const UNUSED_MS = 14 * 24 * 60 * 60 * 1000
/** How often this process says what it keeps and looks for what is to go, and how old what it takes for left half-done is. */
export const SWEEP_MS = 24 * 60 * 60 * 1000

export interface Installer {
  /**
   * The installation's root, which holds `node_modules` and the lock's `entry`. Throws `skill_start_failed` when a
   * package is missing or is not what the lock says.
   */
  install(skill: LockedStdioSkill): Promise<string>
  /** Keeps what the skills of a lock were installed as until its machine has ended (IN5). */
  keep(lock: Lock, ended: Promise<unknown>): void
  /** Says what is kept, and removes what nobody has asked for in a long time (IN4, IN5). Never rejects. */
  sweep(): Promise<void>
  /** Sweeps at once and every SWEEP_MS, until it is closed. */
  startSweeping(): { close(): Promise<void> }
}

const PART = '(?:@[a-z0-9][a-z0-9._-]*/)?[A-Za-z0-9._-]+'
const PLACE = new RegExp(`^node_modules/${PART}(?:/node_modules/${PART})*$`)

export function openInstaller(options: InstallerOptions): Installer {
  const { directory, clock } = options
  const running = new Map<string, Promise<string>>()
  /** What each machine that lives was given. */
  const kept = new Set<ReadonlySet<string>>()

  async function sweepOnce(): Promise<void> {
    const now = clock.now()
    for (const given of kept) for (const name of given) await touch(join(directory, name), now).catch(() => {})
    await sweep(directory, now)
  }

  return {
    sweep: sweepOnce,
    install(skill) {
      const before = running.get(skill.installHash)
      if (before !== undefined) return before
      const installing = install(options, skill).finally(() => running.delete(skill.installHash))
      running.set(skill.installHash, installing)
      return installing
    },
    keep(lock, ended) {
      const given = installationsOf(lock)
      kept.add(given)
      const forget = (): boolean => kept.delete(given)
      ended.then(forget, forget)
    },
    startSweeping() {
      const closing = new AbortController()
      const sweeping = (async () => {
        while (!closing.signal.aborted) {
          await sweepOnce()
          await clock.sleep(SWEEP_MS, closing.signal).catch(() => {})
        }
      })()
      return {
        async close() {
          closing.abort(new Error('the installer is closing'))
          await sweeping
        },
      }
    },
  }
}

function installationsOf({ experts }: Lock): ReadonlySet<string> {
  const skills = Object.values(experts).flatMap((expert) => Object.values(expert.skills))
  return new Set(skills.flatMap((skill) => (skill.type === 'mcpStdioSkill' ? [skill.installHash] : [])))
}

async function install(options: InstallerOptions, skill: LockedStdioSkill): Promise<string> {
  const { packages, installHash, entry } = skill
  if (hashInstallation(packages) !== installHash)
    throw failed(`The installation ${installHash} does not hash to its name; the lock was changed.`)
  const target = join(options.directory, installHash)
  const now = options.clock.now()
  if (await touch(target, now)) return target
  await mkdir(options.directory, { recursive: true, mode: 0o755 })
  const fresh = await mkdtemp(join(options.directory, '.new-'))
  try {
    for (const one of packages) await extract(options, fresh, one)
    if (!(await exists(join(fresh, entry)))) throw failed(`The skill has no ${entry} to start.`)
    await chmod(fresh, 0o755)
    await touch(fresh, now)
    await rename(fresh, target)
    return target
  } catch (error) {
    // Another process may have put the very same installation there.
    if (await touch(target, now)) return target
    throw error
  } finally {
    await rm(fresh, { recursive: true, force: true })
  }
}

/** When it was last asked for is when it was last modified; false when it is not there. */
async function touch(installation: string, now: number): Promise<boolean> {
  try {
    await utimes(installation, new Date(now), new Date(now))
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error // Node's own
    return false
  }
}

/** Never rejects: what cannot be removed now is tried again another day. */
async function sweep(directory: string, now: number): Promise<void> {
  const names = await readdir(directory).catch(() => [])
  for (const name of names) await remove(directory, name, now).catch(() => {})
}

async function remove(directory: string, name: string, now: number): Promise<void> {
  const path = join(directory, name)
  if (!(await isUnused(path, name, now))) return
  // Somebody may ask for it now: it is taken away first, and given back when somebody has.
  const dead = name.startsWith('.dead-') ? path : join(directory, `.dead-${name}`)
  await rename(path, dead)
  if (await isUnused(dead, name, now)) await rm(dead, { recursive: true, force: true })
  else await rename(dead, path)
}

async function isUnused(path: string, name: string, now: number): Promise<boolean> {
  const age = now - (await stat(path)).mtimeMs
  return age >= (name.startsWith('.') ? SWEEP_MS : UNUSED_MS)
}

function failed(message: string, cause?: unknown): PlatformError {
  return new PlatformError('skill_start_failed', message, cause === undefined ? {} : { cause })
}

async function extract(options: InstallerOptions, root: string, one: InstalledPackage): Promise<void> {
  const label = `${one.name}@${one.version}`
  if (!PLACE.test(one.path) || one.path.split('/').some((part) => part === '..' || part === '.'))
    throw failed(`The package ${label} would be installed at ${JSON.stringify(one.path)}, which is no place for one.`)
  const opened = await fetchPackage(options, one, label)
  const directories = new Set<string>()
  for (const [path, file] of opened.files) {
    const target = join(root, one.path, path)
    for (let at = dirname(target); at.length > root.length && !directories.has(at); at = dirname(at))
      directories.add(at)
    await mkdir(dirname(target), { recursive: true })
    await writeFile(target, file.bytes, { flag: 'wx', flush: true })
    await chmod(target, file.executable ? 0o555 : 0o444)
  }
  // Whoever runs the skill is another user than this process, whatever umask this one has.
  for (const directory of directories) await chmod(directory, 0o755)
}

async function fetchPackage(options: InstallerOptions, one: InstalledPackage, label: string): Promise<OpenedTarball> {
  const found = await options.packages.findTarball(one.integrity)
  if (found === undefined) throw failed(`The package ${label} (${one.integrity}) is not in the registry.`)
  let bytes: Uint8Array
  try {
    bytes = await options.content.get(found.contentHash)
  } catch (error) {
    throw failed(`The tarball of ${label} cannot be read.`, error)
  }
  if (`sha512-${createHash('sha512').update(bytes).digest('base64')}` !== one.integrity)
    throw failed(`The tarball of ${label} is not the one that the lock names.`)
  const opened = await openTarball(bytes)
  if ('refused' in opened) throw failed(`The tarball of ${label} is refused: ${opened.message}`)
  return opened
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch {
    return false
  }
}
