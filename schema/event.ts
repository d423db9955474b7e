/**
 * What happened in a job: facts in the past tense, never changed, each with a version (`v`) so that old logs stay readable.
 *
 * Who writes what. The control plane alone writes the events of JobFact and those of HostFact (`generated`, say), and the
 * questions that a budget puts; a machine may propose only those of RunFact. A line from a machine with any other type
 * is dropped.
 */
import type { Amount, Budget } from './budget.ts'
import type { Cancellation } from './cancellation.ts'
import { canonical, sha256, type Sha256 } from './hash.ts'
import type { JobId, MachineId, QuestionId, RunId } from './id.ts'
import type { Json, JsonObject } from './json.ts'
import type { GeneratedPart, ToolDefinition, ToolResultPart } from './message.ts'
import type { Usage } from './usage.ts'

export const JOB_STATUSES = ['queued', 'running', 'waiting', 'finished'] as const
export type JobStatus = (typeof JOB_STATUSES)[number]
export const OUTCOMES = ['completed', 'failed', 'canceled'] as const
export type Outcome = (typeof OUTCOMES)[number]
export const STEER_MODES = ['queue', 'interrupt'] as const
/** `queue`: read before the coordinator's next generation. `interrupt`: what is under way is given up for it. */
export type SteerMode = (typeof STEER_MODES)[number]

/** How a machine came to hold the job. */
export type Resume = 'resumed' | 'cold' | 'reserve' | 'created'

export interface MachineFacts {
  /** The kind of host: local, docker, fly, unsafe-process. */
  readonly host: string
  readonly resume: Resume
  /** From the grant of the lease to the machine's first line, in ms. */
  readonly dispatchMs: number
  /** Proof of which boot answered. */
  readonly bootId: string
  /** The pool's name for it; left out where no pool kept it. */
  readonly machineId?: MachineId
  /** How long each part of it took, in ms: to have a machine, to have it started, until it was there. */
  readonly phases?: { readonly claim: number; readonly start: number; readonly wake: number }
}

export type QuestionKind = 'confirm' | 'ask' | 'choose' | 'schema'
/**
 * Why a job asks, where it is not a tool's own question: `outcome` asks what came of a call, `elicitation` what a skill's
 * server wants to know in the middle of one, `budget` for room.
 */
export const QUESTION_PURPOSES = ['approval', 'outcome', 'budget', 'elicitation'] as const
export type QuestionPurpose = (typeof QUESTION_PURPOSES)[number]

/** A question put to the job's human. Its id follows from job, run, call and arguments: asked again, it is the same. */
export interface Question {
  readonly id: QuestionId
  readonly runId: RunId
  /** The call that asks; of a budget, what waits for room: `generation_<step>` or `calls_<step>`, names that no call has. */
  readonly callId: string
  /** Left out for the question of an interactive tool, and for an approval. */
  readonly purpose?: QuestionPurpose
  readonly kind: QuestionKind
  readonly title: string
  /** JSON Schema that an answer must satisfy: boolean for confirm, string for ask, an enum for choose. */
  readonly schema: JsonObject
  readonly toolName: string
  readonly args: Json
  readonly argsHash: Sha256
  /** How long after it was asked it may be answered; left out for no limit. */
  readonly timeoutSeconds?: number
}

/**
 * What a server of MCP's newer line needs to go on where it asked: it has answered the call with its questions, and
 * remembers nothing. The call that is made again hands it back.
 */
export interface Resumption {
  /** The server's name for the question. */
  readonly key: string
  /** How many questions the call had put before: those that came together have the same, and go back together. */
  readonly from: number
  /** How many come together. */
  readonly of: number
  /** The server's own words, given back as they are; null for none. */
  readonly state: string | null
}

