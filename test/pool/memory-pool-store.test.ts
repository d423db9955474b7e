/** The store in memory keeps the contract of the real one: what rests on it in other tests is worth something. */
import { memoryPoolStore } from '../fake/memory-pool-store.ts'
import { poolStoreContract } from '../contract/pool-store.ts'

poolStoreContract('memory', async () => ({ store: memoryPoolStore(), close: async () => {} }))
