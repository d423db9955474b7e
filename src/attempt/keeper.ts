/**
 * Keeps one machine while it drives one job: relays, records, answers, and ends it.
 *
 * K1 Nothing is shown to the machine as happened, and no model is called, before it is in the log.
 * K2 A machine that lost its lease is destroyed at once, and nothing of it is recorded any more.
 * K3 Whatever way a machine ends, its job is at rest, finished, or claimable again.
 * K4 A canceled job's machine is gone within the grace, and the job has ended.
 * K5 A secret goes to the machine only for a skill whose requiredEnv names it.
 * K6 What a skill on the network is sent, and whether it is called at all, is judged here by the log.
 * K7 No model is asked, and no call permitted, while it is in doubt whether the lease lives.
 * K8 A job that is canceled while its machine is still to come waits for it no longer.
 */
import type { Clock } from '../../schema/clock.ts'
import type {
  CompartmentName,
  GenerateParams,
  MachineLine,
  PermitParams,
  ProgressLine,
  RequestLine,
} from '../../schema/control.ts'
import { unreachable } from '../../schema/decider.ts'
import type { Json } from '../../schema/json.ts'
import { isErrorCode, PlatformError } from '../../schema/error.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { RunId } from '../../schema/id.ts'
import {
  originOf,
  type HostFact,
  type JobEvent,
  type JobFact,
  type NewEvent,
  type Place,
  type RunFact,
} from '../../schema/event.ts'
import type { Networks } from '../../schema/network.ts'
import { Rate } from '../../schema/rate.ts'
import type { Gateway } from '../gateway/gateway.ts'
import { wantsNextRun } from '../job/job.ts'
import type { Attempt, Jobs } from '../job/jobs.ts'
import { printable } from '../log.ts'
import type { Secrets } from '../secret/secrets.ts'
import { RemoteSkills } from '../skill/remote-skills.ts'
import type { ContentStore } from '../workspace/content-store.ts'
import { Admission, type CallStarted } from './admission.ts'
import { Budgets, type BudgetPlace, type Decision } from './budgets.ts'
import { openGenerations, type GenerationEnd } from './generations.ts'
import { HeldContent } from './held-content.ts'
import { HeldLease, type HeldLeaseDependencies } from './held-lease.ts'
import type { Machine, MachineHost } from '../pool/machine-host.ts'
import { openRecorder } from './recorder.ts'
import { watchSilence } from './silence.ts'
import { lastWords } from './last-words.ts'
import { requiredSecrets, secretsOfLock } from './required-secrets.ts'

export interface KeeperDependencies extends HeldLeaseDependencies {
  readonly jobs: Jobs
  readonly host: MachineHost
  readonly gateway: Gateway
  readonly secrets: Secrets
  /** The operator's own networks, where skills may be reached besides the internet. */
  readonly networks: Networks
  readonly content: ContentStore
  readonly limits: HeldLeaseDependencies['limits'] & {
    /** How long a canceled machine, or one that is done, may take to end by itself. */
    readonly graceMs: number
    /** How long to wait before a job is given back whose machine could not be started. */
    readonly retryMs: number
    /** Proposals and requests that cannot be, before the machine is ended. */
    readonly breachesMax: number
    /** How long a machine may say nothing at all: several times what its runner lets pass (P3.7). */
    readonly silentMs: number
    /** Lines that a machine may have written to the operators' log. */
    readonly logLinesMax: number
  }
}

/** Events that may wait for one append. */
const WAITING_MAX = 256
/** Words of progress that a machine's watchers are shown. */
const NOTICES_PER_SECOND = 50
/** Events that may come to a job while its machine does; a cancel is among the first. */
const NEWS_MAX = 100
const NOWHERE: Place = { runId: null, expertKey: null, stepNumber: null }

const GENERATION_ENDS: ReadonlySet<string> = new Set<GenerationEnd['type']>([
  'generated',
  'generationFailed',
  'generationInterrupted',
  'compacted',
  'compactionFailed',
])

type Done = Extract<MachineLine, { type: 'done' }>['reason']
/** Why a keeper stops minding the lines of its machine. */
type Stop =
  | { readonly why: 'done'; readonly reason: Done }
  | { readonly why: 'ended'; readonly reason: string; readonly said: string }
  | { readonly why: 'lost' | 'closing' | 'canceled' }