/** What happens to a job as a whole. */
export type JobFact =
  | {
      readonly type: 'jobCreated'
      readonly data: {
        readonly expertKey: string
        readonly query: string | null
        readonly userId: string | null
        readonly model: string | null
        readonly maxSteps: number | null
        readonly lockHash: Sha256
        /** Tree of the read-only input files; null for none. */
        readonly inputTreeHash: Sha256 | null
        /** Bounds all runs together; left out for no bound. */
        readonly budget?: Budget
      }
    }
  | { readonly type: 'leaseGranted'; readonly data: { readonly fence: number; readonly holder: string } }
  | { readonly type: 'machineStarted'; readonly data: MachineFacts }
  | {
      readonly type: 'leaseExpired'
      readonly data: {
        readonly fence: number
        readonly reason: string
        /** The last words of the machine, or of who was to start it, cleaned; left out for none, and in old logs. */
        readonly detail?: string
      }
    }
  | { readonly type: 'answered'; readonly data: { readonly questionId: QuestionId; readonly value: Json } }
  /** The time for an answer is over: an approval is denied, a question of a tool stays without an answer. */
  | { readonly type: 'questionExpired'; readonly data: { readonly questionId: QuestionId } }
  /**
   * A finished job goes on: with a further query, or with more steps or a higher budget than it had. With `mode` the
   * job was open, and its query waits to be read.
   */
  | {
      readonly type: 'jobContinued'
      readonly data: {
        readonly query: string | null
        readonly maxSteps: number | null
        readonly budget?: Budget
        readonly mode?: SteerMode
      }
    }
  | { readonly type: 'cancelRequested'; readonly data: { readonly reason: string } }
  /**
   * Everything before this was copied from another job, fact by fact under the same `seq`; what follows is this
   * job's own. `parentHash` is the hash of the last copied fact in the parent's chain.
   */
  | {
      readonly type: 'jobForked'
      readonly data: {
        readonly parentJobId: JobId
        readonly parentSeq: number
        readonly parentHash: Sha256
        /** The job that no fork made, at the root of all: its id is what ids of runs and questions derive from. */
        readonly originJobId: JobId
        /** Ends the runs that are open and asks the coordinator this; null goes on where the parent stood. */
        readonly query: string | null
        /** Null leaves what the parent had. */
        readonly model: string | null
        readonly maxSteps: number | null
        /** New totals for all runs together, what the parent had used among them; left out for what the parent had. */
        readonly budget?: Budget
        readonly lockHash: Sha256
        /** The expert whose instruction the fork's lock replaces; null when the lock is the parent's. */
        readonly instructed: string | null
      }
    }
  /** The log before this was brought here as a bundle; nothing follows. */
  | { readonly type: 'jobImported'; readonly data: { readonly headHash: Sha256 } }
  /** Nothing can move until a human answers; the machine is gone. */
  | { readonly type: 'jobRested'; readonly data: { readonly questionIds: readonly QuestionId[] } }
  | {
      readonly type: 'jobFinished'
      readonly data: {
        readonly outcome: Outcome
        readonly reason: string
        readonly message: string | null
        readonly result: string | null
        /** The result as data, of an expert that owes one; left out otherwise. */
        readonly structured?: Json
        /** Of a canceled job: what its end ended; left out in old logs. */
        readonly cancellation?: Cancellation
      }
    }

