/**
 * The rows of machines on Postgres. Every verb is one statement, hence one commit; constraints of the table keep who
 * owns what and which machine is clean, whatever is asked (see the migration). A claim skips rows that others claim.
 */
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import type { JobId, MachineId } from '../../schema/id.ts'
import { CLAIMABLE, type MachineState, type PooledMachine, type Verb } from '../pool/machine.ts'
import {
  OWN_ERRAND_MS,
  type Claimed,
  type ClaimRequest,
  type Errand,
  type Leadership,
  type MachineChange,
  type PoolStore,
} from '../pool/pool-store.ts'
import { ClaimRider } from './claim-rider.ts'
import { brokenConstraint, retrying, type Sql } from './sql.ts'

const COLUMNS = `id, pool, place, generation, state, version, provider_id, boot_id, boots, tainted, job_id, fence,
  lines_url, since::float8 as since, deadline::float8 as deadline, idle_since::float8 as idle_since, uses, fault,
  verb, not_before::float8 as not_before, tries,
  held_at::float8 as held_at`
const VALUES = `$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, 0, $21`

const LED = (pool: number, epoch: number) =>
  `exists (select from pool_leads where pool = $${pool}::text and epoch = $${epoch}::int)`

const ADD = (led: string) => `
  insert into machines (id, pool, place, generation, state, version, provider_id, boot_id, boots, tainted, job_id, fence,
    lines_url, since, deadline, idle_since, uses, fault, verb, not_before, tries, held_at)
  select ${VALUES} where ${led} returning id`
const CHANGE = (led: string) => `
  update machines set pool = $2, place = $3, generation = $4, state = $5, version = $6, provider_id = $7, boot_id = $8,
    boots = $9, tainted = $10, job_id = $11, fence = $12, lines_url = $13, since = $14, deadline = $15, idle_since = $16,
    uses = $17, fault = $18, verb = $19, not_before = $20, tries = 0,
    held_at = $21
  where id = $1 and version = $6::int - 1 and ${led} returning id`
/** Each with a lead and without: one text for both would be planned anew each time. */
const [ADD_LED, ADD_FREE] = [ADD(LED(22, 23)), ADD('true')]
const [CHANGE_LED, CHANGE_FREE] = [CHANGE(LED(22, 23)), CHANGE('true')]

/** How a value is named whose number is n of those that a claim has. */
type Numbered = (n: number) => string

/**
 * The best machine of one state, by the index that is sorted so. Whatever a pool holds, a claim looks at a few rows: each
 * state only where the ones before it had none.
 */
const BEST_OF = (state: MachineState, p: Numbered) => `
      select * from (
        select id, state as found, (${p(9)}::boolean and state in ('hot', 'ready') and boot_id is not null) as held
        from machines
        where pool = ${p(1)}::text and place = any(${p(2)}::text[]) and generation = newest.generation and state = '${state}'
          and boots > tainted
        order by idle_since desc nulls last, id limit 1 for update skip locked
      ) as of_${state}`
const BEST = (p: Numbered, condition = '') => `
    select of_all.* from unnest(${p(3)}::text[]) as newest (generation) cross join lateral (
      ${CLAIMABLE.map((state) => BEST_OF(state, p)).join(`
      union all`)}
      limit 1
    ) as of_all ${condition} limit 1`
const TAKE = (p: Numbered) => `
  update machines set job_id = ${p(4)}::text, fence = ${p(5)}::int, lines_url = ${p(6)}::text, version = version + 1,
    since = ${p(7)}::bigint, tries = 0,
    state = case when held then 'busy' else 'waking' end,
    deadline = case when held then null else ${p(8)}::bigint end,
    tainted = case when held then boots else tainted end,
    uses = case when held then uses + 1 else uses end,
    held_at = case when held then ${p(7)}::bigint else held_at end,
    fault = case when held then null else fault end,
    verb = case when held then null else (array['create', 'start', 'start', 'start'])[array_position(array['creating', 'ready', 'suspending', 'reserve'], found)] end,
    not_before = ${p(7)}::bigint + ${OWN_ERRAND_MS}
  from best where machines.id = best.id
  returning best.found, machines.*`
const own: Numbered = (n) => `$${n}`
const CLAIM = `
  with best as (${BEST(own)}
  )${TAKE(own)}`
