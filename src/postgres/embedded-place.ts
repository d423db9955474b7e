/**
 * Where the embedded server lives and as whom. Postgres refuses to run as root, so root hands it to a user that owns
 * nothing else; that user must be able to walk down to its directory, and a socket's path has about 100 bytes.
 */
import {
  chmod,
  chown,
  lchown,
  lstat,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  realpath,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { PlatformError } from '../../schema/error.ts'
import { sha256 } from '../../schema/hash.ts'
import type { Log } from '../log.ts'
import { pidsIn } from './process-life.ts'

/** Belongs to nobody on common systems: above people, below containers and dynamic users. */
const SERVER = { uid: 54_320, gid: 54_320 }
/** `sun_path` has 104 bytes on macOS; `/.s.PGSQL.5432` takes 14 and a NUL ends it. */
const SOCKET_DIRECTORY_BYTES_MAX = 88

export interface User {
  readonly uid: number
  readonly gid: number
}

export interface EmbeddedPlace {
  /** The server's own; holds the cluster, the log, links or copies of the binaries. Others may only pass through. */
  readonly home: string
  readonly cluster: string
  readonly socketDirectory: string
  /** The user to switch to; null stays who we are. */
  readonly user: User | null
}

function passes(mode: number, owner: User, user: User | null, bit: number): boolean {
  if (user === null) return true
  if (owner.uid === user.uid) return (mode & (bit << 6)) !== 0
  if (owner.gid === user.gid) return (mode & (bit << 3)) !== 0
  return (mode & bit) !== 0
}

/** Gives everything in `directory` to `user`. */
export async function giveAll(directory: string, user: User): Promise<void> {
  const names = await readdir(directory, { recursive: true })
  for (const path of [directory, ...names.map((name) => join(directory, name))]) await lchown(path, user.uid, user.gid)
}

/** Any user but root that the system has a name for: initdb asks for its own name, and our user has none. */
export async function namedUser(): Promise<User | undefined> {
  const text = await readFile('/etc/passwd', 'utf8').catch(() => '')
  const users = text.split('\n').flatMap((line) => {
    const [name, , uid, gid] = line.split(':')
    return Number(uid) > 0 && Number(gid) > 0 ? [{ name, uid: Number(uid), gid: Number(gid) }] : []
  })
  return users.find(({ name }) => name === 'nobody') ?? users[0]
}

/** True when `user` can walk down to `path`. */
export async function mayEnter(path: string, user: User | null): Promise<boolean> {
  for (let at = path; ; at = dirname(at)) {
    const found = await stat(at).catch(() => undefined)
    if (found === undefined || !passes(found.mode, found, user, 1)) return false
    if (at === dirname(at)) return true
  }
}

/** True when `user` can walk down to the file or directory `path`, read it, and execute or enter it. */
export async function mayUse(path: string, user: User | null): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined || !passes(found.mode, found, user, 4) || !passes(found.mode, found, user, 1)) return false
  return mayEnter(dirname(path), user)
}

/** Makes a directory the user's; one that somebody else put there is refused. */
export async function own(directory: string, user: User | null, mode = 0o700): Promise<void> {
  const uid = user?.uid ?? process.getuid?.()
  await mkdir(directory, { recursive: true, mode })
  const found = await lstat(directory)
  if (!found.isDirectory()) throw new PlatformError('config_invalid', `${directory} is not a directory.`)
  if (user !== null && found.uid === 0) await chown(directory, user.uid, user.gid)
  else if (uid !== undefined && found.uid !== uid)
    throw new PlatformError('config_invalid', `${directory} belongs to uid ${found.uid}; the database runs as ${uid}.`)
  await chmod(directory, mode)
}

/** The file in the directory that says where its server lives, when that is not right there. */
const MARK = 'server-is-in'
/** The file in such a home that says whose it is. */
const OWNER = 'directory'
const PLACES = ['/var/lib', '/var/tmp']

interface Home {
  readonly home: string
  readonly user: User | null
}

