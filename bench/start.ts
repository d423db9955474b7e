/** From createJob to the runner's first event, with everything cold but the packages: a new sandbox for every job. */
import { rm } from 'node:fs/promises'
import { startPlatform } from '../test/support/platform.ts'
import { percentile } from './load.ts'
import { publishRehearsed, runRehearsed } from './rehearsed.ts'

const JOBS = 20

export async function* benchStart(): AsyncGenerator<string> {
  const platform = await startPlatform()
  try {
    await publishRehearsed(platform, 'bench-start', 1)
    await runRehearsed(platform, 'bench-start', ['warm'])
    const waits: number[] = []
    for (let i = 0; i < JOBS; i++) {
      const { createdAt, events } = await runRehearsed(platform, 'bench-start', [`page ${i}`])
      const first = events.find((event) => event.type === 'runStarted')
      if (first === undefined) throw new Error('the runner never started a run')
      waits.push(Date.parse(first.at) - createdAt)
    }
    const sorted = waits.toSorted((a, b) => a - b)
    yield `createJob → runner's first event, n=${JOBS}: min ${sorted[0]} ms, p50 ${percentile(sorted, 0.5)} ms, max ${sorted.at(-1)} ms`
  } finally {
    await platform.stop()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  }
}
