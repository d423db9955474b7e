/**
 * What a machine elsewhere says to the control plane over HTTP before it has a job, and how its lines travel once it
 * has one: PROTOCOL.md, part 9. Either side parses what it hears.
 */
import * as z from 'zod'
import { LINE_BYTES_MAX } from './control.ts'
import { parseId, type JobId, type MachineId } from './id.ts'
import type { ImageFacts } from './machine-image.ts'
import type { MachinePlan } from './machine-plan.ts'

export const LINK_PROTOCOL = 2

/** How long the control plane may hold a poll of a parked machine. */
export const PARK_MS = 2_000
/** Between two polls of a machine that is about to be suspended, or was. */
export const WAKE_MS = 50
/** A batch of lines is sent at this many bytes, or at once while none is on its way. */
export const BATCH_BYTES = 64 * 1024
/** What a body of lines may weigh: a batch, and one line that is longer than that. */
export const BATCH_BYTES_MAX = LINE_BYTES_MAX + BATCH_BYTES
/** Anything else that a machine says. */
export const LINK_BYTES_MAX = 64 * 1024
/** Of the reason why a machine can do no job. */
export const UNFIT_CHARS_MAX = 1_000
/** A machine with a job says something at least this often, and a control plane that holds a stream open, too. */
export const BEAT_MS = 5_000
/** Without a word for this long, either side holds the other for lost. */
export const LOST_MS = 30_000

export interface EnrolRequest {
  readonly protocol: typeof LINK_PROTOCOL
  readonly machineId: MachineId
  /** New at every boot; the same after a resume. */
  readonly bootId: string
  /** A token of the provider that says which machine this is. */
  readonly identity: string
  readonly image: ImageFacts
}

export interface Enrolled {
  /** Says from then on that it is this machine in this boot; worth nothing once the machine was stopped. */
  readonly secret: string
  readonly plan: MachinePlan
}

export interface LinkRequest {
  readonly machineId: MachineId
  readonly bootId: string
}

/** A machine that can do no job says why, and ends. */
export interface UnfitRequest extends LinkRequest {
  /** For operators: one line. */
  readonly reason: string
}

/** Where a machine finds its job. */
export interface Assignment {
  readonly linesUrl: string
  readonly jobId: JobId
  readonly fence: number
}

export type LinkAnswer =
  /** Nothing to do: ask again. */
  | { readonly type: 'wait' }
  /** Suspend yourself, and ask at `wake` from before until after. */
  | { readonly type: 'suspend' }
  | { readonly type: 'assigned'; readonly assignment: Assignment }
  /** Nobody wants it any more: end. */
  | { readonly type: 'end'; readonly reason: string }

/** How the supervisor of a machine ended, and the end of its stderr. */
export interface MachineEnd {
  readonly reason: string
  readonly stderrTail: string
}

const path = z.string().startsWith('/').max(4096)
const bootId = z.string().regex(/^[0-9a-zA-Z-]{8,64}$/)
const machineId = z.custom<MachineId>((value) => parseId('mch', value) !== undefined, 'not a machine id')
const jobId = z.custom<JobId>((value) => parseId('job', value) !== undefined, 'not a job id')

const imageFacts: z.ZodType<ImageFacts> = z.object({
  arch: z.enum(['x64', 'arm64']),
  node: path,
  bwrap: path,
  files: path,
  home: path,
})

export const parseImageFacts = parser(imageFacts)
export const parseEnrolRequest = parser<EnrolRequest>(
  z.object({
    protocol: z.literal(LINK_PROTOCOL),
    machineId,
    bootId,
    identity: z.string().min(1).max(16_384),
    image: imageFacts,
  }),
)
export const parseLinkRequest = parser<LinkRequest>(z.object({ machineId, bootId }))
export const parseUnfitRequest = parser<UnfitRequest>(
  z.object({
    machineId,
    bootId,
    // It is shown to humans: what would move their cursor is left out.
    reason: z
      .string()
      .max(UNFIT_CHARS_MAX)
      .transform((text) => text.replaceAll(/[\p{Cc}\p{Cf}]+/gu, ' ').trim()),
  }),
)
/** What the control plane says is trusted: only its envelope is looked at. */
export const parseEnrolled = parser<Enrolled>(
  z.object({
    secret: z.string().min(32),
    plan: z.custom<MachinePlan>((value) => typeof value === 'object' && value !== null && 'runner' in value),
  }),
)
export const parseLinkAnswer = parser<LinkAnswer>(
  z.discriminatedUnion('type', [
    z.object({ type: z.literal('wait') }),
    z.object({ type: z.literal('suspend') }),
    z.object({
      type: z.literal('assigned'),
      assignment: z.object({
        linesUrl: z.url({ protocol: /^https?$/ }),
        jobId,
        fence: z.int().min(0),
      }),
    }),
    z.object({ type: z.literal('end'), reason: z.string() }),
  ]),
)
export const parseMachineEnd = parser<MachineEnd>(
  z.object({ reason: z.string().max(500), stderrTail: z.string().max(4_096) }),
)
/** How far the lines of a machine have come: those up to `acked` need not be sent again. */
export const parseAcked = parser<{ readonly acked: number }>(z.object({ acked: z.int().min(0) }))

/** Gives undefined for what has another shape. */
function parser<Value>(shape: z.ZodType<Value>): (value: unknown) => Value | undefined {
  return (value) => {
    const parsed = shape.safeParse(value)
    return parsed.success ? parsed.data : undefined
  }
}

/** The headers of a request about lines: `<machine> <boot> <job> <fence>`. */
export interface LinkName extends LinkRequest {
  readonly jobId: JobId
  readonly fence: number
}
export const LINK_HEADER = 'senmon-link'

export function printLinkName({ machineId: machine, bootId: boot, jobId: job, fence }: LinkName): string {
  return `${machine} ${boot} ${job} ${fence}`
}

export function parseLinkName(text: string | undefined): LinkName | undefined {
  const [machine, boot, job, fence, ...rest] = (text ?? '').split(' ')
  const parsed = { machineId: parseId('mch', machine), bootId: boot, jobId: parseId('job', job), fence: Number(fence) }
  if (rest.length > 0 || parsed.machineId === undefined || parsed.jobId === undefined) return undefined
  if (!bootId.safeParse(boot).success || !/^\d{1,15}$/.test(fence ?? '')) return undefined
  return { machineId: parsed.machineId, bootId: boot ?? '', jobId: parsed.jobId, fence: parsed.fence }
}
