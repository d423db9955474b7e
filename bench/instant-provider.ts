/** A provider whose machines are there at once and do nothing: what is left of having one is the pool's own work. */
import type { Machine } from '../src/pool/machine-host.ts'
import type { MachineProvider, Observation } from '../src/pool/machine-provider.ts'
import type { PooledMachine } from '../src/pool/machine.ts'

export const BOOT = 'boot-1'

export function instantProvider(): MachineProvider {
  const observe = ({ id }: Pick<PooledMachine, 'id'>): Observation => ({
    machineId: id,
    providerId: id,
    state: 'gone',
    generation: 'g1',
    createdAt: null,
  })
  return {
    name: 'local',
    traits: {
      suspends: true,
      cleansByStop: false,
      endsWithJob: true,
      reach: 'process',
      typical: { createMs: 0, bootMs: 0, suspendMs: 0, resumeMs: 0, stopMs: 0 },
    },
    generation: 'g1',
    places: ['here'],
    probe: async () => ({ ok: true }),
    create: async ({ id }) => ({ providerId: id }),
    find: async (machine) => observe(machine),
    look: async (machine) => observe(machine),
    list: async () => [],
    start: async () => {},
    suspend: async () => {},
    stop: async () => {},
    destroy: async () => {},
    connect: async (machine, _lock, hold): Promise<Machine> => {
      if (!(await hold(BOOT))) throw new Error(`${machine.id} is another's`)
      const ended = Promise.withResolvers<{ readonly reason: string; readonly stderrTail: string }>()
      return {
        obtained: { resume: 'resumed', machineId: machine.id, phases: null },
        processes: () => 0,
        send: () => {},
        unreadBytes: 0,
        lines: (async function* () {})(),
        ended: ended.promise,
        destroy: async () => ended.resolve({ reason: 'destroyed', stderrTail: '' }),
      }
    },
    watch: () => () => {},
    close: async () => {},
  }
}
