/** What a tool says of its progress → a notice for whoever watches: one line, and not too many of them. */
import type { Clock } from '../../schema/clock.ts'
import { PROGRESS_CHARS_MAX } from '../../schema/control.ts'

export interface Progress {
  readonly progress: number
  readonly total?: number | undefined
  readonly message?: string | undefined
}

/** Between two notices of one call; what is said in between is not told. */
export const NOTICE_MS = 250

/** Tells of progress by `say`, at most once in NOTICE_MS. */
export function noticesOf(clock: Clock, say: (text: string) => void): (progress: Progress) => void {
  let saidAt = -Infinity
  return (progress) => {
    const now = clock.now()
    if (now - saidAt < NOTICE_MS) return
    saidAt = now
    say(noticeOf(progress))
  }
}

function noticeOf({ progress, total, message }: Progress): string {
  const counted = total === undefined ? String(progress) : `${progress}/${total}`
  const said = message === undefined ? counted : `${counted} ${message}`
  return said.replaceAll(/[\s\u0000-\u001f\u007f-\u009f]+/g, ' ').slice(0, PROGRESS_CHARS_MAX)
}
