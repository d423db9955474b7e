/** A claim of a machine that goes in the statement which writes its owner's lease: more of its WITH, and what it answers. */
import type { Rider } from '../job/job-log.ts'

/** The columns of the machine that was claimed, or nulls. */
export interface RiderRow {
  readonly id: string | null
}

export interface ClaimNotes {
  /** With the row, where a machine was claimed. */
  readonly took: (row: RiderRow) => void
  readonly doubted: () => void
  readonly left: () => void
}

export class ClaimRider implements Rider {
  readonly #text: (first: number) => string
  readonly #notes: ClaimNotes
  readonly values: readonly unknown[]

  /** `text` is given the number of its first value, and names `leased`, which has a row where the lease is given. */
  constructor(text: (first: number) => string, values: readonly unknown[], notes: ClaimNotes) {
    this.#text = text
    this.values = values
    this.#notes = notes
  }

  /** What stands in the WITH, the last of it called `machine`. */
  text(first: number): string {
    return this.#text(first)
  }

  /** What the statement answered. */
  take(row: RiderRow): void {
    if (row.id !== null) this.#notes.took(row)
  }

  /** Nobody knows what the statement did. */
  doubt(): void {
    this.#notes.doubted()
  }

  leave(): void {
    this.#notes.left()
  }
}
