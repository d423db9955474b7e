/** graphile-worker on the Postgres of DATABASE_URL: a line {perSecond, count, atOnce} in, the ms of each job out. */
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { Logger, makeWorkerUtils, run, runMigrations } from 'graphile-worker'

const connectionString = process.env.DATABASE_URL
const logger = new Logger(() => () => {})
await runMigrations({ connectionString, logger })
const utils = await makeWorkerUtils({ connectionString, logger })
const started = new Map()

process.stdout.write('ready\n')
for await (const line of createInterface({ input: process.stdin })) {
  const { perSecond, count, atOnce } = JSON.parse(line)
  const taskList = { look: async ({ number }) => started.get(number)() }
  const runner = await run({ connectionString, logger, concurrency: atOnce, noHandleSignals: true, taskList })
  const from = performance.now()
  const latencies = await Promise.all(
    Array.from({ length: count }, async (_, number) => {
      const due = from + (number * 1000) / perSecond
      await sleep(Math.max(0, due - performance.now()))
      const begun = new Promise((resolve) => started.set(number, resolve))
      await utils.addJob('look', { number })
      await begun
      return performance.now() - due
    }),
  )
  await runner.stop()
  process.stdout.write(`${JSON.stringify(latencies)}\n`)
}
await utils.release()
