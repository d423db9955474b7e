/** What a step costs beyond its model and its tool: time, and bytes kept, at three lengths of job. */
import { randomBytes } from 'node:crypto'
import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { startPlatform } from '../test/support/platform.ts'
import { publishRehearsed, runRehearsed, type BenchEvent } from './rehearsed.ts'

const LENGTHS = [10, 100, 300]
/** 1 kB that does not compress, as text. */
const makePage = () => randomBytes(768).toString('base64')

async function bytesUnder(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const sizes = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map(async (entry) => (await stat(join(entry.parentPath, entry.name))).size),
  )
  return sizes.reduce((sum, size) => sum + size, 0)
}

const between = (events: readonly BenchEvent[], from: number, to: number) =>
  (Date.parse(events[to]?.at ?? '') - Date.parse(events[from]?.at ?? '')) / (to - from)

export async function* benchStep(): AsyncGenerator<string> {
  const platform = await startPlatform()
  const content = join(platform.dataDirectory, 'content')
  try {
    yield 'steps   ms/step   last ten / first ten   events   log kB (JSON)   content kB'
    let tenMs = 0
    for (const steps of LENGTHS) {
      await publishRehearsed(platform, `bench-${steps}`, steps)
      await runRehearsed(platform, `bench-${steps}`, makePage())
      const before = await bytesUnder(content)
      const { events } = await runRehearsed(platform, `bench-${steps}`, makePage())
      const ends = events.filter((event) => event.type === 'stepFinished')
      const ms = between(ends, 0, ends.length - 1)
      const flat = between(ends, ends.length - 11, ends.length - 1) / between(ends, 0, Math.min(10, ends.length - 1))
      const kept = (await bytesUnder(content)) - before
      const logged = JSON.stringify(events).length
      if (tenMs === 0) tenMs = ms
      yield `${String(steps).padStart(5)}   ${ms.toFixed(2).padStart(7)}   ${flat.toFixed(2).padStart(20)}   ${String(events.length).padStart(6)}   ${(logged / 1000).toFixed(0).padStart(13)}   ${(kept / 1000).toFixed(1).padStart(10)}`
      if (steps === LENGTHS.at(-1)) yield `ms/step at ${steps} steps against 10 steps: ${(ms / tenMs).toFixed(2)}`
    }
  } finally {
    await platform.stop()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  }
}
