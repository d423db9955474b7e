/**
 * Who waits for which job, and what wakes them: appends of this process at once, appends of others by NOTIFY, and a
 * slow poll as a net. A wake-up says "look again"; one of this process brings along what it appended, which saves the
 * look. A lost or doubled one harms nobody.
 *
 * WU1 NOTIFY is sent after the commit, on a connection of its own: within the writing transaction it would make commits
 *    wait for one another. It never fails an append.
 * WU2 With every new connection everybody is woken, since nobody knows what was missed without one.
 * WU3 However often a job is appended to, it is announced to other processes once in a while at most: what they may see
 *    late by, and less than that while there are none (`announcements.ts`).
 */
import { Client, type ClientConfig } from 'pg'
import type { Clock } from '../../schema/clock.ts'
import type { JobEvent } from '../../schema/event.ts'
import type { JobId } from '../../schema/id.ts'
import type { Log } from '../log.ts'
import { Announcements } from './announcements.ts'
import type { Sql } from './sql.ts'

export interface WakeUps {
  /** To be called after the commit of an append, with its events. */
  announce(jobId: JobId, appended: readonly JobEvent[], isClaimable: boolean): void
  onAppend(jobId: JobId, wake: Wake): () => void
  onClaimable(wake: () => void): () => void
  close(): Promise<void>
}

const CHANNEL = 'senmon_appended'
const POLL_MS = 2000
const RECONNECT_MS = 250
/** How long what is due at the end may take to be said. */
const LAST_WORD_MS = 1000
/** NOTIFY takes less than 8000 bytes; an id has 30. */
const IDS_PER_NOTIFY = 200
/** In a payload: some job became claimable. */
const CLAIMABLE = '!'

type Wake = (appended?: readonly JobEvent[]) => void

class Hub {
  readonly #byJob = new Map<string, Set<Wake>>()
  readonly #claimers = new Set<() => void>()

