/** The receipt of a canceled job. */
import {
  CALL_OUTCOMES,
  type CanceledCall,
  type CanceledMachine,
  type CanceledRun,
  type Cancellation,
} from '../../schema/cancellation.ts'
import { CALL_EFFECTS } from '../../schema/effect.ts'
import { builder } from './builder.ts'

const CallOutcomeRef = builder.enumType('CallOutcome', {
  description:
    'notStarted: it never reached its tool. noEffect: its tool changes nothing. unknown: it may have taken effect.',
  values: CALL_OUTCOMES,
})
const CallEffectRef = builder.enumType('CallEffect', {
  description: 'What happens when a call is made again, as the author of its expert declares it.',
  values: CALL_EFFECTS,
})

const CanceledRunRef = builder.objectRef<CanceledRun>('CanceledRun').implement({
  fields: (t) => ({
    runId: t.exposeID('runId'),
    expertKey: t.exposeString('expertKey'),
    stepNumber: t.exposeInt('stepNumber'),
  }),
})
const CanceledCallRef = builder.objectRef<CanceledCall>('CanceledCall').implement({
  fields: (t) => ({
    runId: t.exposeID('runId'),
    callId: t.exposeString('callId'),
    toolName: t.exposeString('toolName'),
    effect: t.expose('effect', { type: CallEffectRef, nullable: true, description: 'null: nothing is declared.' }),
    outcome: t.expose('outcome', { type: CallOutcomeRef }),
  }),
})
const CanceledMachineRef = builder.objectRef<CanceledMachine>('CanceledMachine').implement({
  fields: (t) => ({
    host: t.exposeString('host'),
    skills: t.exposeStringList('skills', {
      nullable: true,
      description: 'Expert and skill of each compartment that was ended; null when the machine did not say.',
    }),
    processes: t.exposeInt('processes', { description: 'How many processes it had; all are gone.' }),
  }),
})
const StoppedRef = builder.objectRef<Cancellation['stopped']>('CanceledWork').implement({
  description: 'What was ended.',
  fields: (t) => ({
    runs: t.expose('runs', { type: [CanceledRunRef], description: "The coordinator's and those of delegates." }),
    questions: t.exposeIDList('questions', { description: 'Questions that nobody needs to answer any more.' }),
    machine: t.expose('machine', {
      type: CanceledMachineRef,
      nullable: true,
      description: 'null when no machine held the job, or when it had gone before.',
    }),
  }),
})
const InFlightRef = builder.objectRef<Cancellation['inFlight']>('CanceledInFlight').implement({
  description: 'What was under way.',
  fields: (t) => ({
    generations: t.expose('generations', { type: [CanceledRunRef] }),
    calls: t.expose('calls', { type: [CanceledCallRef], description: 'Calls without a result.' }),
  }),
})
const UnknownRef = builder.objectRef<Cancellation['unknown']>('CanceledUnknown').implement({
  description: 'What may have taken effect.',
  fields: (t) => ({ calls: t.expose('calls', { type: [CanceledCallRef] }) }),
})

export const CancellationRef = builder.objectRef<Cancellation>('Cancellation').implement({
  description: 'The receipt of a canceled job: what was ended, what was under way, and what of that is unknown.',
  fields: (t) => ({
    durationMs: t.exposeFloat('durationMs', { description: 'From the wish to the end; 0 when nothing held the job.' }),
    stopped: t.expose('stopped', { type: StoppedRef }),
    inFlight: t.expose('inFlight', { type: InFlightRef }),
    unknown: t.expose('unknown', { type: UnknownRef }),
  }),
})
