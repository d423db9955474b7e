/** createJob over HTTP, beside the two limits it cannot pass: the GraphQL server alone, and the database alone. */
import { spawn } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Pool } from 'undici'
import { expertPackage, npmPublish, startPlatform } from '../test/support/platform.ts'
import { openBenchDatabase } from './database.ts'
import { measure, type Measured } from './load.ts'

const CONNECTIONS = 20
const WARM_UP_MS = 2000
const FOR_MS = 6000

const print = (name: string, { perSecond, p50Ms, p99Ms }: Measured) =>
  `${name.padEnd(34)} ${perSecond.toFixed(0).padStart(7)}/s   p50 ${p50Ms.toFixed(1)} ms   p99 ${p99Ms.toFixed(1)} ms`

/** Sends one GraphQL document over kept connections; throws unless the answer holds `expected`. */
async function measureGraphql(url: string, key: string, query: string, expected: string): Promise<Measured> {
  const { origin } = new URL(url)
  const pool = new Pool(origin, { connections: CONNECTIONS })
  const body = JSON.stringify({ query })
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` }
  try {
    return await measure(CONNECTIONS, WARM_UP_MS, FOR_MS, async () => {
      const answer = await pool.request({ path: '/graphql', method: 'POST', headers, body })
      const text = await answer.body.text()
      if (!text.includes(expected)) throw new Error(text)
    })
  } finally {
    await pool.close()
  }
}

async function measureHello(): Promise<Measured> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'hello.ts')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    const port = await new Promise<string>((found) => child.stdout.setEncoding('utf8').once('data', found))
    return await measureGraphql(`http://127.0.0.1:${port.trim()}`, '', '{hello}', 'world')
  } finally {
    child.kill()
  }
}

async function measureInsert(): Promise<Measured> {
  const database = await openBenchDatabase(CONNECTIONS)
  const { pool } = database
  try {
    await pool.query(
      'create table job (id bigint generated always as identity primary key, query text not null, at bigint not null)',
    )
    const insert = { name: 'insert', text: 'insert into job (query, at) values ($1, $2)' }
    return await measure(CONNECTIONS, WARM_UP_MS, FOR_MS, async () => {
      await pool.query({ ...insert, values: ['Say hello to the bench.', 1] })
    })
  } finally {
    await database.close()
  }
}

async function measureCreateJob(): Promise<Measured> {
  // No machine takes a job, so that only the acceptance is measured.
  const platform = await startPlatform({ env: { SENMON_CONCURRENCY: '0' } })
  try {
    const toml = `model = "rehearsal/none"\n[experts."bench"]\ndescription = "Waits."\ninstruction = "Wait."\n`
    await npmPublish(platform, await expertPackage('bench', toml))
    const mutation = `mutation { createJob(input: { expertKey: "bench", query: "Say hello to the bench." }) { ... on Job { id } ... on Refusal { code message } } }`
    return await measureGraphql(platform.url, platform.key, mutation, '"job_')
  } finally {
    await platform.stop()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  }
}

export async function* benchCreate(): AsyncGenerator<string> {
  const insert = await measureInsert()
  yield print('bare prepared INSERT (fsync on)', insert)
  const hello = await measureHello()
  yield print('yoga {hello}', hello)
  const create = await measureCreateJob()
  yield print('createJob', create)
  yield `createJob / {hello}  ${(create.perSecond / hello.perSecond).toFixed(3)}`
  yield `createJob / INSERT   ${(create.perSecond / insert.perSecond).toFixed(3)}`
}
