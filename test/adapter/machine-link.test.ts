/** Machines that come over the network: the contract of every host, through real processes and the machine door. */
import { machineHostContract } from '../contract/machine-host.ts'
import { openSpawnedMachines } from '../support/machine-spawn.ts'

// What the supervisor does within is the same code as on this computer, which keeps the other parts as well.
machineHostContract(
  'fly',
  async () => {
    const machines = await openSpawnedMachines()
    return { host: machines.host, close: () => machines.close() }
  },
  ['lines', 'ends'],
)
