/** The package store in memory passes the contract. */
import { packageStoreContract } from '../contract/package-store.ts'
import { MemoryPackageStore } from '../fake/memory-package-store.ts'

packageStoreContract(async () => new MemoryPackageStore())
