/**
 * A Postgres server of our own, from npm's binaries: on a private socket, durable, and never two of us on one directory.
 *
 * ES1 A directory has one owner among our processes; a second one is refused with the first one's pid.
 * ES2 A server that outlived its owner is adopted as it is, with everything that was committed.
 * ES3 The server outlives a signal to our process group: only `close`, or the machine, ends it.
 * ES4 Root's server runs as an unprivileged user, wherever the directory is.
 * ES5 A server that ends before `close` is started again, for as long as it takes: on a full disk it ends, and does not start.
 */
import { spawn } from 'node:child_process'
import { open, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Client } from 'pg'
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import type { Log } from '../log.ts'
import { lockDirectory, type DirectoryLock } from './directory-lock.ts'
import { findEmbeddedPackage, prepareBinary, type EmbeddedBinary } from './embedded-binary.ts'
import { giveAll, namedUser, openPlace, own, type EmbeddedPlace, type User } from './embedded-place.ts'
import { isAlive, pidsIn, startOf } from './process-life.ts'

const START_MS_MAX = 60_000
const STOP_MS_MAX = 30_000
const POLL_MS = 10
/** Between two looks whether it still runs. */
const WATCH_MS = 1_000
/** The longest wait before it is started once more. */
const RESTART_MS_MAX = 15_000
/** At a start, a longer log is put aside as `log.old`. */
const LOG_BYTES_MAX = 16 * 1024 * 1024
/** The superuser's name, whoever we are. */
const ROLE = 'senmon'

/** How to connect, in the words of `pg`. */
export interface ServerAddress {
  /** The directory of the socket. */
  readonly host: string
  readonly port: number
  readonly user: string
  readonly database: string
}

export interface EmbeddedServer {
  readonly address: ServerAddress
  /** Of the server that runs, or ran last. */
  readonly pid: number
  /** True when an earlier process had started it. */
  readonly adopted: boolean
  /** Waits for nobody: open transactions are rolled back. Resolves when the server is gone and the directory is free. */
  close(): Promise<void>
}

export interface EmbeddedOptions {
  /** Made when absent. */
  readonly directory: string
  readonly log: Log
  readonly clock: Clock
  /** Server settings besides ours. */
  readonly settings?: Readonly<Record<string, string>>
}

interface Spawned {
  readonly exited: Promise<number | null>
  /** Lets our own process end before this one. */
  release(): void
}

/** Its own session, so that Ctrl-C in our terminal does not reach it; its output goes to the place's log. */
async function run(
  command: string,
  args: readonly string[],
  binary: EmbeddedBinary,
  place: EmbeddedPlace,
  user: User | null,
): Promise<Spawned> {
  await using output = await open(join(place.home, 'log'), 'a', 0o600)
  const child = spawn(command, args, {
    cwd: '/',
    env: { ...binary.environment, LC_ALL: 'C', TZ: 'UTC' },
    detached: true,
    stdio: ['ignore', output.fd, output.fd],
    ...(user === null ? {} : { uid: user.uid, gid: user.gid }),
  })
  return {
    release: () => child.unref(),
    exited: new Promise((resolve, reject) => {
      child.once('exit', (code) => resolve(code))
      child.once('error', reject)
    }),
  }
}

async function logTail(place: EmbeddedPlace): Promise<string> {
  const text = await readFile(join(place.home, 'log'), 'utf8').catch(() => '')
  return text.trimEnd().split('\n').slice(-8).join('\n')
}

async function unavailable(message: string, place: EmbeddedPlace, cause?: unknown): Promise<PlatformError> {
  const path = join(place.home, 'log')
  return new PlatformError('database_unavailable', `${message} ${path} ends with: ${await logTail(place)}`, { cause })
}

async function isInitialised({ cluster }: EmbeddedPlace): Promise<boolean> {
  return (await stat(join(cluster, 'PG_VERSION')).catch(() => undefined)) !== undefined
}

/** Whole or not there: a cluster half made is thrown away. */
async function initialise(binary: EmbeddedBinary, place: EmbeddedPlace): Promise<void> {
  if (await isInitialised(place)) return
  const half = `${place.cluster}.new`
  await rm(half, { recursive: true, force: true })
  const maker = place.user === null ? null : await namedUser()
  if (maker === undefined)
    throw new PlatformError('config_invalid', 'Run as root, initdb needs a user; /etc/passwd has none.')
  await own(half, maker)
  const locale = ['--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8']
  const args = ['-D', half, '-U', ROLE, '-A', 'trust', ...locale, '--no-instructions']
  const { exited } = await run(binary.initdb, args, binary, place, maker)
  const code = await exited
  if (code !== 0) throw await unavailable(`initdb ended with ${code}.`, place)
  if (place.user !== null) await giveAll(half, place.user)
  await rename(half, place.cluster)
}

