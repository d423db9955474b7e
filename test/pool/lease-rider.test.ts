/** The stores in memory keep the contract of the real ones for a claim that goes with a lease. */
import { memoryJobLog } from '../fake/memory-job-log.ts'
import { memoryPoolStore } from '../fake/memory-pool-store.ts'
import { leaseRiderContract } from '../contract/lease-rider.ts'

leaseRiderContract('memory', async () => ({ log: memoryJobLog(), store: memoryPoolStore(), close: async () => {} }))