/** Drives the attempt to its end; never rejects. Aborting `closing` gives the job back for another to go on with. */
export async function keep(
  dependencies: KeeperDependencies,
  attempt: Attempt,
  grantedAt: number,
  closing: AbortSignal,
): Promise<void> {
  const { jobs, log, clock, limits } = dependencies
  const { jobId, fence } = attempt
  const lease = new HeldLease(dependencies, attempt, grantedAt)
  let machine: Machine | undefined
  try {
    machine = await openMachine(dependencies, attempt, AbortSignal.any([closing, lease.lost]))
    const keeper = new Keeper(dependencies, attempt, machine, lease, grantedAt)
    const stop = await keeper.mind(closing)
    await keeper.settle(stop)
  } catch (error) {
    const code = closing.aborted ? 'server_stopped' : error instanceof PlatformError ? error.code : 'internal'
    if (code !== 'fence_stale') {
      log.error('An attempt failed.', { jobId, fence, error })
      // A host that starts no machines would else use up all attempts of all jobs in an instant.
      if (machine === undefined) await clock.sleep(limits.retryMs, closing).catch(() => {})
      const said = error instanceof PlatformError && !closing.aborted ? reasonsOf(error) : ''
      const detail = await lastWordsOf(dependencies, attempt, said)
      await jobs
        .abandon(attempt, code, detail)
        .catch((cause: unknown) => log.error('A job stays leased.', { jobId, cause }))
    }
  } finally {
    lease.letGo()
    await machine?.destroy()
  }
}

/** K8. Throws what the host throws. */
async function openMachine(
  { jobs, host, clock, log, limits }: KeeperDependencies,
  attempt: Attempt,
  closing: AbortSignal,
): Promise<Machine> {
  const { jobId, fence } = attempt
  const [came, canceled] = [new AbortController(), new AbortController()]
  const look = async (): Promise<void> => {
    try {
      // Read beside the attempt, so that the machine still hears of all of it.
      const news = await jobs.events(attempt.applicationId, jobId, attempt.head.revision, NEWS_MAX)
      if (news.some(({ type }) => type === 'cancelRequested')) canceled.abort(new Error('the job is canceled'))
    } catch (error) {
      log.warn('Nobody could look whether a job is canceled.', { jobId, error })
    }
  }
  const unsubscribe = jobs.onAppend(attempt, () => void look())
  async function looking(): Promise<void> {
    // A call that was lost costs this much.
    for (;;) {
      await clock.sleep(limits.renewMs, came.signal)
      await look()
    }
  }
  void looking().catch(() => {})
  try {
    return await host.open({ jobId, fence }, attempt.lock, AbortSignal.any([closing, canceled.signal]))
  } finally {
    came.abort(new Error('the machine came'))
    unsubscribe()
  }
}

