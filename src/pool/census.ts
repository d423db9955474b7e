/**
 * What a provider has, against what the rows say. Pure.
 *
 * CE1 A machine that no row knows is ended once it has been there for a while: an order may be on its way to its row.
 * CE2 A row whose machine was not listed is looked at again before anything follows: lists lag, and leave out.
 */
import type { Observation } from './machine-provider.ts'
import type { PooledMachine } from './machine.ts'

export interface Census {
  /** To be ended. */
  readonly strays: readonly Observation[]
  /** To be looked at. */
  readonly missing: readonly PooledMachine[]
  /** Machines that no row knows, by the provider's name for them, and since when: for the next census. */
  readonly unknown: ReadonlyMap<string, number>
}

/** How long a machine that nobody knows may be there, in ms. */
export const STRAY_MS = 600_000
/** A row that is younger may not be in lists yet. */
const LAG_MS = 15_000

/** `rows` are all of the place that are not gone. */
export function census(
  observed: readonly Observation[],
  rows: readonly PooledMachine[],
  unknownBefore: ReadonlyMap<string, number>,
  now: number,
): Census {
  const [ids, names] = [new Set<string>(rows.map(({ id }) => id)), new Set(rows.map(({ providerId }) => providerId))]
  const isEnding = ({ state }: Observation): boolean => state === 'gone' || state === 'destroying'
  const strangers = observed.filter(
    (one) => !isEnding(one) && !names.has(one.providerId) && (one.machineId === null || !ids.has(one.machineId)),
  )
  const unknown = new Map(strangers.map(({ providerId }) => [providerId, unknownBefore.get(providerId) ?? now]))
  // By our own clock, from when it was first seen: what a provider says of its age is not relied on.
  const strays = strangers.filter(({ providerId }) => now - (unknown.get(providerId) ?? now) >= STRAY_MS)
  const listed = new Set(observed.filter((one) => one.state !== 'gone').map(({ providerId }) => providerId))
  const missing = rows.filter(
    ({ providerId, state, since }) =>
      providerId !== null && !listed.has(providerId) && state !== 'retiring' && now - since >= LAG_MS,
  )
  return { strays, missing, unknown }
}
