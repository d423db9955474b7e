/** When an expert's conversation is compacted and what stays as it was: part of the expert file and of the lock. */
import * as z from 'zod'

/** What is left out is as in `COMPACTION`. */
export interface CompactionRule {
  /** The share of its model's window at which the conversation is compacted. */
  readonly at?: number
  /** How many of the last steps stay as they are; a model that refused the messages as too many is left one. */
  readonly keepSteps?: number
}

/** What is left of the window is for the answer, and for the results of the calls in it. */
export const COMPACTION: Required<CompactionRule> = { at: 0.8, keepSteps: 1 }

/** Later than this an answer would hardly fit any more; sooner, each step or two would be compacted. */
const AT = { min: 0.1, max: 0.95 }
const KEEP_STEPS_MAX = 50

export const compactionSchema = z
  .strictObject({
    at: z.number().min(AT.min).max(AT.max).optional(),
    keepSteps: z.number().int().min(1).max(KEEP_STEPS_MAX).optional(),
  })
  .refine(({ at, keepSteps }) => at !== undefined || keepSteps !== undefined, {
    error: 'says nothing; give at or keepSteps, or remove it',
  })

/** Without the keys that are not there. */
export function printCompaction({ at, keepSteps }: z.infer<typeof compactionSchema>): CompactionRule {
  return { ...(at === undefined ? {} : { at }), ...(keepSteps === undefined ? {} : { keepSteps }) }
}
