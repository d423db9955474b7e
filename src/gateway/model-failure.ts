/** Why a generation went wrong, whether it is worth another attempt, and what is said about it. Pure. */
import type { ErrorCode } from '../../schema/error.ts'

export interface ModelFailure {
  readonly code: ErrorCode
  /** One sentence, without any key. */
  readonly message: string
  readonly retryable: boolean
  /** How long the provider asks to be left alone; null when it does not say. */
  readonly retryAfterMs: number | null
}

/** What went wrong in our own reading of a stream. */
export class StreamFailure extends Error {
  override readonly name = 'StreamFailure'
  readonly failure: ModelFailure

  constructor(code: ErrorCode, message: string, retryable: boolean) {
    super(message)
    this.failure = { code, message, retryable, retryAfterMs: null }
  }
}

const WHY_CHARS_MAX = 400
/** Busy rather than broken. */
const OVERLOAD_STATUSES: ReadonlySet<number> = new Set([429, 503, 529])
const UNUSUAL = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]+/g

interface Told {
  readonly status: number | undefined
  readonly retryable: boolean | undefined
  readonly why: string
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: string
}

/** Errors of the AI SDK by their shape: those thrown, and those that arrive within a stream, are of different classes. */
function told(error: unknown): Told {
  const members: Readonly<Record<string, unknown>> = typeof error === 'object' && error !== null ? { ...error } : {}
  const message = error instanceof Error ? error.message : (members['message'] ?? error)
  const { statusCode, isRetryable, responseHeaders, responseBody, code, type } = members
  const status = typeof statusCode === 'number' ? statusCode : typeof code === 'number' ? code : undefined
  return {
    status,
    retryable: typeof isRetryable === 'boolean' ? isRetryable : undefined,
    why: typeof message === 'string' ? message : typeof type === 'string' ? type : 'no reason given',
    headers: typeof responseHeaders === 'object' && responseHeaders !== null ? { ...responseHeaders } : {},
    body: typeof responseBody === 'string' ? responseBody : '',
  }
}

/** `secrets` are blotted out of whatever the provider wrote. `now` is for a Retry-After that names a date. */
export function classify(model: string, error: unknown, secrets: readonly string[], now: number): ModelFailure {
  if (error instanceof StreamFailure) return error.failure
  const { status, retryable, why: raw, headers, body } = told(error)
  const why = quoted(raw, secrets)
  const once = (code: ErrorCode, message: string): ModelFailure => ({
    code,
    message,
    retryable: false,
    retryAfterMs: null,
  })
  if (status === 401 || status === 403)
    return once('model_key_refused', `The provider of ${model} refused the key with status ${status}.`)
  if (status === 404) return once('model_not_found', `The provider of ${model} does not know this model: ${why}`)
  if (status === 429 && /insufficient_quota|billing|credit balance/i.test(body + raw))
    return once('model_refused', `The provider of ${model} refused: the quota of the key is used up. ${why}`)
  if ((status === undefined || (status >= 400 && status < 500)) && TOO_LONG.test(`${raw} ${body}`))
    return once('context_exceeded', `The messages are more than ${model} reads: ${why}`)
  if (status !== undefined && OVERLOAD_STATUSES.has(status)) {
    const message = `The provider of ${model} was busy, with status ${status}: ${why}`
    return { code: 'model_overloaded', message, retryable: true, retryAfterMs: retryAfter(headers, now) }
  }
  if (status !== undefined && status >= 400 && status < 500 && status !== 408 && status !== 409)
    return once('model_refused', `The provider of ${model} refused the request with status ${status}: ${why}`)
  const message =
    status === undefined
      ? `The provider of ${model} could not be understood or reached: ${why}`
      : `The provider of ${model} failed with status ${status}: ${why}`
  const again = status === undefined ? (retryable ?? isBroken(error)) : true
  return { code: 'model_error', message, retryable: again, retryAfterMs: retryAfter(headers, now) }
}

/** How providers say that a conversation is longer than the window of their model. */
const TOO_LONG = new RegExp(
  [
    'context_length_exceeded',
    'prompt is too long',
    'exceeds? (?:the |your )?(?:model.s )?(?:available )?context (?:window|limit|length|size)',
    'maximum context length',
    'input token count.{0,40}exceeds',
  ].join('|'),
  'i',
)

/** The AI SDK's names for an answer that came in pieces or as nonsense; the next one may be whole. */
const BROKEN_ANSWERS: ReadonlySet<string> = new Set([
  'AI_EmptyResponseBodyError',
  'AI_InvalidResponseDataError',
  'AI_JSONParseError',
  'AI_TypeValidationError',
])

/** A connection or an answer that broke off. */
function isBroken(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if (BROKEN_ANSWERS.has(error.name)) return true
  return error instanceof TypeError && /fetch failed|terminated|network/i.test(error.message)
}

/** A provider's words: on one line, cut, and without any key, whole or shown in part. */
function quoted(text: string, secrets: readonly string[]): string {
  let safe = text
  for (const secret of secrets) if (secret !== '') safe = safe.replaceAll(secret, '***')
  // Providers echo a key with its middle masked: what is left of it is still no one's business.
  safe = safe.replaceAll(/\b(?:sk|pk|AIza|xai|gsk)[-_A-Za-z0-9]*[-_A-Za-z0-9*.…]{8,}/g, '***')
  safe = safe.replaceAll(UNUSUAL, ' ')
  return safe.length > WHY_CHARS_MAX ? `${safe.slice(0, WHY_CHARS_MAX)}…` : safe
}

function retryAfter(headers: Readonly<Record<string, unknown>>, now: number): number | null {
  const ms = Number(headers['retry-after-ms'] ?? Number.NaN)
  if (Number.isFinite(ms) && ms >= 0) return ms
  const text = headers['retry-after']
  if (typeof text !== 'string' || text === '') return null
  const seconds = Number(text)
  if (Number.isFinite(seconds)) return seconds >= 0 ? seconds * 1000 : null
  const at = Date.parse(text)
  return Number.isNaN(at) ? null : Math.max(0, at - now)
}

export interface Backoff {
  /** Attempts in all. */
  readonly attemptsMax: number
  readonly firstDelayMs: number
  /** Also the longest Retry-After that is waited for. */
  readonly delayMaxMs: number
}

/**
 * How long to wait before attempt `attempt + 1`, or null when there is none: doubling, and from half of that to all of it
 * as `jitter` (0 to 1) says; a Retry-After is honoured to the millisecond or not at all.
 */
export function delayBefore(failure: ModelFailure, attempt: number, backoff: Backoff, jitter: number): number | null {
  if (!failure.retryable || attempt >= backoff.attemptsMax) return null
  if (failure.retryAfterMs !== null) return failure.retryAfterMs > backoff.delayMaxMs ? null : failure.retryAfterMs
  const whole = Math.min(backoff.delayMaxMs, backoff.firstDelayMs * 2 ** (attempt - 1))
  return Math.round(whole / 2 + (whole / 2) * jitter)
}
