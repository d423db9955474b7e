/**
 * What a machine may propose, judged by the log alone: a hostile runner can fail its own job, and nothing else.
 *
 * A1 A machine proposes facts of runs that its job has, in the place where each run is.
 * A2 A call returns once, and only a call that was made.
 * A3 What a human answers comes from the log: no answer can be forged, none can be said not to have come, and no
 *    question can say other than the call.
 * A4 A run completes only with the text that its model wrote, and only when that is what its expert owes; a text that
 *    is not is rejected as often as the rule says, in the very words.
 * A5 A delegate runs only what its caller called, as deep as the limit.
 * A6 A generation is owed only to a run at its turn, and while steps are left.
 * A7 A call that a rule of approval covers returns and delegates only as its human approved it, and is permitted once,
 *    and once more after each answer to a question of its skill.
 * A8 Of a skill whose tools the lock pins, a listing is those tools or none.
 * A9 A call of a base tool returns what follows from what the model wrote, and nothing else.
 * A10 A call that may be made once starts once, and again only when its human says so; in doubt, it returns what its
 *    human says.
 * A11 A query is read as the log queued it, in order, by the coordinator's run, and never during a generation of it.
 */
import { approvedArgs } from '../../schema/approval.ts'
import { baseResult, baseTurn, type BaseTurn, type Todo } from '../../schema/base-tool.ts'
import type { PlacedFact } from '../../schema/conversation.ts'
import type { CompartmentName, GenerateParams, PermitParams, ReserveParams } from '../../schema/control.ts'
import { callKeyOf } from '../../schema/effect.ts'
import type { HostFact, Place, Question, RunFact } from '../../schema/event.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import { canonical, hashOf, type Sha256 } from '../../schema/hash.ts'
import type { JobId, QuestionId, RunId } from '../../schema/id.ts'
import { isJsonObject, type Json } from '../../schema/json.ts'
import { argumentFault } from '../../schema/json-schema.ts'
import type { Lock, LockedExpert } from '../../schema/lock.ts'
import { readOutput, rejectionOwed } from '../../schema/output.ts'
import { textOf, type ToolCallPart, type ToolDefinition, type ToolResultPart } from '../../schema/message.ts'
import { outcomeQuestionOf, outcomeResult } from '../../schema/outcome.ts'
import { interrupts, isNext, nextQuery, noSteering, steer, type Steering } from '../../schema/steering.ts'
import type { Elicitation } from '../../schema/elicitation.ts'
import { approvalQuestionOf, askedAgain, delegateRunId, questionOf, rootRunId } from '../../schema/question.ts'
import { driftOf, servedSkillOf, toolsBeforeStart } from '../../schema/tool-pin.ts'
import { AnswerBook } from './answer-book.ts'
import { faultInElicitation, handsBack, isReply, waitsFor, type Put } from './elicited.ts'
import { aliasOf, approvalOf, interactiveTool, isOnce, LAST, NO_CALL, type OpenCall } from './open-call.ts'

const DEPTH_MAX = 8

export type CallStarted = Extract<HostFact, { type: 'callStarted' }> & Place

interface RunPlace {
  readonly expertKey: string
  readonly depth: number
  stepNumber: number
  turn: 'generate' | 'calls' | 'stepEnd' | 'end'
  readonly calls: Map<string, OpenCall>
  text: string
  rejections: number
  todos: readonly Todo[]
  /** What the calls of base tools in the step in hand come to. */
  base: BaseTurn | undefined
  finished: string | null
  /** What it completed with, as data. */
  structured: Json | undefined
  /** Its last generation was interrupted. */
  interrupted: boolean
}

type Proposal = RunFact & Place