/** What the control plane records of a run, on the run's behalf. */
export type HostFact =
  | {
      readonly type: 'generated'
      readonly data: {
        readonly parts: readonly GeneratedPart[]
        readonly usage: Usage
        readonly model: string
        readonly finishReason: string
        /** Names the stored prompt (instruction and tools) of this generation. */
        readonly promptHash: Sha256
        readonly durationMs: number
        /** Tokens that the model reads at most; left out when that is not known. */
        readonly contextWindow?: number
      }
    }
  | {
      readonly type: 'generationFailed'
      readonly data: { readonly code: string; readonly message: string; readonly model: string }
    }
  /** A query interrupted it: what it had brought is not part of the run. `usage` is null when it was cut off. */
  | {
      readonly type: 'generationInterrupted'
      readonly data: { readonly model: string; readonly usage: Usage | null; readonly durationMs: number }
    }
  /** A summary stands in place of all messages between the first and the last `kept`, from here on. */
  | {
      readonly type: 'compacted'
      readonly data: {
        readonly summary: string
        readonly kept: number
        readonly usage: Usage
        readonly model: string
        readonly promptHash: Sha256
        readonly durationMs: number
      }
    }
  /** There is no summary; the run goes on with the messages that it has, if its model takes them. */
  | {
      readonly type: 'compactionFailed'
      readonly data: {
        readonly code: string
        readonly message: string
        readonly model: string
        /** What was used all the same; null when that is not known. */
        readonly usage: Usage | null
      }
    }
  | { readonly type: 'workspaceChanged'; readonly data: { readonly treeHash: Sha256 } }
  /** A call that may be made once is about to be: what comes of it is unknown until it returns. */
  | {
      readonly type: 'callStarted'
      readonly data: { readonly callId: string; readonly effect: 'once'; readonly argsHash: Sha256 }
    }
  /** Set aside under a budget before it is spent: what a generation may take, or the calls of a step. */
  | { readonly type: 'budgetReserved'; readonly data: { readonly of: 'generation' | 'calls'; readonly amount: Amount } }
  /** A budget has no room for the run: it waits for this question. */
  | {
      readonly type: 'budgetHeld'
      readonly data: { readonly of: 'generation' | 'calls'; readonly questionId: QuestionId }
    }

/** What a machine may propose. */
export type RunFact =
  | {
      readonly type: 'runStarted'
      readonly data: {
        readonly query: string
        /** The run and call that delegated; null for the coordinator's. */
        readonly parent: { readonly runId: RunId; readonly callId: string } | null
        /** The run whose conversation this one goes on with, after a continue. */
        readonly continues: RunId | null
        readonly depth: number
      }
    }
  | {
      readonly type: 'toolsListed'
      readonly data: { readonly skill: string; readonly tools: readonly ToolDefinition[] }
    }
  | {
      readonly type: 'skillFailed'
      readonly data: { readonly skill: string; readonly code: string; readonly message: string }
    }
  | { readonly type: 'toolReturned'; readonly data: { readonly result: ToolResultPart; readonly durationMs: number } }
  | {
      readonly type: 'questionAsked'
      /** `resumption` is of a question that a server asked in place of a result; left out for every other. */
      readonly data: { readonly question: Question; readonly resumption?: Resumption }
    }
  /** The text that would have ended the run is not the result that its expert owes; its model reads `message`. */
  | { readonly type: 'outputRejected'; readonly data: { readonly message: string } }
  /** The coordinator's run reads queries that were put while it was open, before its next generation. */
  | { readonly type: 'steered'; readonly data: { readonly queries: readonly string[] } }
  /** A step's end: the checkpoint. `stateHash` chains over what the step added to the run. */
  | { readonly type: 'stepFinished'; readonly data: { readonly stateHash: Sha256 } }
  | {
      readonly type: 'runFinished'
      readonly data: {
        readonly outcome: Outcome
        readonly reason: string
        readonly message: string | null
        readonly result: string | null
        /** The result as data, of an expert that owes one; left out otherwise. */
        readonly structured?: Json
      }
    }

export type Fact = JobFact | HostFact | RunFact
export type EventType = Fact['type']

/** Where in a job a fact belongs; all null for facts of the job as a whole. */
export interface Place {
  readonly runId: RunId | null
  readonly expertKey: string | null
  /** 1 for a run's first step, or one more than the last of the run it continues; 0 before it; null for facts of the job. */
  readonly stepNumber: number | null
}

export type NewEvent = Fact & Place & { readonly v: 1 }