/** Only with the lease, and where no earlier attempt of the job still has a machine: it would break the whole statement. */
const riderFrom = (first: number): string => {
  const p: Numbered = (n) => `$${first + n - 1}`
  const isFree = `not exists (select from machines where job_id = ${p(4)}::text and state in ('waking', 'busy'))`
  return `best as (${BEST(p, `where exists (select from leased) and ${isFree}`)}
  ), machine as (${TAKE(p)}
  )`
}
const OWNED = `select ${COLUMNS} from machines where job_id = $1 and fence = $2`
const HOLD = `
  update machines set state = 'busy', version = case when state = 'busy' then version else version + 1 end,
    since = case when state = 'busy' then since else $5::bigint end, boot_id = $4, deadline = null, tainted = boots,
    held_at = case when state = 'busy' then held_at else $5::bigint end,
    uses = case when state = 'busy' then uses else uses + 1 end, fault = null, verb = null, tries = 0
  where id = $1 and job_id = $2 and fence = $3 and (state = 'waking' or (state = 'busy' and boot_id = $4))
  returning ${COLUMNS}`
const STARTED = `select count(*)::int as started from machines where pool = $1 and held_at > $2`
const FIND = `select ${COLUMNS} from machines where id = $1`
const LIST = `select ${COLUMNS} from machines where pool = $1 and state <> 'gone' order by id`
const ERRANDS = `
  select id, verb, version, not_before::float8 as not_before, tries from machines
  where pool = $1 and place = any($2::text[]) and verb is not null and not_before <= $3
  order by not_before limit $4`
const POSTPONE = `
  update machines set not_before = $4, tries = $5 where id = $1 and version = $2 and verb = $3 returning id`
const SWEEP = `delete from machines where pool = $1 and state = 'gone' and since < $2 returning id`
const LEAD = `
  insert into pool_leads (pool, holder, epoch, until) values ($1, $2, 1, $4)
  on conflict (pool) do update set
    epoch = pool_leads.epoch + (case when pool_leads.holder = $2 and pool_leads.until > $3 then 0 else 1 end),
    holder = $2, until = $4
  where pool_leads.holder = $2 or pool_leads.until <= $3
  returning epoch`

const EXPECTATION = `select kept from pool_expectations where pool = $1`
const KEEP_EXPECTATION = `
  insert into pool_expectations (pool, kept) select $1, $2::json where ${LED(3, 4)}
  on conflict (pool) do update set kept = excluded.kept returning pool`

interface MachineRow {
  readonly id: MachineId
  readonly pool: string
  readonly place: string
  readonly generation: string
  readonly state: MachineState
  readonly version: number
  readonly provider_id: string | null
  readonly boot_id: string | null
  readonly boots: number
  readonly tainted: number
  readonly job_id: JobId | null
  readonly fence: number | null
  readonly lines_url: string | null
  readonly since: number | string
  readonly deadline: number | string | null
  readonly idle_since: number | string | null
  readonly uses: number
  readonly fault: string | null
  readonly verb: Verb | null
  readonly not_before: number | string | null
  readonly tries: number
  readonly held_at: number | string | null
}

function machineOf(row: MachineRow): PooledMachine {
  const { id, pool, place, generation, state, version, boots, tainted, uses, fault, job_id: jobId, fence } = row
  const moment = (value: number | string | null): number | null => (value === null ? null : Number(value))
  return {
    id,
    pool,
    place,
    generation,
    state,
    version,
    providerId: row.provider_id,
    bootId: row.boot_id,
    boots,
    tainted,
    owner: jobId === null || fence === null ? null : { jobId, fence, linesUrl: row.lines_url },
    since: Number(row.since),
    deadline: moment(row.deadline),
    idleSince: moment(row.idle_since),
    uses,
    heldAt: moment(row.held_at),
    fault,
  }
}

function valuesOf({ next, verb }: MachineChange): readonly unknown[] {
  const { id, pool, place, generation, state, version, providerId, bootId, boots, tainted, owner } = next
  const { since, deadline, idleSince, uses, fault } = next
  const notBefore = since + (state === 'waking' ? OWN_ERRAND_MS : 0)
  const first = [id, pool, place, generation, state, version, providerId, bootId, boots, tainted]
  const owned = [owner?.jobId ?? null, owner?.fence ?? null, owner?.linesUrl ?? null]
  return [
    ...first,
    ...owned,
    since,
    deadline,
    idleSince,
    uses,
    fault?.replaceAll('\0', '\uFFFD') ?? null,
    verb,
    notBefore,
    next.heldAt,
  ]
}

function owned(cause: unknown, jobId: string): unknown {
  const constraint = brokenConstraint(cause)
  if (constraint !== 'machines_one_owner' && constraint !== 'machines_one_active') return cause
  return new PlatformError('fence_stale', `Job ${jobId} has another machine.`, { cause })
}

const valuesOfClaim = ({
  pool,
  places,
  generations,
  owner,
  now,
  deadline,
  holds,
}: ClaimRequest): readonly unknown[] => {
  const { jobId, fence, linesUrl } = owner
  return [pool, places, generations, jobId, fence, linesUrl, now, deadline, holds]
}

