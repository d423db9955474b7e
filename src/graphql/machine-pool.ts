/** Pools of machines, for operators: why each has the size that it has. */
import { MACHINE_STATES } from '../pool/machine.ts'
import type { PoolView } from '../pool/pool-reports.ts'
import { builder } from './builder.ts'
import { ResumeRef } from './job.ts'

const StateRef = builder.enumType('MachineState', {
  values: MACHINE_STATES,
  description:
    'creating, booting, hot (it runs and waits), suspending, ready (suspended), waking, busy, stopping, reserve (stopped and clean), quarantined, retiring.',
})

const CountRef = builder.objectRef<PoolView['counts'][number]>('MachineCount').implement({
  fields: (t) => ({ state: t.expose('state', { type: StateRef }), count: t.exposeInt('count') }),
})

const GivenRef = builder.objectRef<PoolView['given'][number]>('MachinesGiven').implement({
  fields: (t) => ({ resume: t.expose('resume', { type: ResumeRef }), count: t.exposeInt('count') }),
})

const TargetRef = builder.objectRef<NonNullable<PoolView['processes'][number]['target']>>('MachineTarget').implement({
  description: 'What a pool wants, and why.',
  fields: (t) => ({
    ready: t.exposeInt('ready', { description: 'Machines that are ready, or on their way there.' }),
    machines: t.exposeInt('machines', { description: 'All, with those that have jobs.' }),
    isPanic: t.exposeBoolean('isPanic', { description: 'Twice as much is wanted as there is: it only grows.' }),
    why: t.exposeString('why'),
  }),
})

const LimitRef = builder.objectRef<PoolView['processes'][number]['limits'][number]>('MachineLimit').implement({
  description: 'What one machine may use with all its processes.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'memoryBytes, tasks (threads count) or cpus.' }),
    value: t.exposeFloat('value'),
    keptBy: t.exposeString('keptBy', { nullable: true, description: 'What refuses more; null where nothing does.' }),
  }),
})

const ProcessRef = builder.objectRef<PoolView['processes'][number]>('PoolProcess').implement({
  description: 'A process that keeps the pool, or has machines of its own in it.',
  fields: (t) => ({
    holder: t.exposeString('holder'),
    at: t.expose('at', { type: 'DateTime', description: 'When it last said something.' }),
    isSilent: t.exposeBoolean('isSilent'),
    leads: t.exposeBoolean('leads'),
    target: t.expose('target', { type: TargetRef, nullable: true }),
    limits: t.expose('limits', { type: [LimitRef] }),
    restraints: t.exposeStringList('restraints', {
      description: 'Why less is asked of the provider than is wanted, in sentences.',
    }),
  }),
})

const ActionRef = builder.objectRef<PoolView['actions'][number]>('PoolAction').implement({
  fields: (t) => ({
    at: t.expose('at', { type: 'DateTime' }),
    type: t.exposeString('type', { description: 'create, suspend, stop, boot, retire, quarantine, rouse or end.' }),
    machineId: t.exposeID('machineId', { nullable: true }),
    why: t.exposeString('why'),
  }),
})

const FaultRef = builder.objectRef<PoolView['faults'][number]>('PoolFault').implement({
  description: 'Something that the provider did not do.',
  fields: (t) => ({
    at: t.expose('at', { type: 'DateTime' }),
    verb: t.exposeString('verb'),
    why: t.exposeString('why'),
  }),
})

const PoolRef = builder.objectRef<PoolView>('Pool').implement({
  description: 'All machines that are alike, of all processes.',
  fields: (t) => ({
    name: t.exposeString('name'),
    counts: t.expose('counts', { type: [CountRef], description: 'By state; those that are gone are left out.' }),
    processes: t.expose('processes', { type: [ProcessRef] }),
    given: t.expose('given', { type: [GivenRef], description: 'How jobs came by their machines.' }),
    warmShare: t.exposeFloat('warmShare', {
      nullable: true,
      description: 'The share of jobs that found a machine running or suspended; null before there was a job.',
    }),
    strays: t.exposeInt('strays', { description: 'Machines that the provider has and nobody knows.' }),
    actions: t.expose('actions', { type: [ActionRef], description: 'The last ten, newest first.' }),
    faults: t.expose('faults', { type: [FaultRef], description: 'The last ten, newest first.' }),
  }),
})

interface MachinePool {
  readonly queued: number
  readonly running: number
  readonly pools: readonly PoolView[]
}

const MachinePoolRef = builder.objectRef<MachinePool>('MachinePool').implement({
  fields: (t) => ({
    queued: t.exposeInt('queued', { description: 'Jobs of all applications that wait for a machine.' }),
    running: t.exposeInt('running', { description: 'Jobs that have one.' }),
    pools: t.expose('pools', { type: [PoolRef] }),
  }),
})

builder.queryField('machinePool', (t) =>
  t.field({
    type: MachinePoolRef,
    description: 'The machines of this platform, all applications together: for keys with the scope operator.',
    authScopes: { operator: true },
    resolve: async (_root, _args, { pools, jobs }): Promise<MachinePool> => {
      const [demand, views] = await Promise.all([jobs.demand(), pools.list()])
      return { ...demand, pools: views }
    },
  }),
)