/** A recorded event. `seq` counts 1, 2, 3 ... within the job; `hash` covers everything here and `prevHash`. */
export type JobEvent = NewEvent & {
  readonly jobId: JobId
  readonly seq: number
  /** Epoch milliseconds. */
  readonly at: number
  readonly prevHash: Sha256
  readonly hash: Sha256
  /** What the log holds, when this was made of an event of an older version: every hash is over it. */
  readonly stored?: StoredForm
}

/** What of an event depends on its version. */
export interface StoredForm {
  readonly v: number
  readonly type: string
  readonly data: unknown
}

export type EventOf<Type extends EventType> = Extract<JobEvent, { readonly type: Type }>

export const RUN_FACT_TYPES: ReadonlySet<string> = new Set<RunFact['type']>([
  'runStarted',
  'toolsListed',
  'skillFailed',
  'toolReturned',
  'questionAsked',
  'outputRejected',
  'steered',
  'stepFinished',
  'runFinished',
])

/** The hash before a job's first event: it binds the chain to the job. */
export function genesisHash(jobId: JobId): Sha256 {
  return sha256(`senmon job ${jobId}`)
}

/** Numbers, stamps and chains new events after (`revision`, `headHash`). */
export function chain(
  jobId: JobId,
  revision: number,
  headHash: Sha256,
  at: number,
  events: readonly NewEvent[],
): readonly JobEvent[] {
  const chained: JobEvent[] = []
  let prevHash = headHash
  for (const [i, event] of events.entries()) {
    const open = { ...event, jobId, seq: revision + i + 1, at, prevHash }
    const hash = hashEvent(open)
    chained.push({ ...open, hash } as JobEvent)
    prevHash = hash
  }
  return chained
}

/** The same facts at the same moments as the log of a job, from its genesis: what a fork begins with. */
export function rechain(
  jobId: JobId,
  events: readonly (NewEvent & { readonly at: number; readonly stored?: StoredForm })[],
): readonly JobEvent[] {
  const chained: JobEvent[] = []
  let prevHash = genesisHash(jobId)
  for (const [i, { v, type, runId, expertKey, stepNumber, at, data, stored }] of events.entries()) {
    const older = stored === undefined ? {} : { stored }
    const open = { v, type, runId, expertKey, stepNumber, at, data, jobId, seq: i + 1, prevHash, ...older } as JobEvent
    prevHash = hashEvent(open)
    chained.push({ ...open, hash: prevHash })
  }
  return chained
}

/**
 * The job whose id the ids of runs and questions in this log derive from: the job itself, or the one at the root of
 * its forks, so that what a fork copied and what it goes on with name the same things alike.
 */
export function originOf(jobId: JobId, facts: readonly Fact[]): JobId {
  for (const fact of facts) if (fact.type === 'jobForked') return fact.data.originJobId
  return jobId
}

/** SHA-256 over the canonical text of everything in an event, as the log holds it, but `hash`. */
export function hashEvent(event: Omit<JobEvent, 'hash'>): Sha256 {
  const { jobId, seq, runId, expertKey, stepNumber, at, prevHash } = event
  const { v, type, data } = event.stored ?? event
  // What canonical makes of an object with these members, which it would sort each time.
  const head = `"at":${canonical(at)},"data":${canonical(data)},"expertKey":${canonical(expertKey)}`
  const middle = `"jobId":${canonical(jobId)},"prevHash":${canonical(prevHash)},"runId":${canonical(runId)}`
  const place = `"seq":${canonical(seq)},"stepNumber":${canonical(stepNumber)}`
  return sha256(`{${head},${middle},${place},"type":${canonical(type)},"v":${canonical(v)}}`)
}

/** The seq of the first event that breaks the chain, or undefined when all of it holds. */
export function firstBroken(jobId: JobId, events: readonly JobEvent[]): number | undefined {
  let prevHash = genesisHash(jobId)
  for (const [i, event] of events.entries()) {
    const whole = event.jobId === jobId && event.seq === i + 1 && event.prevHash === prevHash
    if (!whole || hashEvent(event) !== event.hash) return i + 1
    prevHash = event.hash
  }
  return undefined
}