class Keeper {
  readonly #dependencies: KeeperDependencies
  readonly #attempt: Attempt
  readonly #machine: Machine
  readonly #lease: HeldLease
  readonly #grantedAt: number
  readonly #admission: Admission
  readonly #budgets: Budgets
  readonly #content: HeldContent
  readonly #generations: ReturnType<typeof openGenerations>
  readonly #recorder: ReturnType<typeof openRecorder>
  readonly #stopped = Promise.withResolvers<Stop>()
  readonly #remote: RemoteSkills
  readonly #abort = new AbortController()
  readonly #notices: Rate
  #breaches = 0
  #logLines = 0
  #canceling = false
  /** What was under way when the job was canceled. */
  #cut: {
    readonly generating: ReadonlySet<RunId>
    readonly processes: number
    readonly afar: readonly CompartmentName[]
  } = {
    afar: [],
    generating: new Set(),
    processes: 0,
  }
  /** The compartments that the supervisor said it ended; null when it said nothing. */
  #skills: readonly CompartmentName[] | null = null

  constructor(
    dependencies: KeeperDependencies,
    attempt: Attempt,
    machine: Machine,
    lease: HeldLease,
    grantedAt: number,
  ) {
    const { jobs, content } = dependencies
    this.#dependencies = dependencies
    this.#attempt = attempt
    this.#machine = machine
    this.#lease = lease
    this.#grantedAt = grantedAt
    const origin = originOf(attempt.jobId, attempt.history)
    this.#admission = new Admission(origin, attempt.lock, attempt.jobId)
    this.#budgets = new Budgets(origin, attempt, (model) => dependencies.gateway.price(model), dependencies.clock)
    this.#content = new HeldContent(content, [attempt.treeHash, attempt.inputTreeHash])
    this.#generations = openGenerations(dependencies, attempt, this.#abort.signal)
    this.#recorder = openRecorder(
      (events) => jobs.record(attempt, events),
      (event) => this.#see(event),
      (error) => this.#fail(error),
    )
    this.#notices = new Rate(NOTICES_PER_SECOND, NOTICES_PER_SECOND, dependencies.clock.now())
    this.#remote = new RemoteSkills({
      lock: attempt.lock,
      clock: dependencies.clock,
      networks: dependencies.networks,
      secretOf: (name) => dependencies.secrets.find(attempt.applicationId, name),
      refuseCall: (call) => this.#refuseCall(call),
      refuseReply: async (reply) => this.#admission.refuseReply(reply),
      tell: (line) => machine.send(line),
      unreadBytes: () => machine.unreadBytes,
    })
    for (const event of attempt.history) {
      this.#admission.take(event)
      this.#budgets.take(event, event.at)
      this.#generations.see(event)
    }
  }

  /** Starts the job on its machine and serves it until one of the two is done. */
  async mind(closing: AbortSignal): Promise<Stop> {
    const { jobs } = this.#dependencies
    const close = (): void => this.#stopped.resolve({ why: 'closing' })
    const lose = (): void => this.#stopped.resolve({ why: 'lost' })
    const { lost } = this.#lease
    closing.addEventListener('abort', close, { once: true })
    lost.addEventListener('abort', lose, { once: true })
    const unsubscribe = jobs.onAppend(this.#attempt, () => this.#recorder.look())
    try {
      this.#sendHistory()
      // What was appended between the claim and the subscription woke nobody.
      this.#recorder.look()
      void this.#reading()
      if (lost.aborted) lose()
      if (closing.aborted) close()
      return await this.#stopped.promise
    } finally {
      closing.removeEventListener('abort', close)
      lost.removeEventListener('abort', lose)
      this.#lease.letGo()
      unsubscribe()
      this.#abort.abort(new Error('the attempt is over'))
      await this.#remote.close()
    }
  }

  /** Says in the log how the attempt ended. */
  async settle(stop: Stop): Promise<void> {
    const { jobs, log } = this.#dependencies
    const attempt = this.#attempt
    if (stop.why === 'lost') return
    // What cannot be recorded is lost with the machine; the next one does it again.
    await this.#recorder.flush().catch(() => {})
    if (attempt.job.status !== 'running') return
    if (attempt.job.cancelRequested) {
      // Nothing of the machine may act any more once the job says that it was canceled.
      await this.#machine.destroy()
      const ended = this.#skills === null ? null : [...this.#skills, ...this.#cut.afar]
      const skills = ended?.map(({ expertKey, skill }) => `${expertKey} ${skill}`) ?? null
      const machine = { host: this.#dependencies.host.name, skills, processes: this.#cut.processes }
      await jobs.cancelHeld(attempt, { machine, generating: this.#cut.generating })
      return
    }
    // A query that came with the end of the run that did not read it is the next run's.
    const goesOn = stop.why === 'done' && stop.reason === 'finished' && wantsNextRun(attempt.job)
    if (goesOn || (stop.why === 'done' && stop.reason === 'rested')) {
      await jobs.rest(attempt)
      return
    }
    const { reason, said } = endOf(stop)
    if (stop.why !== 'closing') log.warn('A machine ended before its job.', { jobId: attempt.jobId, reason })
    await this.#machine.destroy()
    await jobs.abandon(attempt, reason, await lastWordsOf(this.#dependencies, attempt, said))
  }

  #sendHistory(): void {
    const { jobId, fence, lock, model, treeHash, inputTreeHash, history } = this.#attempt
    const start = { jobId, fence, lock, model, treeHash, inputTreeHash, historyCount: history.length }
    this.#machine.send({ type: 'start', protocol: 1, ...start })
    for (const event of history) this.#machine.send({ type: 'recorded', event })
    this.#machine.send({ type: 'go' })
  }

  async #reading(): Promise<void> {
    const { clock, limits } = this.#dependencies
    const silence = watchSilence(clock, limits.silentMs, this.#abort.signal, () =>
      this.#stopped.resolve({ why: 'ended', reason: 'machine_silent', said: '' }),
    )
    try {
      for await (const line of this.#machine.lines) {
        if (this.#abort.signal.aborted) return
        const taken = this.#take(line)
        if (taken === undefined) silence.heard()
        else await silence.broken(taken)
        if (line.type === 'done' && line.reason === 'canceled') this.#skills = line.skills ?? []
        if (line.type === 'done') return this.#stopped.resolve({ why: 'done', reason: line.reason })
      }
      const { reason, stderrTail } = await this.#machine.ended
      if (stderrTail !== '') this.#tell('stderr', stderrTail)
      this.#stopped.resolve({ why: 'ended', reason, said: stderrTail })
    } catch (error) {
      this.#fail(error)
    }
  }

  /** A promise for as long as nothing more is to be heard of the machine. */
  #take(line: MachineLine): Promise<void> | undefined {
    const { clock, host } = this.#dependencies
    switch (line.type) {
      case 'ready': {
        const dispatchMs = Math.max(0, clock.now() - this.#grantedAt)
        const { resume, machineId, phases } = this.#machine.obtained
        const pooled = { ...(machineId === null ? {} : { machineId }), ...(phases === null ? {} : { phases }) }
        const data = { host: host.name, resume, dispatchMs, bootId: line.bootId, ...pooled }
        this.#record({ type: 'machineStarted', data })
        return undefined
      }
      case 'event':
        this.#propose(line.event)
        // A flood waits for the store; nothing of it piles up here.
        return this.#recorder.waiting() > WAITING_MAX ? this.#recorder.flush() : undefined
      case 'blob':
        return this.#content.receive(line)
      case 'workspace':
        return this.#changeTree(line.treeHash)
      case 'request':
        return void this.#answer(line)
      case 'alive':
        return undefined
      case 'progress':
        this.#notice(line)
        return undefined
      case 'log':
        this.#tell(line.source, line.text)
        return undefined
      case 'open':
      case 'close':
      case 'frame':
        this.#remote.take(line)
        return undefined
      case 'done':
        return undefined
      default:
        return unreachable(line)
    }
  }

  async #changeTree(treeHash: Sha256): Promise<void> {
    await this.#content.admit(treeHash)
    // It goes with the result of the call that changed it, which follows: no commit of its own.
    this.#recorder.attach(event({ type: 'workspaceChanged', data: { treeHash } }, NOWHERE))
  }

  #propose(proposal: RunFact & Place): void {
    const fault = this.#budgets.refuseFact(proposal, this.#admission.interrupts) ?? this.#admission.admit(proposal)
    if (fault !== undefined) return this.#breach(`${proposal.type} was dropped: ${fault}`)
    this.#budgets.take(proposal, this.#dependencies.clock.now())
    this.#record(proposal, placeOf(proposal))
  }

  #record(fact: RunFact | HostFact | JobFact, place: Place = NOWHERE): void {
    void this.#recorder.record(event(fact, place))
  }

  async #answer(line: RequestLine): Promise<void> {
    const { id } = line
    try {
      const value = await this.#serve(line)
      this.#machine.send({ type: 'reply', id, ok: true, value: value as Json }) // what we serve is JSON
    } catch (error) {
      if (this.#abort.signal.aborted) return
      const { log } = this.#dependencies
      if (!(error instanceof PlatformError)) log.error('A request of a machine failed.', { method: line.method, error })
      const { code, message } =
        error instanceof PlatformError ? error : { code: 'internal', message: 'The control plane failed; see its log.' }
      this.#machine.send({ type: 'reply', id, ok: false, error: { code, message } })
    }
  }

  async #serve(line: RequestLine): Promise<object> {
    const { secrets } = this.#dependencies
    const { applicationId, lock } = this.#attempt
    switch (line.method) {
      case 'generate': {
        const { params } = line
        this.#require('generate', this.#admission.refuseGenerate(params) ?? this.#budgets.refuse(params.runId))
        return this.#generate(params)
      }
      case 'reserve': {
        const { params } = line
        const calls = this.#admission.callsToCount(params)
        this.#require('reserve', typeof calls === 'string' ? calls : this.#budgets.refuse(params.runId))
        const decision = this.#budgets.toCall(params, Number(calls))
        return (await this.#recordFacts(decision, params)).at(-1) ?? {}
      }
      case 'blob':
        return this.#content.chunk(line.params.hash, line.params.offset)
      case 'secrets':
        return requiredSecrets(secrets, applicationId, lock, line.params)
      case 'permit': {
        const fault = await this.#refuseCall(line.params)
        if (fault === undefined) return {}
        throw new PlatformError('protocol_breach', fault)
      }
      default:
        return unreachable(line)
    }
  }

  /** Why a call may not be made now; undefined when it may. What it follows from is in the log before it is made. */
  async #refuseCall(params: PermitParams): Promise<string | undefined> {
    await this.#recorder.flush()
    if (this.#canceling) throw new PlatformError('canceled_by_user', 'The job is being canceled.')
    const started: CallStarted[] = []
    const fault = this.#admission.refuseCall(params, (fact) => started.push(fact))
    await Promise.all(started.map((fact) => this.#recorder.record(event(fact, placeOf(fact)))))
    await this.#lease.require(this.#abort.signal)
    if (this.#canceling) throw new PlatformError('canceled_by_user', 'The job is being canceled.')
    if (fault !== undefined) this.#breach(`a call was refused: ${fault}`)
    return fault
  }

  /** One generation, with the room that its budgets leave, or what holds it back. */
  async #generate(params: GenerateParams): Promise<object> {
    const { clock } = this.#dependencies
    // Asked for before the machine had heard of a query, it is not begun, and takes no room.
    const isInterrupted = (): boolean => this.#admission.readsFirst(params.runId)
    if (isInterrupted()) {
      await this.#recorder.flush()
      return this.#recorder.record(
        event(await this.#generations.generate(params, { isInterrupted: true }), placeOf(params)),
      )
    }
    const bytes = await this.#generations.promptBytes(params)
    const decision = await this.#budgets.toGenerate(params, bytes, this.#abort.signal)
    // With what the generation follows from, in the same commit, and before anything is spent.
    const recorded = await this.#recordFacts(decision, params)
    if (decision.isHeld) return recorded.at(-1) ?? {}
    const { outputTokensMax, timeMs } = decision
    await this.#lease.require(this.#abort.signal)
    const fact = await within(timeMs, clock, (cut) =>
      this.#generations.generate(params, { isInterrupted: isInterrupted(), outputTokensMax, cut }),
    )
    if (fact !== undefined) return this.#recorder.record(event(fact, placeOf(params)))
    return (await this.#recordFacts(this.#budgets.cut(params), params)).at(-1) ?? {}
  }

  #require(what: string, fault: string | undefined): void {
    if (this.#canceling) throw new PlatformError('canceled_by_user', 'The job is being canceled.')
    if (fault === undefined) return
    this.#breach(`${what} was refused: ${fault}`)
    throw new PlatformError('protocol_breach', fault)
  }

  /** The facts of a decision as the log has them, once all before them are in it. */
  async #recordFacts({ facts }: Decision, place: BudgetPlace): Promise<readonly JobEvent[]> {
    const recorded = facts.map((fact) => this.#recorder.record(event(fact, placeOf(place))))
    await this.#recorder.flush()
    if (this.#canceling) throw new PlatformError('canceled_by_user', 'The job is being canceled.')
    return await Promise.all(recorded)
  }

  /** Every event that is in the log now, own and others'. */
  #see(event: JobEvent): void {
    this.#generations.see(event)
    if (event.type === 'answered' || event.type === 'questionExpired' || event.type === 'jobContinued') {
      this.#admission.take(event)
      this.#budgets.take(event, event.at)
      if (this.#admission.interrupts) this.#generations.interrupt()
      this.#machine.send({ type: 'recorded', event })
    } else if (event.type === 'callStarted') this.#machine.send({ type: 'recorded', event })
    else if (GENERATION_ENDS.has(event.type)) {
      this.#admission.take(event)
      this.#budgets.take(event, event.at)
    } else if (event.type === 'cancelRequested') this.#cancel(event.data.reason)
    // With the coordinator's run the job is over, whatever its machine goes on to say.
    else if (event.type === 'jobFinished') this.#stopped.resolve({ why: 'done', reason: 'finished' })
  }

  #cancel(reason: string): void {
    if (this.#canceling) return
    this.#canceling = true
    // Counted before anything is ended.
    const processes = this.#machine.processes()
    const afar = this.#remote.names()
    this.#cut = { generating: this.#generations.cancel(), processes, afar }
    void this.#remote.close()
    this.#machine.send({ type: 'cancel', reason })
    const { clock, limits } = this.#dependencies
    clock.sleep(limits.graceMs, this.#abort.signal).then(
      () => this.#stopped.resolve({ why: 'canceled' }),
      () => {},
    )
  }

  #breach(message: string): void {
    const { log, limits } = this.#dependencies
    this.#breaches += 1
    log.warn('A machine proposed what cannot be.', { jobId: this.#attempt.jobId, message })
    if (this.#breaches < limits.breachesMax) return
    this.#stopped.resolve({ why: 'ended', reason: 'protocol_breach', said: message })
  }

  /** Shown to whoever watches when it is of a call that is open; too much of it is left out. */
  #notice({ runId, callId, text }: ProgressLine): void {
    const { jobs, clock } = this.#dependencies
    const call = this.#admission.openCall(runId, callId)
    if (call === undefined || !this.#notices.take(clock.now())) return
    const { expertKey, stepNumber, name } = call
    const { jobId } = this.#attempt
    jobs.show({ type: 'delta', jobId, runId, expertKey, stepNumber, kind: 'progress', text: `${name} ${text}` })
  }

  #tell(source: string, text: string): void {
    const { log, limits } = this.#dependencies
    this.#logLines += 1
    if (this.#logLines > limits.logLinesMax) return
    log.info('A machine says.', { jobId: this.#attempt.jobId, source: printable(source), text: printable(text) })
  }

  #fail(error: unknown): void {
    const code = error instanceof PlatformError && isErrorCode(error.code) ? error.code : 'internal'
    if (code === 'fence_stale') return this.#stopped.resolve({ why: 'lost' })
    this.#dependencies.log.error('A machine is ended.', { jobId: this.#attempt.jobId, error })
    const said = error instanceof PlatformError ? reasonsOf(error) : ''
    this.#stopped.resolve({ why: 'ended', reason: code, said })
  }
}

function endOf(stop: Stop): { readonly reason: string; readonly said: string } {
  if (stop.why === 'ended') return stop
  return { reason: stop.why === 'closing' ? 'server_stopped' : 'protocol_breach', said: '' }
}

/** An error of ours with what it was caused by. */
function reasonsOf({ message, cause }: PlatformError): string {
  return cause instanceof Error ? `${message} ${cause.message}` : message
}

/** For the job's owner; nothing where it cannot be told which secrets to leave out. */
async function lastWordsOf(
  { secrets, log }: KeeperDependencies,
  { applicationId, lock, jobId }: Attempt,
  said: string,
): Promise<string | undefined> {
  if (said === '') return undefined
  try {
    return lastWords(said, await secretsOfLock(secrets, applicationId, lock))
  } catch (error) {
    log.warn('The last words of a machine are not shown.', { jobId, error })
    return undefined
  }
}

function placeOf({ runId, expertKey, stepNumber }: Place): Place {
  return { runId, expertKey, stepNumber }
}

/** What `go` gives, or undefined when it was cut because its time was over; null is for ever. */
async function within<Result>(
  timeMs: number | null,
  clock: Clock,
  go: (cut: AbortSignal) => Promise<Result>,
): Promise<Result | undefined> {
  const cut = new AbortController()
  if (timeMs === null) return await go(cut.signal)
  const done = new AbortController()
  const watching = clock.sleep(timeMs, done.signal).then(
    () => cut.abort(new Error('the time of the budget is over')),
    () => {},
  )
  try {
    return await go(cut.signal)
  } catch (error) {
    if (cut.signal.aborted && error === cut.signal.reason) return undefined
    throw error
  } finally {
    done.abort(new Error('the generation is over'))
    await watching
  }
}

function event(fact: RunFact | HostFact | JobFact, place: Place): NewEvent {
  const { type, data } = fact
  return { v: 1, type, data, ...place } as NewEvent // type and data stay the pair that they were
}
