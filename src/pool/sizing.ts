/** How many machines a load needs: from rates and times to counts. Pure, and only arithmetic. */

/**
 * The share of arrivals that find every machine taken: Erlang's formula B, which holds for any distribution of how long
 * jobs take. `load` in machines: arrivals per second by the seconds that each keeps a machine (Little).
 */
export function missShare(load: number, machines: number): number {
  let share = 1
  for (let k = 1; k <= machines; k++) share = (load * share) / (k + load * share)
  return share
}

/**
 * The fewest machines of which at most `miss` of all arrivals find none. Arrivals that come in bursts have a
 * `peakedness` above 1 (the variance of what they would keep busy, by its mean): Hayward's approximation.
 */
export function machinesFor(load: number, miss: number, peakedness = 1): number {
  if (load <= 0) return 0
  const apart = load / peakedness
  let [share, machines] = [1, 0]
  while (share > miss) {
    machines += 1
    share = (apart * share) / (machines + apart * share)
  }
  return Math.ceil(peakedness * machines)
}

/** Of the normal distribution: one wait for a boot costs as much as a machine that is ready for 99 times as long. */
const QUANTILE_99 = 2.326

/** Machines that are to be ready, so that those who come while one is being made ready find one: 99 times of 100. */
export function readyFor(arrivals: {
  readonly perSecond: number
  /** How long it takes to make one ready, in ms. */
  readonly leadMs: number
  /** Variance by mean of the arrivals in a short time: 1 for independent ones. */
  readonly dispersion: number
  /** Come at once, on top. */
  readonly burst: number
}): number {
  const expected = (arrivals.perSecond * arrivals.leadMs) / 1000
  return Math.ceil(expected + QUANTILE_99 * Math.sqrt(arrivals.dispersion * expected)) + arrivals.burst
}

/** The share of machines that are to be at work in a rush, by Knative's rule. */
export const USED_SHARE = 0.7

export interface Wanted {
  /** Busy and queued, on the average of about a minute, and of about six seconds. */
  readonly stable: number
  readonly sudden: number
}

/** The machines that a rush asks for, whatever the rates say; 0 while what came suddenly is less than twice what there is. */
export function machinesForRush({ stable, sudden }: Wanted, has: number): number {
  const [usual, rush] = [Math.ceil(stable / USED_SHARE), Math.ceil(sudden / USED_SHARE)]
  return rush > 0 && rush >= 2 * has ? Math.max(usual, rush) : 0
}

/** What is known of the arrivals, per second; see `demand.ts`. */
export interface Arrivals {
  readonly fast: number
  readonly slow: number
  readonly dispersion: number
  /** What is expected of this time of the week; 0 while nothing is known. */
  readonly forecast: number
}

/** What is ready is cheap and soon made: it follows whichever rate is highest. */
export function rateForReady({ fast, slow, forecast }: Arrivals): number {
  return Math.max(fast, slow, forecast)
}

/** Machines are dear and are kept for long: they follow what has lasted, or what is expected of the hour. */
export function rateForMachines({ slow, forecast }: Arrivals): number {
  return Math.max(slow, forecast)
}

/** More is not built for bursts: it doubles the machines for no gain. */
export const PEAKEDNESS_MAX = 3
