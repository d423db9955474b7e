/**
 * A provider of machines that exist only in this table: what it is asked takes as long as its traits say, by whatever
 * clock, and goes wrong when a test says so.
 */
import type { MachineId } from '../../schema/id.ts'
import type { Clock } from '../../schema/clock.ts'
import type { Machine } from '../../src/pool/machine-host.ts'
import {
  ProviderError,
  type MachineNews,
  type MachineProvider,
  type MayAct,
  type Observation,
  type ProviderFault,
  type ProviderTraits,
} from '../../src/pool/machine-provider.ts'
import type { Verb } from '../../src/pool/machine.ts'

export interface VirtualMachine {
  readonly id: MachineId
  readonly place: string
  state: Observation['state']
  bootId: string | null
  boots: number
  /** Jobs whose lines it was given, in order; emptied by whatever makes it clean. */
  holds: string[]
  /** What jobs left: on the disk until it boots from a stop, in memory until it is off. */
  readonly marks: { disk: Set<string>; memory: Set<string> }
}

/** What goes wrong with a call: before it takes effect, or after. */
export interface Trouble {
  readonly fault: ProviderFault
  readonly tookEffect: boolean
}

export interface VirtualProvider extends MachineProvider {
  readonly machines: ReadonlyMap<MachineId, VirtualMachine>
  /** Every call, in order. */
  readonly calls: readonly { readonly verb: Verb; readonly id: MachineId; readonly at: number }[]
  /** A snapshot is lost: the machine boots anew when it is started, with everything that was in it. */
  forget(id: MachineId): void
  /** It ends without anybody having asked. */
  kill(id: MachineId): void
  /** One that is suspended in this boot, as if it had been made before. */
  adopt(id: MachineId, bootId: string): void
  /** A job at work in this boot leaves a mark wherever it can. */
  mark(id: MachineId, bootId: string | null, mark: string): void
}

export interface VirtualOptions {
  /** What goes wrong with the `nth` call of a verb for a machine. */
  readonly troubleOf?: (verb: Verb, id: MachineId, nth: number) => Trouble | undefined
  readonly places?: readonly string[]
  /** Of machines that are made from now on. */
  readonly generation?: () => string
  /** Told of each call in the moment in which it would take effect. */
  readonly onCall?: (verb: Verb, id: MachineId) => void
}

export const FLY_LIKE: ProviderTraits = {
  suspends: true,
  cleansByStop: true,
  endsWithJob: false,
  reach: 'all',
  typical: { createMs: 8_000, bootMs: 1_200, suspendMs: 2_500, resumeMs: 250, stopMs: 500 },
}
export const LOCAL_LIKE: ProviderTraits = {
  suspends: true,
  cleansByStop: false,
  endsWithJob: true,
  reach: 'process',
  typical: { createMs: 150, bootMs: 150, suspendMs: 1, resumeMs: 1, stopMs: 20 },
}

