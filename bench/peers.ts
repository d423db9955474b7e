/** A peer beside us: installed on demand from its own lock file, run in a process of its own on the same Postgres. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { runProgram } from '../test/support/program.ts'

const home = join(import.meta.dirname, 'peer')

export interface PeerRun {
  readonly wallMs: number
  /** When each call of the tool came, in ms since the thread began. */
  readonly ticks: readonly number[]
  readonly cpuMs: number
}

export interface Peer {
  run(steps: number, results: readonly string[]): Promise<PeerRun>
  close(): Promise<void>
}

/**
 * Starts LangGraph with its checkpointer on the database of `url`; the first time, npm installs it, with the proxy, the
 * certificates and the settings of `environment`.
 */
export async function openLangGraph(url: string, environment: Readonly<Record<string, string>>): Promise<Peer> {
  if (!existsSync(join(home, 'node_modules'))) {
    const options = { cwd: home, env: environment }
    const { code, stderr } = await runProgram('npm', ['ci', '--no-audit', '--no-fund'], options)
    if (code !== 0) throw new Error(stderr)
  }
  const child = spawn(process.execPath, ['langgraph.mjs'], {
    cwd: home,
    env: { DATABASE_URL: url, LANGSMITH_TRACING: 'false' },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const exited = once(child, 'exit')
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const next = async (): Promise<string> => {
    const { value, done } = await lines.next()
    if (done === true) throw new Error('the peer ended before it was done')
    return value
  }
  if ((await next()) !== 'ready') throw new Error('the peer did not begin')
  return {
    async run(steps, results) {
      child.stdin.write(`${JSON.stringify({ steps, results })}\n`)
      return JSON.parse(await next()) as PeerRun // our own script printed it
    },
    async close() {
      child.stdin.end()
      await exited
    },
  }
}