  add(jobId: JobId, wake: Wake): () => void {
    const waiting = this.#byJob.get(jobId) ?? new Set()
    // One function may wait twice; each call of the returned one ends one wait.
    const own: Wake = (appended) => wake(appended)
    this.#byJob.set(jobId, waiting.add(own))
    return () => {
      waiting.delete(own)
      if (waiting.size === 0 && this.#byJob.get(jobId) === waiting) this.#byJob.delete(jobId)
    }
  }

  addClaimer(wake: () => void): () => void {
    const own = () => wake()
    this.#claimers.add(own)
    return () => void this.#claimers.delete(own)
  }

  wake(jobId: string, appended?: readonly JobEvent[]): void {
    for (const wake of this.#byJob.get(jobId) ?? []) wake(appended)
  }

  wakeClaimers(): void {
    for (const wake of this.#claimers) wake()
  }

  wakeAll(): void {
    for (const jobId of this.#byJob.keys()) this.wake(jobId)
    this.wakeClaimers()
  }

  jobs(): readonly string[] {
    return [...this.#byJob.keys()]
  }
}

/** The connection that listens and notifies. What it is told while disconnected waits for the next connection. */
class Notifier {
  readonly #hub: Hub
  readonly #config: ClientConfig
  readonly #log: Log
  readonly #clock: Clock
  readonly #signal: AbortSignal
  readonly #announcements: Announcements
  /** Said once of an outage, however long that is. */
  #isLost = false

  constructor(hub: Hub, config: ClientConfig, clock: Clock, log: Log, signal: AbortSignal) {
    this.#hub = hub
    this.#config = config
    this.#clock = clock
    this.#log = log
    this.#signal = signal
    this.#announcements = new Announcements(clock)
  }

  notify(item: string, isUrgent: boolean): void {
    this.#announcements.add(item, isUrgent)
  }

  /** Keeps a connection until the signal aborts. */
  async keep(): Promise<void> {
    const signal = this.#signal
    while (!signal.aborted) {
      try {
        await this.#connection(signal)
      } catch (cause) {
        if (!signal.aborted && !this.#isLost) this.#log.warn('The connection that brings wake-ups was lost.', { cause })
        this.#isLost = true
      }
      await pause(this.#clock, RECONNECT_MS, signal)
    }
  }

  /** One connection, until it is lost. */
  async #connection(signal: AbortSignal): Promise<void> {
    const client = new Client(this.#config)
    const over = new AbortController()
    const lost = new Promise<never>((_, reject) => {
      client.on('error', reject)
      client.on('end', () => reject(new Error('The connection ended.')))
      // A database that answers no more does not keep a process that closes.
      const giveUp = (): void =>
        void this.#clock.sleep(LAST_WORD_MS, over.signal).then(
          () => reject(signal.reason),
          () => {},
        )
      signal.addEventListener('abort', giveUp, { signal: over.signal })
    })
    lost.catch(() => undefined)
    try {
      await client.connect()
      let ownPid = 0
      client.on('notification', ({ payload = '', processId }) => {
        if (processId === ownPid) return
        this.#announcements.heard()
        this.#hear(payload)
      })
      const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
      ownPid = rows[0]?.pid ?? 0
      // A NOTIFY is a commit; what it says is in the log already, so its own record need not be on disk.
      await client.query('set synchronous_commit = off')
      await client.query(`listen ${CHANNEL}`)
      if (this.#isLost) this.#log.info('The connection that brings wake-ups is back.')
      this.#isLost = false
      this.#hub.wakeAll()
      // What could not be said stays due; the poll of the other processes is the net until then.
      const enough = AbortSignal.any([signal, over.signal])
      await Promise.race([lost, this.#announcements.keep((items) => say(client, items), enough)])
    } finally {
      over.abort(new Error('The connection is over.'))
      await client.end().catch(() => undefined)
    }
  }

  #hear(payload: string): void {
    for (const item of payload.split(',')) {
      if (item === CLAIMABLE) this.#hub.wakeClaimers()
      else this.#hub.wake(item)
    }
  }
}

/** One statement and one transaction, however many items there are; without any, others hear that this process is there. */
async function say(client: Client, items: readonly string[]): Promise<void> {
  const payloads = [items.slice(0, IDS_PER_NOTIFY).join(',')]
  for (let at = IDS_PER_NOTIFY; at < items.length; at += IDS_PER_NOTIFY)
    payloads.push(items.slice(at, at + IDS_PER_NOTIFY).join(','))
  await client.query('select pg_notify($1, payload) from unnest($2::text[]) as payload', [CHANNEL, payloads])
}

async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  try {
    await clock.sleep(ms, signal)
  } catch (cause) {
    if (!signal.aborted) throw cause
  }
}

/** Wakes those whose job's log has grown since the last look; one statement, however many they are. */
async function poll(hub: Hub, sql: Sql, clock: Clock, log: Log, signal: AbortSignal): Promise<void> {
  let seen = new Map<string, number>()
  for (;;) {
    await pause(clock, POLL_MS, signal)
    if (signal.aborted) return
    hub.wakeClaimers()
    const ids = hub.jobs()
    if (ids.length === 0) continue
    try {
      const rows = await sql.query<{ id: string; revision: number }>(
        'select id, revision from jobs where id = any($1::text[])',
        [ids],
      )
      for (const { id, revision } of rows) if (seen.get(id) !== revision) hub.wake(id)
      seen = new Map(rows.map(({ id, revision }) => [id, revision]))
    } catch (cause) {
      log.warn('The log could not be polled.', { cause })
    }
  }
}

/** `config` connects to the database that others use as well; null when this process is alone (PGlite). */
export function openWakeUps(config: ClientConfig | null, sql: Sql, clock: Clock, log: Log): WakeUps {
  const hub = new Hub()
  const closing = new AbortController()
  const notifier = config === null ? undefined : new Notifier(hub, config, clock, log, closing.signal)
  const loops = [poll(hub, sql, clock, log, closing.signal)]
  if (notifier !== undefined) loops.push(notifier.keep())
  return {
    announce(jobId, appended, isClaimable) {
      hub.wake(jobId, appended)
      if (isClaimable) hub.wakeClaimers()
      notifier?.notify(jobId, false)
      if (isClaimable) notifier?.notify(CLAIMABLE, true)
    },
    onAppend: (jobId, wake) => hub.add(jobId, wake),
    onClaimable: (wake) => hub.addClaimer(wake),
    async close() {
      closing.abort(new Error('The wake-ups are closed.'))
      await Promise.all(loops)
    },
  }
}