export class Admission {
  /** What ids derive from. */
  readonly #jobId: JobId
  /** What the keys of calls derive from: the job itself, also when it is a fork. */
  readonly #ownJobId: JobId
  readonly #lock: Lock
  readonly #runs = new Map<RunId, RunPlace>()
  readonly #roots: RunId[] = []
  readonly #book = new AnswerBook()
  /** The tools that a skill said it has, by expert and skill. */
  readonly #listed = new Map<string, readonly ToolDefinition[]>()
  /** Calls that this machine was permitted to make. */
  readonly #permitted = new Set<string>()
  /** The calls whose skill put these questions. */
  readonly #elicited = new Map<QuestionId, string>()
  /** Runs of which a generation is under way. */
  readonly #generating = new Set<RunId>()
  #steering: Steering = noSteering
  #steps = 0
  #stepsMax: number | null = null
  #forks = 0

  constructor(originJobId: JobId, lock: Lock, ownJobId: JobId = originJobId) {
    this.#jobId = originJobId
    this.#ownJobId = ownJobId
    this.#lock = lock
  }

  /** Why a proposal cannot be so, in one sentence; undefined when it can, and it is then taken as happened. */
  admit(proposal: Proposal): string | undefined {
    const fault = this.#faultIn(proposal)
    if (fault === undefined) this.take(proposal)
    return fault
  }

