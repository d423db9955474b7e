/**
 * The gateway: one generation by the provider that the model's name says, with the key of the application that pays.
 *
 * GM1 A key is given to the provider's client and to nothing else: no message, log line or error holds one.
 * GM2 Attempts are bounded; only what is worth another attempt gets one: status 408, 409, 429, 5xx, a connection that broke
 *    or went silent.
 * GM3 A stream that goes silent is cut, and the connection with it; so is one whose caller gives up.
 * GM4 Base URLs come from the server's configuration, never from an application or an expert.
 * GM5 A generation has a deadline, retries and waits included.
 */
import type { Chance, Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import type { ApplicationId } from '../../schema/id.ts'
import type { Secret } from '../../schema/secret.ts'
import { REHEARSAL, type ProviderName } from '../../schema/model-settings.ts'
import type { Log } from '../log.ts'
import type { Gateway, Generated, GenerateRequest, Streamed } from './gateway.ts'
import { Generation } from './generation.ts'
import { modelCall } from './model-call.ts'
import { priceOf, type Price, type Prices, type Windows } from './price.ts'
import { classify, delayBefore, StreamFailure, type Backoff } from './model-failure.ts'
import { cappedFetch } from './output-cap.ts'
import { openModel, parseModelName, PROVIDER_FACTS, type BaseUrls, type CallOptions, type Model } from './provider.ts'
import { Rehearsals } from './rehearsals.ts'
import { toolNames, type ToolNames } from './tool-name.ts'
import { windowOf } from './window.ts'

export interface GatewayLimits extends Backoff {
  /** A connection without a byte for this long is cut. */
  readonly stallMs: number
  /** From the first attempt to the last word, unless the expert says another time. */
  readonly deadlineMs: number
  /** Text and arguments of one generation. */
  readonly outputCharsMax: number
}

export const GATEWAY_LIMITS: GatewayLimits = {
  attemptsMax: 5,
  firstDelayMs: 1000,
  delayMaxMs: 60_000,
  stallMs: 120_000,
  deadlineMs: 30 * 60_000,
  outputCharsMax: 2 * 1024 * 1024,
}

export interface GatewaySettings {
  /** Files of published packages, for rehearsals; undefined when there is none. */
  readonly experts: { readFile(integrity: string, path: string): Promise<Uint8Array | undefined> }
  /** The secret `name` of an application, such as OPENAI_API_KEY. */
  keyOf(applicationId: ApplicationId, name: string): Promise<Secret | undefined>
  readonly baseUrls: BaseUrls
  /** What models cost; default: nobody knows. */
  readonly prices?: Prices
  /** None by default: then no conversation is compacted before its provider refuses it. */
  readonly windows?: Windows
  /** Default: the process's own. */
  readonly fetch?: typeof globalThis.fetch
  readonly clock: Clock
  /** Spreads retries; without it they wait the longest delay each. */
  readonly chance?: Chance
  readonly log: Log
  readonly limits?: Partial<GatewayLimits>
}

type OnDelta = (kind: 'text' | 'reasoning', text: string) => void

interface Call {
  readonly model: Model
  readonly options: CallOptions
  readonly names: ToolNames
  readonly stepNumber: number
  /** Calls back at every byte that comes. */
  readonly listen: (heard: () => void) => void
  readonly price: Price | undefined
}

export function openGateway(settings: GatewaySettings): Gateway {
  return new Models(settings)
}

class Models implements Gateway {
  readonly #settings: GatewaySettings
  readonly #limits: GatewayLimits
  readonly #rehearsals: Rehearsals

  constructor(settings: GatewaySettings) {
    this.#settings = settings
    this.#limits = { ...GATEWAY_LIMITS, ...settings.limits }
    this.#rehearsals = new Rehearsals(
      async (integrity, path) => await settings.experts.readFile(integrity, path),
      settings.clock,
    )
  }

  knows(model: string): boolean {
    return parseModelName(model, this.#settings.baseUrls) !== undefined
  }

  price(model: string): Price | undefined {
    return priceOf(this.#settings.prices ?? {}, model)
  }

  async generate(request: GenerateRequest, onDelta: OnDelta, signal: AbortSignal): Promise<Generated> {
    signal.throwIfAborted()
    const parsed = parseModelName(request.model, this.#settings.baseUrls)
    if (parsed === undefined)
      throw new PlatformError(
        'model_not_found',
        `No provider of this server has the model ${JSON.stringify(request.model)}.`,
      )
    const { provider, name } = parsed
    if (provider === REHEARSAL)
      return await this.#rehearsals.play(name, request, this.price(request.model), onDelta, signal)
    const key = await this.#key(provider, request)
    const names = toolNames(request.prompt.tools.map((tool) => tool.name))
    const { modelSettings } = request.expert
    const { outputTokensMax } = request
    let hear = (): void => {}
    const heard = hearingFetch(this.#settings.fetch ?? globalThis.fetch, () => hear())
    const isCapped = provider === 'anthropic' && outputTokensMax !== undefined
    const fetch = isCapped ? cappedFetch(heard, outputTokensMax) : heard
    const call: Call = {
      model: openModel({ provider, name }, key, this.#settings.baseUrls, fetch),
      options: modelCall(provider, request.prompt, request.messages, names, { ...modelSettings, outputTokensMax }),
      names,
      stepNumber: request.stepNumber,
      price: this.price(request.model),
      listen: (heard) => {
        hear = heard
      },
    }
    const generated = await this.#persist(request, call, key, onDelta, signal)
    return { ...generated, contextWindow: windowOf(this.#settings.windows ?? {}, request.model) }
  }

  async #key(provider: ProviderName, request: GenerateRequest): Promise<string | undefined> {
    const { keyName, keyRequired } = PROVIDER_FACTS[provider]
    if (keyName === null) return undefined
    const secret = await this.#settings.keyOf(request.applicationId, keyName)
    const key = secret?.reveal().trim()
    if (key !== undefined && key !== '') return key
    if (!keyRequired) return undefined
    throw new PlatformError('model_key_missing', `${request.model} needs the secret ${keyName}, which is not set.`)
  }

  /** Attempts until one succeeds, none is left, the failure is final, or the time is over. */
  async #persist(
    request: GenerateRequest,
    call: Call,
    key: string | undefined,
    onDelta: OnDelta,
    signal: AbortSignal,
  ): Promise<Streamed> {
    const { clock } = this.#settings
    const { maxRetries, timeoutMs = this.#limits.deadlineMs } = request.expert.modelSettings ?? {}
    const backoff = maxRetries === undefined ? this.#limits : { ...this.#limits, attemptsMax: maxRetries + 1 }
    const over = new AbortController()
    const late = new AbortController()
    const waiting = clock.sleep(timeoutMs, over.signal).then(
      () => late.abort(),
      () => {},
    )
    try {
      const secrets = key === undefined ? [] : [key]
      return await this.#retry(request.model, call, backoff, secrets, onDelta, AbortSignal.any([signal, late.signal]))
    } catch (error) {
      signal.throwIfAborted()
      if (!late.signal.aborted) throw error
      throw new PlatformError('model_timeout', `${request.model} did not answer within ${timeoutMs} ms.`)
    } finally {
      over.abort()
      await waiting
    }
  }

  async #retry(
    model: string,
    call: Call,
    backoff: Backoff,
    secrets: readonly string[],
    onDelta: OnDelta,
    signal: AbortSignal,
  ): Promise<Streamed> {
    const { clock, chance, log } = this.#settings
    let shown = false
    const show: OnDelta = (kind, text) => {
      shown = true
      onDelta(kind, text)
    }
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#attempt(call, show, signal)
      } catch (error) {
        signal.throwIfAborted()
        const failure = classify(model, error, secrets, clock.now())
        const jitter = (chance?.bytes(1)[0] ?? 255) / 255
        const delayMs = delayBefore(failure, attempt, backoff, jitter)
        const { code, message } = failure
        if (delayMs === null)
          throw new PlatformError(code, attempt === 1 ? message : `${message} (${attempt} attempts)`)
        log.warn('a generation is tried again', { model, attempt, delayMs, code, why: message })
        // Deltas are shown, never stored: whoever watches must be able to tell that the text begins anew, and why nothing
        // comes for minutes.
        if (!shown) onDelta('text', `[asked again, attempt ${attempt + 1}: ${message}]\n`)
        await clock.sleep(delayMs, signal)
        if (shown) onDelta('text', '\n[the connection to the model broke; the answer begins again]\n')
        shown = false
      }
    }
  }

  async #attempt(call: Call, onDelta: OnDelta, signal: AbortSignal): Promise<Streamed> {
    const { clock } = this.#settings
    const over = new AbortController()
    const cut = new AbortController()
    let heardAt = clock.now()
    // Bytes count, and not parts: a provider that is still at work says so with comments.
    call.listen(() => {
      heardAt = clock.now()
    })
    const watch = async (): Promise<void> => {
      for (;;) {
        const quietMs = clock.now() - heardAt
        if (quietMs >= this.#limits.stallMs) return cut.abort()
        await clock.sleep(this.#limits.stallMs - quietMs, over.signal)
      }
    }
    // It ends by the rejection of its sleep, when the attempt is over.
    const watching = watch().catch(() => undefined)
    try {
      const generation = new Generation(call.names)
      const abortSignal = AbortSignal.any([signal, cut.signal])
      const { stream } = await call.model.doStream({ ...call.options, abortSignal })
      for await (const part of stream) {
        if (part.type === 'error') throw part.error
        const delta = generation.add(part)
        if (generation.chars > this.#limits.outputCharsMax)
          throw new StreamFailure(
            'model_error',
            `The model wrote more than ${this.#limits.outputCharsMax} characters.`,
            false,
          )
        if (delta !== undefined) onDelta(delta.kind, delta.text)
      }
      return finished(generation, call.stepNumber, call.price)
    } catch (error) {
      if (cut.signal.aborted && !signal.aborted)
        // A generation has no effect before it is recorded, so even one that had begun may begin again.
        throw new StreamFailure('model_stalled', `The model was silent for ${this.#limits.stallMs} ms.`, true)
      throw error
    } finally {
      over.abort()
      await watching
    }
  }
}

/** Says of every byte that comes. */
function hearingFetch(fetch: typeof globalThis.fetch, heard: () => void): typeof globalThis.fetch {
  return async (input, init) => {
    const response = await fetch(input, init)
    heard()
    if (response.body === null) return response
    const hearing = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        heard()
        controller.enqueue(chunk)
      },
    })
    const { status, statusText, headers } = response
    return new Response(response.body.pipeThrough(hearing), { status, statusText, headers })
  }
}

/** The generation of a stream that has ended; throws StreamFailure when it did not end well. */
function finished(generation: Generation, stepNumber: number, price: Price | undefined): Streamed {
  const finish = generation.finish
  const reason = finish?.finishReason.unified
  if (reason === 'content-filter')
    throw new StreamFailure('model_refused', "The provider's content filter stopped the answer.", false)
  if (finish === undefined || reason === 'interrupted' || reason === 'error')
    throw new StreamFailure('model_error', "The provider's answer broke off before its end.", true)
  if (reason === 'other' && generation.isEmpty)
    throw new StreamFailure('model_error', 'The provider answered with nothing that is a generation.', true)
  return generation.generated(stepNumber, finish, price)
}
