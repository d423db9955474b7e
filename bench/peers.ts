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

/** What a peer's script answers to a line, a line each. */
interface Script {
  ask(line: object): Promise<string>
  close(): Promise<void>
}

/**
 * Starts the script of a peer on the database of `url`; the first time, npm installs all peers, with the proxy, the
 * certificates and the settings of `environment`.
 */
async function openScript(
  name: 'langgraph' | 'graphile-worker',
  url: string,
  environment: Readonly<Record<string, string>>,
): Promise<Script> {
  if (!existsSync(join(home, 'node_modules', 'graphile-worker'))) {
    const options = { cwd: home, env: environment }
    const { code, stderr } = await runProgram('npm', ['ci', '--no-audit', '--no-fund'], options)
    if (code !== 0) throw new Error(stderr)
  }
  const child = spawn(process.execPath, [`${name}.mjs`], {
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
    async ask(line) {
      child.stdin.write(`${JSON.stringify(line)}\n`)
      return await next()
    },
    async close() {
      child.stdin.end()
      await exited
    },
  }
}

/** LangGraph with its checkpointer. */
export async function openLangGraph(url: string, environment: Readonly<Record<string, string>>): Promise<Peer> {
  const script = await openScript('langgraph', url, environment)
  return {
    // Our own script printed it.
    run: async (steps, results) => JSON.parse(await script.ask({ steps, results })) as PeerRun,
    close: () => script.close(),
  }
}

/** A queue of jobs on Postgres: from adding a job to the beginning of its task, in ms, for each. */
export interface QueuePeer {
  run(perSecond: number, count: number, atOnce: number): Promise<readonly number[]>
  close(): Promise<void>
}

/** graphile-worker as it comes, adding and working in one process. */
export async function openGraphile(url: string, environment: Readonly<Record<string, string>>): Promise<QueuePeer> {
  const script = await openScript('graphile-worker', url, environment)
  return {
    run: async (perSecond, count, atOnce) =>
      JSON.parse(await script.ask({ perSecond, count, atOnce })) as readonly number[],
    close: () => script.close(),
  }
}