type Answer = 'ready' | 'busy' | 'absent'

/** Who listens on the socket: `busy` is a server that starts up or shuts down. */
async function knock(address: ServerAddress, cluster: string): Promise<Answer> {
  const client = new Client({ ...address, database: 'postgres', connectionTimeoutMillis: 5000 })
  client.on('error', () => undefined)
  try {
    await client.connect()
    const { rows } = await client.query<{ data_directory: string }>('show data_directory')
    const found = rows[0]?.data_directory
    if (found === cluster) return 'ready'
    throw new PlatformError('config_invalid', `The socket in ${address.host} belongs to the cluster ${found}.`)
  } catch (cause) {
    if (cause instanceof PlatformError) throw cause
    return cause instanceof Error && 'code' in cause && cause.code === '57P03' ? 'busy' : 'absent'
  } finally {
    await client.end().catch(() => undefined)
  }
}

async function postmasterPid(cluster: string): Promise<number | undefined> {
  const text = await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(() => '')
  const pid = Number(text.split('\n')[0])
  return Number.isSafeInteger(pid) && pid > 0 ? pid : undefined
}

/** Who works in the cluster; undefined where nobody can tell. */
async function pidsOf({ cluster }: EmbeddedPlace): Promise<readonly number[] | undefined> {
  return pidsIn(cluster, (await stat(cluster)).uid)
}

/**
 * Lock files whose pid some other process has now, or a zombie that nobody buries, would stop the server from starting.
 * They are removed only once nobody works in the cluster: they also guard against backends that outlive a server.
 */
async function dropStaleLocks(place: EmbeddedPlace, clock: Clock): Promise<void> {
  const until = clock.now() + START_MS_MAX
  let pids = await pidsOf(place)
  while (pids !== undefined && pids.length > 0 && clock.now() < until) {
    await clock.sleep(POLL_MS)
    pids = await pidsOf(place)
  }
  if (pids?.length !== 0) return
  for (const path of [join(place.cluster, 'postmaster.pid'), join(place.socketDirectory, '.s.PGSQL.5432.lock')])
    await rm(path, { force: true })
}

/** True when a server works in the cluster, ready or not. */
async function isServed(place: EmbeddedPlace): Promise<boolean> {
  const pid = await postmasterPid(place.cluster)
  if (pid === undefined || !(await isAlive(pid))) return false
  const pids = await pidsOf(place)
  return pids === undefined || pids.includes(pid)
}

async function start(binary: EmbeddedBinary, place: EmbeddedPlace, settings: Readonly<Record<string, string>>) {
  const all = {
    listen_addresses: '',
    unix_socket_directories: place.socketDirectory,
    unix_socket_permissions: '0700',
    shared_buffers: '32MB',
    max_connections: '60',
    fsync: 'on',
    log_checkpoints: 'off',
    timezone: 'UTC',
    ...settings,
  }
  const output = join(place.home, 'log')
  const size = (await stat(output).catch(() => undefined))?.size ?? 0
  if (size > LOG_BYTES_MAX) await rename(output, `${output}.old`)
  const flags = Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  return run(binary.postgres, ['-D', place.cluster, ...flags], binary, place, place.user)
}

/** Until it answers, or has died, or time is up. */
async function awaitReady(address: ServerAddress, place: EmbeddedPlace, clock: Clock, died: () => string | undefined) {
  const until = clock.now() + START_MS_MAX
  for (;;) {
    const answer = await knock(address, place.cluster)
    if (answer === 'ready') return
    const death = died()
    if (death !== undefined) throw await unavailable(`The embedded database ended with ${death}.`, place)
    if (clock.now() > until) throw await unavailable(`The embedded database is ${answer} for too long.`, place)
    await clock.sleep(POLL_MS)
  }
}

async function ensureDatabase(address: ServerAddress): Promise<void> {
  const client = new Client({ ...address, database: 'postgres' })
  await client.connect()
  try {
    const { rowCount } = await client.query('select from pg_database where datname = $1', [address.database])
    if (rowCount === 0) await client.query(`create database "${address.database}"`)
  } finally {
    await client.end()
  }
}

async function awaitGone(pid: number, clock: Clock, ms: number): Promise<boolean> {
  const until = clock.now() + ms
  while (await isAlive(pid)) {
    if (clock.now() > until) return false
    await clock.sleep(POLL_MS)
  }
  return true
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && cause.code === 'ESRCH')) throw cause
  }
}

