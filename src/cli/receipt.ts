/** The receipt of a canceled job, as a person reads it. Pure. */
import { z } from 'zod'
import type { JsonObject } from '../../schema/json.ts'
import { shownLine } from './terminal.ts'

/** What the receipt is asked for. */
export const RECEIPT_FIELDS = `cancellation { durationMs
  stopped { runs { expertKey stepNumber } questions machine { host skills processes } }
  inFlight { generations { expertKey stepNumber } calls { toolName effect outcome } }
  unknown { calls { toolName } } }`

const run = z.object({ expertKey: z.string(), stepNumber: z.number() })
const call = z.object({ toolName: z.string(), effect: z.string().nullable(), outcome: z.string() })
const receipt = z.object({
  durationMs: z.number(),
  stopped: z.object({
    runs: z.array(run),
    questions: z.array(z.string()),
    machine: z.object({ host: z.string(), skills: z.array(z.string()).nullable(), processes: z.number() }).nullable(),
  }),
  inFlight: z.object({ generations: z.array(run), calls: z.array(call) }),
})

const OUTCOMES: Readonly<Record<string, string>> = {
  notStarted: 'not started',
  noEffect: 'without effect',
  unknown: 'unknown: it may have taken effect',
}

/** Lines below the job's own; none when there is no receipt. */
export function printReceipt(value: JsonObject | null): string {
  const parsed = receipt.safeParse(value)
  if (!parsed.success) return ''
  const { durationMs, stopped, inFlight } = parsed.data
  const { machine } = stopped
  const lines = [
    `ended in ${(durationMs / 1000).toFixed(1)} s`,
    ...stopped.runs.map((one) => `stopped: run of ${one.expertKey} at step ${one.stepNumber}`),
    ...(machine?.skills ?? []).map((skill) => `stopped: skill ${skill}`),
    ...(machine === null ? [] : [`stopped: machine ${machine.host} with ${machine.processes} processes`]),
    ...stopped.questions.map((id) => `withdrawn: question ${id}`),
    ...inFlight.generations.map((one) => `cut: a generation of ${one.expertKey} for step ${one.stepNumber + 1}`),
    ...inFlight.calls.map((one) => `in flight: ${one.toolName}, ${OUTCOMES[one.outcome] ?? one.outcome}`),
  ]
  return lines.map((line) => `  ${shownLine(line, LINE_CHARS_MAX)}\n`).join('')
}

const LINE_CHARS_MAX = 200
