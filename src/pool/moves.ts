/** Moves a machine's row on by a command: the one way, for whoever does not mind what others did to it meanwhile. */
import { stepMachine, type MachineCommand, type PooledMachine } from './machine.ts'
import type { PoolStore } from './pool-store.ts'

export interface Moved {
  /** The row as it now is; as it was given where it is known no more. */
  readonly machine: PooledMachine
  readonly isMoved: boolean
}

/**
 * Decides on the newest row, and again when somebody else was faster, as long as the command applies and `mayMove` says
 * so of the row as it is by then.
 */
export async function moveMachine(
  store: Pick<PoolStore, 'change' | 'find'>,
  machine: PooledMachine,
  command: MachineCommand,
  mayMove: (current: PooledMachine) => boolean = () => true,
): Promise<Moved> {
  for (let current: PooledMachine | undefined = machine; current !== undefined;) {
    const step = mayMove(current) ? stepMachine(current, command) : undefined
    if (step === undefined) return { machine: current, isMoved: false }
    const [changed] = await store.change([step], null)
    if (changed === true) return { machine: step.next, isMoved: true }
    current = await store.find(machine.id)
  }
  return { machine, isMoved: false }
}
