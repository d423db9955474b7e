/** The fakes pass the contracts that the real stores pass. */
import { applicationStoreContract } from '../contract/application-store.ts'
import { jobLogContract } from '../contract/job-log.ts'
import { secretStoreContract } from '../contract/secret-store.ts'
import { memoryApplicationStore } from '../fake/memory-application-store.ts'
import { memoryJobLog } from '../fake/memory-job-log.ts'
import { memorySecretStore } from '../fake/memory-secret-store.ts'

const close = async (): Promise<void> => {}

jobLogContract('in memory', async () => {
  const log = memoryJobLog()
  return { log, other: log, close }
})
secretStoreContract('in memory', async () => ({ store: memorySecretStore(), close }))
applicationStoreContract('in memory', async () => ({ store: memoryApplicationStore(), close }))