/** The home that was chosen before; undefined before the first time. */
async function findHome(here: string): Promise<Home | undefined> {
  const mark = await readFile(join(here, MARK), 'utf8').catch(() => undefined)
  const home = mark?.trim() ?? join(here, 'server')
  const found = await stat(join(home, 'cluster')).catch(() => undefined)
  if (found === undefined) return undefined
  if (process.getuid?.() !== 0) return { home, user: null }
  // Whoever owns the cluster keeps it: a directory made by a person goes on being theirs.
  return { home, user: found.uid === 0 ? SERVER : { uid: found.uid, gid: found.gid } }
}

/**
 * Removes homes whose directory was in /tmp and is gone: what was tried out or tested, and leaves 60 MB and perhaps a
 * server behind. A directory that is gone from elsewhere may only be a disk that is not mounted: that home stays.
 */
async function removeOrphans(log: Log): Promise<void> {
  for (const place of PLACES) {
    for (const name of await readdir(place)) {
      const home = join(place, name)
      if (!name.startsWith('senmon-') || (await lstat(home).catch(() => undefined))?.uid !== SERVER.uid) continue
      const directory = await readFile(join(home, OWNER), 'utf8').catch(() => '')
      if (!directory.startsWith('/tmp/') || (await stat(directory).catch(() => undefined)) !== undefined) continue
      log.info(`Removing ${home}: it was the embedded database of ${directory}, which is gone.`)
      for (const pid of (await pidsIn(join(home, 'cluster'), SERVER.uid)) ?? []) quit(pid)
      await rm(home, { recursive: true, force: true })
    }
  }
}

/** One that has ended by itself meanwhile is as good. */
function quit(pid: number): void {
  try {
    process.kill(pid, 'SIGQUIT')
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && cause.code === 'ESRCH')) throw cause
  }
}

/** Only root moves away: anybody else can reach what is theirs. A new name each time, so that it is nobody's yet. */
async function makeHome(here: string, log: Log): Promise<Home> {
  const user = process.getuid?.() === 0 ? SERVER : null
  if (await mayEnter(here, user)) return { home: join(here, 'server'), user }
  await removeOrphans(log)
  for (const place of PLACES) {
    if (!(await mayEnter(place, user))) continue
    try {
      const home = await mkdtemp(join(place, 'senmon-'))
      await writeFile(join(home, OWNER), here)
      await writeFile(join(here, MARK), home)
      log.info(`The embedded database lives in ${home}, because uid ${user?.uid} cannot reach ${here}.`)
      return { home, user }
    } catch (cause) {
      log.warn(`The embedded database cannot live in ${place}.`, { cause })
    }
  }
  throw new PlatformError('config_invalid', `The embedded database finds no place for ${here} that it can use.`)
}

/**
 * Lets others pass through `directory`, not list it, when it is root's and root's server could not: what is in it
 * keeps its own modes. Spares a cluster elsewhere, which would stay behind when the directory is deleted.
 */
export async function letServerPass(directory: string): Promise<void> {
  if (process.getuid?.() !== 0 || !(await mayEnter(dirname(directory), SERVER))) return
  const { mode, uid } = await stat(directory)
  if (uid === 0 && !(await mayEnter(directory, SERVER))) await chmod(directory, (mode & 0o7777) | 0o001)
}

/** True when a server was set up for the directory. */
export async function isSetUp(directory: string): Promise<boolean> {
  const here = await realpath(directory).catch(() => undefined)
  return here !== undefined && (await findHome(here)) !== undefined
}

/** Makes the directories. `directory` exists; what root's server cannot reach from there goes to /var/lib or /var/tmp. */
export async function openPlace(directory: string, log: Log): Promise<EmbeddedPlace> {
  const here = await realpath(directory)
  const { home, user } = (await findHome(here)) ?? (await makeHome(here, log))
  let socketDirectory = join(home, 'socket')
  if (Buffer.byteLength(socketDirectory) > SOCKET_DIRECTORY_BYTES_MAX)
    socketDirectory = join('/tmp', `senmon-${sha256(home).slice(0, 16)}`)
  await own(home, user, 0o711)
  await own(socketDirectory, user)
  return { home, cluster: join(home, 'cluster'), socketDirectory, user }
}