function claimedOf(row: MachineRow & { readonly found: MachineState }): Claimed {
  const verb = row.verb ?? (row.found === 'ready' ? 'start' : null)
  return { machine: machineOf(row), from: row.found, verb }
}

export function postgresPoolStore({ sql }: { readonly sql: Sql }, clock: Clock): PoolStore {
  const rows = async <Row>(text: string, values: readonly unknown[]) =>
    retrying(clock, () => sql.query<Row>(text, values))
  const ledBy = (lead: Leadership | null) => (lead === null ? [] : [lead.pool, lead.epoch])

  return {
    async add(machines, lead) {
      for (const machine of machines) {
        const values = [...valuesOf({ next: machine, verb: 'create' }), ...ledBy(lead)]
        const added = await retrying(clock, async (attempt) => {
          try {
            return (await sql.query(lead === null ? ADD_FREE : ADD_LED, values)).length > 0
          } catch (cause) {
            // Only an attempt of ours whose answer was lost can have used this id.
            if (attempt > 0 && brokenConstraint(cause) === 'machines_pkey') return true
            throw owned(cause, machine.owner?.jobId ?? '')
          }
        })
        if (!added) return false
      }
      return true
    },
    rider: (request, news) =>
      new ClaimRider(riderFrom, valuesOfClaim(request), {
        // The columns are those of CLAIM.
        took: (row) => news.claimed(claimedOf(row as unknown as MachineRow & { readonly found: MachineState })),
        doubted: () => news.doubted(),
        left: () => news.left(),
      }),
    async claim(request) {
      const { jobId, fence } = request.owner
      const values = valuesOfClaim(request)
      return await retrying(clock, async (attempt): Promise<Claimed | undefined> => {
        if (attempt > 0 || request.isAgain === true) {
          const [row] = await sql.query<MachineRow>(OWNED, [jobId, fence])
          // Its answer was lost: how it was found is known no more, and starting it twice does no harm.
          if (row !== undefined) return { machine: machineOf(row), from: 'ready', verb: row.verb ?? 'start' }
        }
        try {
          const [row] = await sql.query<MachineRow & { readonly found: MachineState }>(CLAIM, values)
          return row === undefined ? undefined : claimedOf(row)
        } catch (cause) {
          throw owned(cause, jobId)
        }
      })
    },
    async hold(id, { jobId, fence }, bootId, now) {
      const [row] = await rows<MachineRow>(HOLD, [id, jobId, fence, bootId, now])
      return row === undefined ? undefined : machineOf(row)
    },
    async change(changes, lead) {
      const results: boolean[] = []
      for (const change of changes) {
        const values = [...valuesOf(change), ...ledBy(lead)]
        const changed = await retrying(clock, async (attempt) => {
          try {
            if ((await sql.query(lead === null ? CHANGE_FREE : CHANGE_LED, values)).length > 0) return true
          } catch (cause) {
            throw owned(cause, change.next.owner?.jobId ?? '')
          }
          if (attempt === 0) return false
          const [row] = await sql.query<MachineRow>(FIND, [change.next.id])
          return row !== undefined && JSON.stringify(machineOf(row)) === JSON.stringify(change.next)
        })
        results.push(changed)
      }
      return results
    },
    async find(id) {
      const [row] = await rows<MachineRow>(FIND, [id])
      return row === undefined ? undefined : machineOf(row)
    },
    list: async (pool) => (await rows<MachineRow>(LIST, [pool])).map(machineOf),
    async started(pool, since) {
      const [row] = await rows<{ readonly started: number }>(STARTED, [pool, since])
      return row?.started ?? 0
    },
    async errands(pool, places, now, limit) {
      type Due = Pick<MachineRow, 'id' | 'version' | 'tries'> & { readonly verb: Verb; readonly not_before: number }
      const due = await rows<Due>(ERRANDS, [pool, places, now, limit])
      return due.map(({ id, verb, version, not_before: notBefore, tries }) => ({
        machineId: id,
        verb,
        version,
        notBefore,
        tries,
      }))
    },
    async postpone({ machineId, version, verb, tries }: Errand, notBefore) {
      return (await rows(POSTPONE, [machineId, version, verb, notBefore, tries + 1])).length > 0
    },
    sweep: async (pool, before) => (await rows(SWEEP, [pool, before])).length,
    async lead(pool, holder, now, until) {
      const [row] = await rows<{ readonly epoch: number }>(LEAD, [pool, holder, now, until])
      return row === undefined ? undefined : { pool, epoch: row.epoch }
    },
    async expectation(pool) {
      const [row] = await rows<{ readonly kept: unknown }>(EXPECTATION, [pool])
      return row?.kept
    },
    async keepExpectation(pool, kept, lead) {
      return (await rows(KEEP_EXPECTATION, [pool, JSON.stringify(kept), ...ledBy(lead)])).length > 0
    },
  }
}
