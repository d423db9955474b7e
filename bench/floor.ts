/**
 * What a step would cost if nothing were done in it: as many hops between processes and as many commits, one after the
 * other as they are in a step. Nothing that keeps a step's promises in this way is faster on this machine.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { createInterface } from 'node:readline'
import type { Pool } from 'pg'

/** There and back: server and supervisor, supervisor and runner twice, supervisor and skill. */
const ROUND_TRIPS = 4
const COMMITS = 2
const STEPS = 1000
/** About what a line of the protocol has. */
const LINE = `${'x'.repeat(600)}\n`

/** The median of a step of hops and commits alone, in ms. */
export async function measureFloor(pool: Pool): Promise<number> {
  await pool.query('create table floor (id serial primary key, data text not null)')
  const child = spawn(process.execPath, [join(import.meta.dirname, 'echo.ts')], { stdio: ['pipe', 'pipe', 'inherit'] })
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const commit = { name: 'floor', text: 'insert into floor (data) values ($1)', values: [LINE] }
  const took: number[] = []
  try {
    for (let step = 0; step < 2 * STEPS; step++) {
      const startedAt = performance.now()
      for (let trip = 0; trip < ROUND_TRIPS; trip++) {
        child.stdin.write(LINE)
        await answers.next()
      }
      for (let i = 0; i < COMMITS; i++) await pool.query(commit)
      // The first half is to get warm.
      if (step >= STEPS) took.push(performance.now() - startedAt)
    }
  } finally {
    child.stdin.end()
    await once(child, 'exit')
    await pool.query('drop table floor')
  }
  return took.toSorted((a, b) => a - b)[STEPS / 2] ?? Number.NaN
}
