/** What goes in the commit of a lease, in memory: done in the same turn as the lease is written. */
import type { Rider } from '../../src/job/job-log.ts'

export class MemoryRider implements Rider {
  readonly #ride: () => void
  readonly #left: () => void
  readonly #doubted: () => void

  constructor(ride: () => void, doubted: () => void, left: () => void) {
    this.#ride = ride
    this.#doubted = doubted
    this.#left = left
  }

  ride(): void {
    this.#ride()
  }

  doubt(): void {
    this.#doubted()
  }

  leave(): void {
    this.#left()
  }
}

/** `rider` as a store in memory knows it; what another made is a mistake. */
export function rideWith(rider: Rider | undefined): void {
  if (rider === undefined) return
  if (!(rider instanceof MemoryRider)) throw new TypeError('a claim of another store cannot go in a commit of this one')
  rider.ride()
}