export function virtualProvider(
  clock: Clock,
  traits: ProviderTraits = FLY_LIKE,
  options: VirtualOptions = {},
): VirtualProvider {
  const { troubleOf = () => undefined, places = ['here'], generation = () => 'g1', onCall = () => {} } = options
  const machines = new Map<MachineId, VirtualMachine>()
  const calls: { verb: Verb; id: MachineId; at: number }[] = []
  const generations = new Map<MachineId, string>()
  const counts = new Map<string, number>()
  const listeners = new Set<(news: MachineNews) => void>()
  const waiting = new Map<MachineId, (bootId: string | undefined) => void>()
  let boots = 0
  const tell = (news: MachineNews): void => listeners.forEach((listener) => listener(news))
  const later = (ms: number, act: () => void): void => void clock.sleep(ms).then(act)

  function find(id: MachineId): VirtualMachine {
    const machine = machines.get(id)
    if (machine === undefined || machine.state === 'gone') throw new ProviderError('gone', `${id} is gone.`)
    return machine
  }
  function boot(machine: VirtualMachine, ms: number): void {
    machine.state = 'starting'
    later(ms, () => {
      if (machine.state !== 'starting') return
      machine.state = 'running'
      machine.bootId ??= `boot ${(boots += 1)}`
      tell({ type: 'up', machineId: machine.id, bootId: machine.bootId })
      waiting.get(machine.id)?.(machine.bootId)
    })
  }
  function end(machine: VirtualMachine): void {
    machine.state = 'gone'
    waiting.get(machine.id)?.(undefined)
    tell({ type: 'ended', machineId: machine.id, reason: 'it ended', stderrTail: '' })
  }
  const { typical } = traits
  const effects: Readonly<Record<Exclude<Verb, 'create'>, (machine: VirtualMachine) => void>> = {
    start(machine) {
      if (machine.state === 'running' || machine.state === 'starting') return
      if (machine.state === 'stopping') throw new ProviderError('state', `${machine.id} is stopping.`)
      const isCold = machine.state === 'stopped'
      if (isCold && traits.cleansByStop) {
        machine.holds = []
        machine.marks.disk.clear()
      }
      boot(machine, isCold || machine.bootId === null ? typical.bootMs : typical.resumeMs)
    },
    suspend(machine) {
      if (machine.state === 'suspended' || machine.state === 'suspending') return
      if (machine.state !== 'running') throw new ProviderError('state', `${machine.id} is ${machine.state}.`)
      machine.state = 'suspending'
      later(typical.suspendMs, () => machine.state === 'suspending' && (machine.state = 'suspended'))
    },
    stop(machine) {
      if (machine.state === 'stopped' || machine.state === 'stopping') return
      machine.state = 'stopping'
      machine.bootId = null
      machine.marks.memory.clear()
      later(typical.stopMs, () => machine.state === 'stopping' && (machine.state = 'stopped'))
    },
    destroy: end,
  }

  async function call<Result>(verb: Verb, id: MachineId, effect: () => Result, mayAct?: MayAct): Promise<Result> {
    if (mayAct !== undefined && !(await mayAct())) throw new ProviderError('state', `${verb} of ${id} is late.`)
    calls.push({ verb, id, at: clock.now() })
    onCall(verb, id)
    const nth = counts.get(`${verb} ${id}`) ?? 1
    counts.set(`${verb} ${id}`, nth + 1)
    const trouble = troubleOf(verb, id, nth)
    if (trouble?.tookEffect === false) throw new ProviderError(trouble.fault, `${verb} of ${id} went wrong.`)
    const result = effect()
    if (trouble !== undefined) throw new ProviderError(trouble.fault, `Nobody knows what became of ${verb} of ${id}.`)
    return result
  }

  const blank = (id: MachineId, place: string): VirtualMachine => {
    const marks = { disk: new Set<string>(), memory: new Set<string>() }
    return { id, place, state: 'creating', bootId: null, boots: 1, holds: [], marks }
  }
  const observe = ({ id, state }: VirtualMachine): Observation => ({
    machineId: id,
    providerId: `p-${id}`,
    state,
    generation: generations.get(id) ?? null,
    createdAt: null,
  })

  return {
    machines,
    calls,
    forget(id) {
      const machine = machines.get(id)
      if (machine?.state !== 'suspended') return
      machine.bootId = null
      machine.marks.memory.clear()
    },
    kill: (id) => end(find(id)),
    adopt: (id, bootId) => void machines.set(id, { ...blank(id, places[0] ?? ''), state: 'suspended', bootId }),
    mark(id, bootId, mark) {
      const machine = machines.get(id)
      if (machine?.state !== 'running' || machine.bootId !== bootId) return
      machine.marks.disk.add(mark)
      machine.marks.memory.add(mark)
    },
    name: 'fly',
    traits,
    get generation() {
      return generation()
    },
    places,
    probe: async () => ({ ok: true }),
    create: ({ id, place, generation: made }) =>
      call('create', id, () => {
        const known = machines.get(id)
        if (known?.state === 'gone') throw new ProviderError('gone', `${id} is gone.`)
        if (known === undefined) {
          const machine = blank(id, place)
          machines.set(id, machine)
          generations.set(id, made)
          boot(machine, typical.createMs)
        }
        return { providerId: `p-${id}` }
      }),
    async find({ id }) {
      const machine = machines.get(id)
      return machine === undefined ? undefined : observe(machine)
    },
    look: async ({ id }) => observe(find(id)),
    list: async (place) =>
      [...machines.values()].filter((one) => one.place === place && one.state !== 'gone').map(observe),
    start: ({ id }) => call('start', id, () => effects.start(find(id))),
    suspend: ({ id }, mayAct) => call('suspend', id, () => effects.suspend(find(id)), mayAct),
    stop: ({ id }, mayAct) => call('stop', id, () => effects.stop(find(id)), mayAct),
    destroy: ({ id }, mayAct) => call('destroy', id, () => effects.destroy(find(id)), mayAct),
    async connect({ id, owner }, _lock, hold, deadline): Promise<Machine> {
      const machine = find(id)
      const arrived = Promise.withResolvers<string | undefined>()
      if (machine.state === 'running' && machine.bootId !== null) arrived.resolve(machine.bootId)
      else {
        waiting.set(id, arrived.resolve)
        later(Math.max(0, deadline - clock.now()), () => arrived.resolve(undefined))
      }
      const bootId = await arrived.promise
      waiting.delete(id)
      if (bootId === undefined) throw new ProviderError('state', `${id} did not come.`)
      if (!(await hold(bootId))) throw new ProviderError('state', `${id} is another's.`)
      // A stop or a start in between has ended the link to the boot that it was.
      if (machine.bootId !== bootId) throw new ProviderError('state', `${id} is in another boot.`)
      machine.holds.push(owner?.jobId ?? 'nobody')
      const ended = Promise.withResolvers<{ reason: string; stderrTail: string }>()
      return {
        obtained: { resume: 'cold', machineId: null, phases: null },
        processes: () => 1,
        send: () => {},
        unreadBytes: 0,
        lines: (async function* () {})(),
        ended: ended.promise,
        destroy: async () => {
          if (traits.endsWithJob && machine.state !== 'gone') end(machine)
          ended.resolve({ reason: 'destroyed', stderrTail: '' })
        },
      }
    },
    watch(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close: async () => {},
  }
}
