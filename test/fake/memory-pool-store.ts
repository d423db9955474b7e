/** The rows of a pool in memory: what the contract asks, and nothing that lasts. */
import { PlatformError } from '../../schema/error.ts'
import type { MachineId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import { MemoryRider } from './memory-rider.ts'
import { CLAIMABLE, isClean, isOwnedBy, stepMachine, type PooledMachine, type Verb } from '../../src/pool/machine.ts'
import {
  OWN_ERRAND_MS,
  type Claimed,
  type ClaimRequest,
  type Errand,
  type Leadership,
  type MachineChange,
  type PoolStore,
} from '../../src/pool/pool-store.ts'

interface Row {
  readonly machine: PooledMachine
  readonly verb: Verb | null
  readonly notBefore: number
  readonly tries: number
}

interface Lead {
  readonly holder: string
  readonly epoch: number
  readonly until: number
}

export function memoryPoolStore(): PoolStore {
  const rows = new Map<MachineId, Row>()
  const leads = new Map<string, Lead>()
  const expectations = new Map<string, Json>()

  const leadsStill = (lead: Leadership | null): boolean => lead === null || leads.get(lead.pool)?.epoch === lead.epoch
  const put = ({ next, verb }: MachineChange): void => {
    const { owner } = next
    if (owner !== null) {
      const held = [...rows.values()].some(
        ({ machine }) => machine.id !== next.id && machine.owner !== null && machine.owner.jobId === owner.jobId,
      )
      if (held) throw new PlatformError('fence_stale', `Job ${owner.jobId} has another machine.`)
    }
    const notBefore = next.since + (next.state === 'waking' ? OWN_ERRAND_MS : 0)
    rows.set(next.id, { machine: next, verb, notBefore, tries: 0 })
  }

  function claim(request: ClaimRequest): Claimed | undefined {
    const found = best([...rows.values()], request)
    if (found === undefined) return undefined
    const claimed = claimOf(found, request)
    if (claimed === undefined) return undefined
    put(claimed.change)
    return claimed.claimed
  }

  return {
    async add(machines, lead) {
      if (!leadsStill(lead)) return false
      for (const machine of machines) put({ next: machine, verb: 'create' })
      return true
    },
    async claim(request) {
      const own = [...rows.values()].find(({ machine }) => isOwnedBy(machine, request.owner))
      if (request.isAgain === true && own !== undefined)
        return { machine: own.machine, from: 'ready', verb: own.verb ?? 'start' }
      return claim(request)
    },
    rider: (request, news) =>
      new MemoryRider(
        () => {
          const { jobId } = request.owner
          if ([...rows.values()].some(({ machine }) => machine.owner?.jobId === jobId)) return
          const claimed = claim(request)
          if (claimed !== undefined) news.claimed(claimed)
        },
        () => news.doubted(),
        () => news.left(),
      ),
    async hold(id, owner, bootId, now) {
      const machine = rows.get(id)?.machine
      if (machine === undefined) return undefined
      if (machine.state === 'busy' && machine.bootId === bootId && isOwnedBy(machine, owner)) return machine
      const step = stepMachine(machine, { type: 'hold', now, owner, bootId })
      if (step === undefined) return undefined
      put(step)
      return step.next
    },
    async change(changes, lead) {
      return changes.map((change) => {
        const known = rows.get(change.next.id)
        if (known === undefined || known.machine.version !== change.next.version - 1 || !leadsStill(lead)) return false
        put(change)
        return true
      })
    },
    async find(id) {
      return rows.get(id)?.machine
    },
    async list(pool) {
      return [...rows.values()].flatMap(({ machine }) =>
        machine.pool === pool && machine.state !== 'gone' ? [machine] : [],
      )
    },
    async started(pool, since) {
      return [...rows.values()].filter(({ machine }) => machine.pool === pool && (machine.heldAt ?? 0) > since).length
    },
    async errands(pool, places, now, limit) {
      return [...rows.values()]
        .filter(({ machine, verb, notBefore }) => {
          const isHere = machine.pool === pool && places.includes(machine.place)
          return isHere && verb !== null && notBefore <= now
        })
        .toSorted((a, b) => a.notBefore - b.notBefore)
        .slice(0, limit)
        .flatMap(({ machine: { id, version }, verb, notBefore, tries }) =>
          verb === null ? [] : [{ machineId: id, verb, version, notBefore, tries }],
        )
    },
    async postpone(errand: Errand, notBefore: number) {
      const row = rows.get(errand.machineId)
      if (row === undefined || row.machine.version !== errand.version || row.verb !== errand.verb) return false
      rows.set(errand.machineId, { ...row, notBefore, tries: errand.tries + 1 })
      return true
    },
    async sweep(pool, before) {
      const old = [...rows.values()].filter(
        ({ machine }) => machine.pool === pool && machine.state === 'gone' && machine.since < before,
      )
      for (const { machine } of old) rows.delete(machine.id)
      return old.length
    },
    async lead(pool, holder, now, until) {
      const known = leads.get(pool)
      if (known !== undefined && known.holder !== holder && known.until > now) return undefined
      const epoch =
        known === undefined ? 1 : known.holder === holder && known.until > now ? known.epoch : known.epoch + 1
      leads.set(pool, { holder, epoch, until })
      return { pool, epoch }
    },
    async expectation(pool) {
      return expectations.get(pool)
    },
    async keepExpectation(pool, kept, lead) {
      if (!leadsStill(lead)) return false
      expectations.set(pool, kept)
      return true
    },
  }
}

function best(rows: readonly Row[], { pool, places, generations }: ClaimRequest): PooledMachine | undefined {
  const rank = ({ generation, state, idleSince, id }: PooledMachine) =>
    [generations.indexOf(generation), CLAIMABLE.indexOf(state), -(idleSince ?? 0), id] as const
  return rows
    .map(({ machine }) => machine)
    .filter(
      (one) =>
        one.pool === pool &&
        places.includes(one.place) &&
        generations.includes(one.generation) &&
        CLAIMABLE.includes(one.state) &&
        isClean(one),
    )
    .toSorted((a, b) => {
      const [one, other] = [rank(a), rank(b)]
      const at = one.findIndex((value, i) => value !== other[i])
      const [x, y] = [one[at], other[at]]
      return x === undefined || y === undefined ? 0 : x < y ? -1 : 1
    })[0]
}

function claimOf(
  machine: PooledMachine,
  { owner, now, deadline, holds }: ClaimRequest,
): { readonly change: MachineChange; readonly claimed: Claimed } | undefined {
  const from = machine.state
  const step = stepMachine(machine, { type: 'claim', now, owner, deadline })
  if (step === undefined) return undefined
  const { bootId } = machine
  const held =
    holds && bootId !== null && (from === 'hot' || from === 'ready')
      ? stepMachine(step.next, { type: 'hold', now, owner, bootId })
      : undefined
  if (held === undefined) return { change: step, claimed: { machine: step.next, from, verb: step.verb } }
  const next = { ...held.next, version: machine.version + 1 }
  return { change: { next, verb: null }, claimed: { machine: next, from, verb: step.verb } }
}