  /** Why a generation is not owed; undefined when it is. */
  refuseGenerate(params: GenerateParams): string | undefined {
    const run = this.#runs.get(params.runId)
    if (run === undefined || run.finished !== null) return `no run ${params.runId} is open`
    if (run.expertKey !== params.expertKey) return `run ${params.runId} is of ${run.expertKey}`
    if (run.turn !== 'generate' || params.stepNumber !== run.stepNumber + 1)
      return `run ${params.runId} is at step ${run.stepNumber} (${run.turn}), not before step ${params.stepNumber}`
    if (this.#stepsMax !== null && this.#steps >= this.#stepsMax) return `the job has used its ${this.#stepsMax} steps`
    if (run.interrupted && this.readsFirst(params.runId))
      return `run ${params.runId} has queries to read before it generates again`
    this.#generating.add(params.runId)
    return undefined
  }

  /** A query waits that gives up what is under way: nothing is begun before it is read. */
  get interrupts(): boolean {
    return interrupts(this.#steering)
  }

  /** A query that was put before a generation began is read before it. */
  readsFirst(runId: RunId): boolean {
    if (this.interrupts) return true
    return this.#steering.queued.length > 0 && this.#roots.at(-1) === runId
  }

  /** How many calls of a run's step wait to be counted, or why none do. */
  callsToCount({ runId, expertKey, stepNumber }: ReserveParams): number | string {
    const run = this.#runs.get(runId)
    if (run === undefined || run.finished !== null) return `no run ${runId} is open`
    if (run.expertKey !== expertKey) return `run ${runId} is of ${run.expertKey}`
    if (run.turn !== 'calls' || stepNumber !== run.stepNumber)
      return `run ${runId} is at step ${run.stepNumber} (${run.turn}), not at the calls of step ${stepNumber}`
    return run.calls.size
  }

  /**
   * Why a machine may not make a call now; undefined when it may, which it then did: once in its life. The names are
   * of a call that is open, and the arguments are those that its human approved. `start` hears what must be in the
   * log before a call is made that may be made once.
   */
  refuseCall(
    { expertKey, toolName, argsHash, callKey, handedBack }: PermitParams,
    start: (fact: CallStarted) => void = () => {},
  ): string | undefined {
    for (const [runId, run] of this.#runs) {
      if (run.expertKey !== expertKey || run.turn !== 'calls' || run.finished !== null) continue
      const expert = this.#lock.experts[run.expertKey as ExpertKey] // its key was looked up when it started
      if (expert === undefined) continue
      for (const call of run.calls.values()) {
        const key = `${runId} ${call.part.callId}`
        if (call.part.name !== toolName || this.#permitted.has(key)) continue
        const args = this.#approvedArgs(expert, call)
        if (args === undefined || hashOf(args) !== argsHash) continue
        if (callKey !== undefined && callKey !== callKeyOf(this.#ownJobId, runId, call.part.callId)) continue
        if (handedBack !== undefined && handedBack !== handsBack(call.elicited ?? [], this.#book)) continue
        if (waitsFor(call.elicited ?? [], this.#book) !== undefined) continue
        if (isOnce(expert, call.part)) {
          if (callKey === undefined || call.isStarted === true) continue
          const place = { runId, expertKey: run.expertKey, stepNumber: run.stepNumber }
          const data = { callId: call.part.callId, effect: 'once', argsHash } as const
          const fact: CallStarted = { type: 'callStarted', data, ...place }
          this.take(fact)
          start(fact)
          return undefined
        }
        this.#permitted.add(key)
        return undefined
      }
    }
    return `no open call of ${toolName} by ${expertKey} with these arguments may be made`
  }

  /** Why a reply may not go to a skill's server: no human gave it to what an open call of the skill asked (A3). */
  refuseReply({
    expertKey,
    skill,
    asked,
    replyHash,
  }: CompartmentName & { readonly asked: Elicitation; readonly replyHash: Sha256 }): string | undefined {
    for (const run of this.#runs.values()) {
      if (run.expertKey !== expertKey || run.turn !== 'calls' || run.finished !== null) continue
      for (const { part, elicited = [] } of run.calls.values()) {
        if (!part.name.startsWith(`${skill}/`)) continue
        if (isReply(elicited, asked, replyHash, this.#book)) return undefined
      }
    }
    return `no human gave this answer to a call of ${skill}`
  }

  /** Where an open call stands, and what it calls; undefined when there is none. */
  openCall(
    runId: RunId,
    callId: string,
  ): { readonly expertKey: string; readonly stepNumber: number; readonly name: string } | undefined {
    const run = this.#runs.get(runId)
    const call = run?.turn === 'calls' && run.finished === null ? run.calls.get(callId) : undefined
    if (run === undefined || call === undefined) return undefined
    return { expertKey: run.expertKey, stepNumber: run.stepNumber, name: call.part.name }
  }

  /** The arguments that a call may be made with; undefined while it may not be made. */
  #approvedArgs(expert: LockedExpert, { part, questionId }: OpenCall): Json | undefined {
    const approval = approvalOf(expert, part)
    if (approval === undefined) return part.args
    const answer = this.#book.answerTo(questionId)
    return answer === undefined ? undefined : approvedArgs(approval, part.args, answer)
  }

  /** A call that was given up for a question is made again once that is closed. */
  #permitAgain(questionId: QuestionId): void {
    const call = this.#elicited.get(questionId)
    if (call !== undefined && !this.#book.isClosed(questionId)) this.#permitted.delete(call)
  }

  /** Takes a recorded fact, whoever wrote it. Facts that fit nothing change nothing. */
  take(fact: PlacedFact): void {
    this.#steering = steer(this.#steering, fact)
    switch (fact.type) {
      case 'jobCreated':
        this.#stepsMax = fact.data.maxSteps
        return
      case 'jobContinued':
        return this.#continue(fact.data)
      case 'answered':
        this.#permitAgain(fact.data.questionId)
        this.#book.answer(fact.data.questionId, fact.data.value)
        if (fact.data.value === 'retry') this.#retry(fact.data.questionId)
        return
      case 'questionExpired':
        this.#permitAgain(fact.data.questionId)
        this.#book.expire(fact.data.questionId)
        return
      case 'leaseGranted':
        return this.#changeCalls((call) => (call.isStarted === true ? { ...call, isLost: true } : call))
      case 'jobForked':
        return this.#fork(fact.data.query, fact.data.maxSteps)
      case 'jobFinished':
        // It may end over its runs' heads; they are closed with it.
        for (const run of this.#runs.values()) run.finished ??= fact.data.reason
        return
      case 'runStarted':
        return this.#start(fact)
      default: {
        const run = fact.runId === null ? undefined : this.#runs.get(fact.runId)
        if (run !== undefined) this.#takeOfRun(run, fact)
      }
    }
  }

  #changeCalls(change: (call: OpenCall) => OpenCall): void {
    for (const run of this.#runs.values()) for (const [id, call] of run.calls) run.calls.set(id, change(call))
  }

  #retry(questionId: QuestionId): void {
    this.#changeCalls((call) => {
      if (call.outcomeId !== questionId) return call
      const { outcomeId: _answered, ...open } = call
      return { ...open, isStarted: false, isLost: false, retries: (call.retries ?? 0) + 1 }
    })
  }

  #continue({ query, maxSteps }: Extract<PlacedFact, { type: 'jobContinued' }>['data']): void {
    this.#stepsMax = maxSteps ?? this.#stepsMax
    const last = this.#lastRoot()
    const goesOn = last?.finished === 'step_limit' || last?.finished === 'budget_exhausted'
    if (query === null && last !== undefined && goesOn) last.finished = null
  }

  #fork(query: string | null, stepsMax: number | null): void {
    this.#stepsMax = stepsMax ?? this.#stepsMax
    if (query === null) return this.#revokeApprovals()
    for (const run of this.#runs.values()) run.finished ??= 'forked'
  }

  /** A human approved the call that the parent made; the one that the fork makes has not been approved. */
  #revokeApprovals(): void {
    this.#forks += 1
    for (const [runId, run] of this.#runs)
      for (const [callId, call] of run.calls) {
        const isTakenUp = call.isStarted === true || this.#runs.has(delegateRunId(this.#jobId, runId, callId))
        if (isTakenUp || call.questionId === undefined || !this.#isApproved(run, call)) continue
        run.calls.set(callId, { ...call, questionId: undefined, fork: this.#forks })
      }
  }

  #isApproved(run: RunPlace, call: OpenCall): boolean {
    const expert = this.#lock.experts[run.expertKey as ExpertKey] // its key was looked up when it started
    if (expert === undefined || approvalOf(expert, call.part) === undefined) return false
    return this.#approvedArgs(expert, call) !== undefined
  }

  #lastRoot(): RunPlace | undefined {
    const last = this.#roots.at(-1)
    return last === undefined ? undefined : this.#runs.get(last)
  }

  #start(fact: Extract<PlacedFact, { type: 'runStarted' }>): void {
    const { runId, expertKey, data } = fact
    if (runId === null || expertKey === null || this.#runs.has(runId)) return
    const stepNumber = data.continues === null ? 0 : (this.#runs.get(data.continues)?.stepNumber ?? 0)
    const { depth } = data
    this.#runs.set(runId, {
      expertKey,
      depth,
      stepNumber,
      turn: 'generate',
      calls: new Map(),
      text: '',
      rejections: 0,
      todos: data.continues === null ? [] : (this.#runs.get(data.continues)?.todos ?? []),
      base: undefined,
      finished: null,
      structured: undefined,
      interrupted: false,
    })
    if (data.parent !== null) return
    this.#roots.push(runId)
  }

  #takeOfRun(run: RunPlace, fact: PlacedFact): void {
    switch (fact.type) {
      case 'toolsListed':
        this.#listed.set(`${run.expertKey} ${fact.data.skill}`, fact.data.tools)
        return
      case 'generationFailed':
      case 'compacted':
      case 'compactionFailed':
        if (fact.runId !== null) this.#generating.delete(fact.runId)
        return
      case 'generationInterrupted':
        if (fact.runId !== null) this.#generating.delete(fact.runId)
        run.interrupted = true
        return
      case 'steered':
        run.turn = 'generate'
        run.interrupted = false
        return
      case 'generated': {
        if (fact.runId !== null) this.#generating.delete(fact.runId)
        this.#steps += 1
        run.stepNumber = fact.stepNumber ?? run.stepNumber + 1
        this.#takeBase(run, fact)
        run.text = run.base?.completion ?? textOf(fact.data.parts)
        run.calls.clear()
        for (const part of fact.data.parts)
          if (part.type === 'toolCall') run.calls.set(part.callId, { part, questionId: undefined })
        run.turn = run.calls.size === 0 ? 'stepEnd' : 'calls'
        // What ends with this step is known now; the calls are gone from the map by then.
        if (run.calls.size === 0) run.calls.set(LAST, { part: NO_CALL, questionId: undefined })
        return
      }
      case 'questionAsked': {
        const { question, resumption = null } = fact.data
        const { callId, id, purpose } = question
        const call = run.calls.get(callId)
        if (call === undefined) return
        if (purpose === 'elicitation') {
          run.calls.set(callId, { ...call, elicited: [...(call.elicited ?? []), { question, resumption }] })
          this.#elicited.set(id, `${fact.runId} ${callId}`)
          return
        }
        run.calls.set(callId, purpose === 'outcome' ? { ...call, outcomeId: id } : { ...call, questionId: id })
        return
      }
      case 'callStarted': {
        const call = run.calls.get(fact.data.callId)
        if (call !== undefined) run.calls.set(fact.data.callId, { ...call, isStarted: true })
        return
      }
      case 'toolReturned':
        run.calls.delete(fact.data.result.callId)
        if (run.turn !== 'calls' || run.calls.size > 0) return
        run.turn = 'stepEnd'
        if ((run.base?.completion ?? null) !== null) run.calls.set(LAST, { part: NO_CALL, questionId: undefined })
        return
      case 'outputRejected':
        run.rejections += 1
        run.calls.delete(LAST)
        return
      case 'stepFinished':
        run.turn = run.calls.has(LAST) ? 'end' : 'generate'
        run.calls.clear()
        return
      case 'runFinished':
        run.finished = fact.data.reason
        run.structured = fact.data.structured
        return
      default:
    }
  }

  #takeBase(run: RunPlace, { runId, data }: Extract<PlacedFact, { type: 'generated' }>): void {
    const expert = this.#lock.experts[run.expertKey as ExpertKey] // its key was looked up when it started
    if (expert === undefined || runId === null) return
    run.base = baseTurn({ expert, runId, stepNumber: run.stepNumber }, run.todos, data.parts)
    run.todos = run.base.todos
  }

  #faultIn(proposal: Proposal): string | undefined {
    if (proposal.type === 'runStarted') return this.#faultInStart(proposal)
    const run = proposal.runId === null ? undefined : this.#runs.get(proposal.runId)
    if (run === undefined) return `run ${proposal.runId} is not of this job`
    if (run.finished !== null) return `run ${proposal.runId} has finished`
    if (run.expertKey !== proposal.expertKey) return `run ${proposal.runId} is of ${run.expertKey}`
    if (run.stepNumber !== proposal.stepNumber)
      return `run ${proposal.runId} is at step ${run.stepNumber}, not ${proposal.stepNumber}`
    const expert = this.#lock.experts[run.expertKey as ExpertKey] // a run's expert was looked up when it started
    if (expert === undefined) return `expert ${run.expertKey} is not in the lock`
    switch (proposal.type) {
      case 'toolsListed':
        return this.#faultInListing(proposal.data, expert)
      case 'skillFailed': {
        const { skill } = proposal.data
        return servedSkillOf(expert, skill) === undefined ? `no server is behind a skill ${skill}` : undefined
      }
      case 'questionAsked':
        return this.#faultInQuestion(proposal, run, expert)
      case 'toolReturned':
        return this.#faultInResult(proposal, run, expert)
      case 'outputRejected': {
        const owed = run.turn === 'stepEnd' && run.calls.has(LAST)
        const message = owed ? rejectionOwed(expert.output, run.text, run.rejections) : undefined
        const isIt = message !== undefined && message === proposal.data.message
        return isIt ? undefined : `the text of run ${proposal.runId} is not rejected like this`
      }
      case 'stepFinished':
        return run.turn === 'stepEnd' ? undefined : `a step cannot end while the run is at ${run.turn}`
      case 'runFinished':
        if (run.depth > 0 && this.interrupts && proposal.data.reason === 'interrupted') return undefined
        return faultInEnd(proposal, run, expert)
      case 'steered':
        return this.#faultInSteering(proposal, run)
      default:
        return undefined
    }
  }

  #faultInListing(
    { skill, tools }: Extract<Proposal, { type: 'toolsListed' }>['data'],
    expert: LockedExpert,
  ): string | undefined {
    const locked = servedSkillOf(expert, skill)
    if (locked === undefined) return `expert ${expert.key} has no skill ${skill} with a server`
    if (this.#listed.has(`${expert.key} ${skill}`)) return `the tools of ${skill} are listed already`
    const drift = locked.tools === undefined ? undefined : driftOf(locked.tools, tools)
    return drift === undefined ? undefined : `the tools of ${skill} are not those of the lock: ${drift}`
  }

  #faultInStart(proposal: Extract<Proposal, { type: 'runStarted' }>): string | undefined {
    const { runId, expertKey, stepNumber, data } = proposal
    if (runId === null || this.#runs.has(runId)) return `run ${runId} has been started`
    if (stepNumber !== 0) return 'a run starts at step 0'
    return data.parent === null
      ? this.#faultInRoot(runId, expertKey, data)
      : this.#faultInDelegate(runId, expertKey, data, data.parent)
  }

  #faultInRoot(runId: RunId, expertKey: string | null, data: RunOpening): string | undefined {
    const last = this.#lastRoot()
    const fits =
      expertKey === this.#lock.coordinator &&
      runId === rootRunId(this.#jobId, this.#roots.length) &&
      data.query === nextQuery(this.#steering) &&
      data.depth === 0 &&
      data.continues === (this.#roots.at(-1) ?? null) &&
      (last === undefined || last.finished !== null)
    return fits ? undefined : `run ${runId} is not what the job asks its coordinator for`
  }

  #faultInDelegate(
    runId: RunId,
    expertKey: string | null,
    data: RunOpening,
    parent: NonNullable<RunOpening['parent']>,
  ): string | undefined {
    const caller = this.#runs.get(parent.runId)
    const call = caller?.calls.get(parent.callId)
    if (caller === undefined || caller.finished !== null || call === undefined)
      return `run ${runId} names a call that is not open`
    const alias = aliasOf(call.part)
    const delegates = this.#lock.experts[caller.expertKey as ExpertKey]?.delegates ?? {} // checked as above
    const key = alias !== undefined && Object.hasOwn(delegates, alias) ? delegates[alias] : undefined
    const locked = this.#lock.experts[caller.expertKey as ExpertKey]
    const args = locked === undefined ? undefined : this.#approvedArgs(locked, call)
    const fits =
      key !== undefined &&
      expertKey === key &&
      runId === delegateRunId(this.#jobId, parent.runId, parent.callId) &&
      args !== undefined &&
      isJsonObject(args) &&
      args['query'] === data.query &&
      data.continues === null &&
      data.depth === caller.depth + 1 &&
      data.depth <= DEPTH_MAX
    return fits ? undefined : `run ${runId} is not what call ${parent.callId} delegates`
  }

  #faultInSteering(proposal: Extract<Proposal, { type: 'steered' }>, run: RunPlace): string | undefined {
    const { runId, data } = proposal
    if (run !== this.#lastRoot() || runId === null) return `run ${runId} is not the coordinator's`
    if (run.turn !== 'generate' && run.turn !== 'end') return `a query is not read while the run is at ${run.turn}`
    if (this.#generating.has(runId)) return `a query is not read while run ${runId} generates`
    // More may have been queued since the machine was told.
    return isNext(this.#steering, data.queries) ? undefined : `these are not the queries that wait for run ${runId}`
  }

  #faultInQuestion(
    proposal: Extract<Proposal, { type: 'questionAsked' }>,
    run: RunPlace,
    expert: LockedExpert,
  ): string | undefined {
    const { question, resumption = null } = proposal.data
    const call = run.calls.get(question.callId)
    if (resumption !== null && question.purpose !== 'elicitation') return `question ${question.id} is of no server`
    if (call === undefined || proposal.runId === null) return `call ${question.callId} asks nobody`
    if (question.purpose === 'outcome') return this.#faultInDoubt(question, proposal.runId, expert, call)
    if (question.purpose === 'elicitation')
      return this.#faultInElicitation({ question, resumption }, proposal.runId, run, expert, call)
    const tool = interactiveTool(expert, call.part)
    const approval = approvalOf(expert, call.part)
    if (tool === undefined && approval === undefined) return `call ${question.callId} asks nobody`
    if (call.questionId !== undefined) return `question ${question.id} has been asked`
    const owed =
      approval === undefined
        ? tool && questionOf(this.#jobId, proposal.runId, call.part, tool)
        : approvalQuestionOf(this.#jobId, proposal.runId, call.part, approval)
    const own = owed === undefined || call.fork === undefined ? owed : askedAgain(owed, call.fork)
    if (own !== undefined && canonical(own) === canonical(question)) return undefined
    return `question ${question.id} is not what call ${question.callId} asks`
  }

  #faultInDoubt(question: Question, runId: RunId, expert: LockedExpert, call: OpenCall): string | undefined {
    if (call.isStarted !== true) return `call ${question.callId} was not started`
    if (call.outcomeId !== undefined) return `question ${call.outcomeId} has been asked`
    const args = this.#approvedArgs(expert, call)
    const owed = args && outcomeQuestionOf(this.#jobId, runId, { ...call.part, args }, call.retries ?? 0)
    if (owed !== undefined && hashOf(owed) === hashOf(question)) return undefined
    return `question ${question.id} is not what call ${question.callId} asks`
  }

  #faultInElicitation(put: Put, runId: RunId, run: RunPlace, expert: LockedExpert, call: OpenCall): string | undefined {
    const { elicited = [], part } = call
    const isMade = this.#aims(run, expert, part) && aliasOf(part) === undefined && !isOnce(expert, part)
    if (!isMade || this.#approvedArgs(expert, call) === undefined) return `no skill of call ${part.callId} may ask`
    const owner = part.name.slice(0, part.name.indexOf('/'))
    const timeoutSeconds = servedSkillOf(expert, owner)?.questionTimeoutSeconds
    return faultInElicitation(put, { jobId: this.#jobId, runId, part, elicited, timeoutSeconds }, this.#book)
  }

  #faultInResult(
    proposal: Extract<Proposal, { type: 'toolReturned' }>,
    run: RunPlace,
    expert: LockedExpert,
  ): string | undefined {
    const { result } = proposal.data
    const call = run.turn === 'calls' ? run.calls.get(result.callId) : undefined
    if (call === undefined) return `call ${result.callId} is not open`
    if (call.part.name !== result.name) return `call ${result.callId} is of ${call.part.name}, not ${result.name}`
    const base = run.base?.answers.get(result.callId)
    if (base !== undefined) {
      const isIt = canonical(baseResult(call.part, base)) === canonical(result)
      return isIt ? undefined : `the result of ${result.callId} is not what ${result.name} answers`
    }
    const asked = call.outcomeId ?? call.questionId
    const hasAnswer = this.#book.answerTo(asked) !== undefined
    if (result.isError && !hasAnswer && this.interrupts && run === this.#lastRoot()) return undefined
    if (interactiveTool(expert, call.part) !== undefined) {
      if (call.questionId === undefined) return result.isError ? undefined : `call ${result.callId} has not been asked`
      const answer = this.#book.answerTo(call.questionId)
      if (answer === undefined && this.#book.isExpired(call.questionId) && result.isError) return undefined
      if (answer === undefined) return `question ${call.questionId} has no answer`
      const isIt = canonical(answer) === canonical(result.structured ?? null) && !result.isError
      return isIt ? undefined : `the result of ${result.callId} is not the answer to ${call.questionId}`
    }
    const open = waitsFor(call.elicited ?? [], this.#book)
    if (open !== undefined && !(this.interrupts && run === this.#lastRoot()))
      return `call ${result.callId} waits for the answer to ${open.id}`
    const unsaid = isOnce(expert, call.part) ? this.#faultInOnce(result, call) : undefined
    if (unsaid !== undefined) return unsaid
    const mayReturn = result.isError ? this.#mayFail(run, expert, call) : this.#approvedArgs(expert, call) !== undefined
    if (!mayReturn) return `call ${result.callId} was not approved`
    if (aliasOf(call.part) === undefined || result.isError || proposal.runId === null) return undefined
    const delegate = this.#runs.get(delegateRunId(this.#jobId, proposal.runId, result.callId))
    if (delegate?.finished !== 'completed') return `the delegate of call ${result.callId} has not completed`
    const isIt = isSame(delegate.structured, result.structured)
    return isIt ? undefined : `the result of ${result.callId} is not what its delegate completed with`
  }

  /** A call in doubt returns what its human said; one that was not started has nothing to return but why. */
  #faultInOnce(result: ToolResultPart, call: OpenCall): string | undefined {
    if (call.isStarted !== true) return result.isError ? undefined : `call ${result.callId} was not started`
    if (call.outcomeId === undefined)
      return call.isLost === true ? `what came of call ${result.callId} is unknown` : undefined
    const answer = this.#book.answerTo(call.outcomeId)
    const said = answer === undefined ? undefined : outcomeResult(call.part, answer)
    if (said !== undefined && canonical(said) === canonical(result)) return undefined
    return `the result of ${result.callId} is not the answer to ${call.outcomeId}`
  }

  /** A call fails that was made or denied, or one that aims at nothing, which needs no approval. */
  #mayFail(run: RunPlace, expert: LockedExpert, call: OpenCall): boolean {
    if (approvalOf(expert, call.part) === undefined) return true
    const { questionId } = call
    if (questionId !== undefined) return this.#book.isClosed(questionId)
    return !this.#aims(run, expert, call.part)
  }

  #aims(run: RunPlace, expert: LockedExpert, { name, args }: ToolCallPart): boolean {
    if (!isJsonObject(args)) return false
    const slash = name.indexOf('/')
    const owner = name.slice(0, Math.max(0, slash))
    const rest = name.slice(slash + 1)
    if (owner === 'delegate') {
      const { query } = args
      const says = typeof query === 'string' && query.trim() !== ''
      return says && run.depth < DEPTH_MAX && Object.hasOwn(expert.delegates, rest)
    }
    const skill = servedSkillOf(expert, owner)
    if (skill === undefined) return false
    const isOffered = (skill.pick?.includes(rest) ?? true) && !skill.omit.includes(rest)
    const tools = toolsBeforeStart(skill) ?? this.#listed.get(`${run.expertKey} ${owner}`)
    const tool = tools?.find((one) => one.name === rest)
    return isOffered && tool !== undefined && argumentFault(tool.inputSchema, args) === undefined
  }
}

type RunOpening = Extract<RunFact, { type: 'runStarted' }>['data']

function faultInEnd(
  proposal: Extract<Proposal, { type: 'runFinished' }>,
  run: RunPlace,
  expert: LockedExpert,
): string | undefined {
  const { outcome, reason, result, structured } = proposal.data
  if (outcome === 'canceled') return 'only the control plane cancels'
  if (outcome === 'failed') return reason === 'completed' ? 'a failed run has a reason' : undefined
  const isEnd = run.turn === 'end' && reason === 'completed' && result === run.text
  if (!isEnd) return 'a run completes with the text that its model wrote last'
  const output = expert.output === undefined ? { value: undefined } : readOutput(expert.output, run.text)
  if ('fault' in output) return `a run of ${expert.key} completes with what its expert owes: ${output.fault}`
  return isSame(output.value, structured) ? undefined : 'a run completes with what its text says, as data'
}

function isSame(one: Json | undefined, other: Json | undefined): boolean {
  if (one === undefined || other === undefined) return one === other
  return canonical(one) === canonical(other)
}