/** SIGINT is Postgres's fast shutdown; SIGQUIT gives up cleanliness, and the next start recovers. */
async function stop(pid: number, clock: Clock, log: Log): Promise<void> {
  signal(pid, 'SIGINT')
  if (await awaitGone(pid, clock, STOP_MS_MAX)) return
  log.warn(`The embedded database (pid ${pid}) does not stop; it will recover at its next start.`)
  signal(pid, 'SIGQUIT')
  await awaitGone(pid, clock, STOP_MS_MAX)
}

/** Adopts the server of this place, or starts it. The caller holds the lock. */
export async function serve(
  binary: EmbeddedBinary,
  place: EmbeddedPlace,
  { clock, log, settings = {} }: EmbeddedOptions,
): Promise<EmbeddedServer> {
  const address: ServerAddress = { host: place.socketDirectory, port: 5432, user: ROLE, database: ROLE }
  await initialise(binary, place)
  let adopted = false
  if ((await knock(address, place.cluster)) === 'ready') adopted = true
  else if (await isServed(place)) {
    // It is on its way up or down: whichever comes first.
    const pid = (await postmasterPid(place.cluster)) ?? 0
    const until = clock.now() + START_MS_MAX
    while (!adopted && (await isServed(place))) {
      adopted = (await knock(address, place.cluster)) === 'ready'
      if (clock.now() > until) throw await unavailable(`Process ${pid} holds the cluster and does not answer.`, place)
      await clock.sleep(POLL_MS)
    }
  }
  if (!adopted) {
    await dropStaleLocks(place, clock)
    const spawned = await start(binary, place, settings)
    let death: string | undefined
    spawned.exited.then(
      (code) => (death = `exit code ${code}`),
      (cause: unknown) => (death = String(cause)),
    )
    await awaitReady(address, place, clock, () => death)
    spawned.release()
  }
  await ensureDatabase(address)
  const pid = await postmasterPid(place.cluster)
  if (pid === undefined) throw await unavailable('The embedded database has no pid.', place)
  log.info(adopted ? 'Adopted the embedded database.' : 'Started the embedded database.', { pid, home: place.home })
  return { address, pid, adopted, close: () => stop(pid, clock, log) }
}

/**
 * What `start` brings up, started again whenever it has ended (ES5), until `close`, which then gives the lock back. Whoever is
 * connected connects anew, to the same address.
 */
async function keep(
  start: () => Promise<EmbeddedServer>,
  place: EmbeddedPlace,
  lock: Pick<DirectoryLock, 'release'>,
  { clock, log }: Pick<EmbeddedOptions, 'clock' | 'log'>,
): Promise<EmbeddedServer> {
  const first = await start()
  let server = first
  const closing = new AbortController()
  const rest = (ms: number) => clock.sleep(ms, closing.signal).catch(() => undefined)
  async function hasEnded(): Promise<void> {
    const began = (await startOf(server.pid)) ?? 'gone'
    while (!closing.signal.aborted && (await isAlive(server.pid, began))) await rest(WATCH_MS)
  }
  async function restart(): Promise<void> {
    log.error(`The embedded database (pid ${server.pid}) has ended; it is started again.`)
    for (let waitMs = WATCH_MS; !closing.signal.aborted; waitMs = Math.min(2 * waitMs, RESTART_MS_MAX)) {
      try {
        // Where somebody has removed it, another would be empty, and seem to have lost everything.
        if (!(await isInitialised(place))) throw await unavailable(`${place.cluster} is gone.`, place)
        server = await start()
        return
      } catch (error) {
        log.error('The embedded database does not start.', { error })
      }
      await rest(waitMs)
    }
  }
  async function watch(): Promise<void> {
    while ((await hasEnded(), !closing.signal.aborted)) await restart()
  }
  const watching = watch()
  return {
    address: first.address,
    adopted: first.adopted,
    get pid() {
      return server.pid
    },
    async close() {
      closing.abort(new Error('the embedded database is closing'))
      await watching
      await server.close()
      await lock.release()
    },
  }
}

/**
 * The embedded server of `directory`; undefined when npm installed no binaries for this platform. Throws
 * `directory_in_use` (ES1), `database_unavailable` with the end of the server's own log, `config_invalid`.
 */
export async function openEmbeddedServer(options: EmbeddedOptions): Promise<EmbeddedServer | undefined> {
  const found = await findEmbeddedPackage()
  if (found === undefined) return undefined
  const lock = await lockDirectory(options.directory)
  try {
    const place = await openPlace(options.directory, options.log)
    const binary = await prepareBinary(found, place)
    return await keep(() => serve(binary, place, options), place, lock, options)
  } catch (cause) {
    await lock.release()
    throw cause
  }
}
