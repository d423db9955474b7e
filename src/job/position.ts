/** Positions in a log, as clients write them. */
import { PlatformError } from '../../schema/error.ts'

/** The seq in an `after`; 0 for none. Throws `input_invalid`. */
export function parseSeq(after: string | null | undefined): number {
  if (after === null || after === undefined) return 0
  if (!/^\d{1,10}$/.test(after))
    throw new PlatformError('input_invalid', 'after: a position is a whole number, as a checkpoint says it in seq.')
  return Number(after)
}

/** The position in a `Last-Event-ID` header; 0 for none and for junk, which a browser may send by itself. */
export function parseLastEventId(header: string | null | undefined): number {
  return header !== null && header !== undefined && /^\d{1,10}$/.test(header) ? Number(header) : 0
}
