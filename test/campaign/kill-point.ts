/**
 * Preloaded into a server that is to die (`--import=kill-point.ts?point=freezing&after=3`): it kills itself with SIGKILL
 * in the very call that makes a point of a machine's life, the so-manieth time that it comes there. Nothing else about
 * the server is different.
 */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { Socket } from 'node:net'
import { Client } from 'pg'

/** In the order of a machine's life; `sweeping` is of a start that finds what an earlier death left. */
export const POINTS = [
  'creating',
  'priming',
  'freezing',
  'frozen',
  'claiming',
  'thawing',
  'busy',
  'letting go',
  'destroying',
  'sweeping',
] as const
export type Point = (typeof POINTS)[number]

/** The option of Node that arms a server. */
export function armed(point: Point, after: number): string {
  return `--import=${import.meta.url}?${new URLSearchParams({ point, after: `${after}` }).toString()}`
}

const asked = new URL(import.meta.url).searchParams
if (asked.has('point')) arm(asked.get('point') ?? '', Number(asked.get('after')))

function arm(wanted: string, after: number): void {
  const kill = process.kill.bind(process)
  let met = 0
  const at = (point: Point): void => {
    if (point !== wanted) return
    met += 1
    // The signal is there before the call returns.
    if (met === after) kill(process.pid, 'SIGKILL')
  }
  patchFiles(at)
  patchProcesses(at, kill)
  patchStreams(at)
  patchClaims(at)
  syncBuiltinESMExports()
}

type At = (point: Point) => void

function patchFiles(at: At): void {
  const { mkdtempSync, renameSync, rmSync, rmdirSync, writeFileSync } = fs
  const frozen = new Set<string>()
  let hasMachines = false
  Object.assign(fs, {
    // A slot is made, then claimed: two moments of creating.
    mkdtempSync(...given: Parameters<typeof mkdtempSync>) {
      const made = mkdtempSync(...given)
      if (given[0].includes('/slots/new-')) at('creating')
      return made
    },
    renameSync(...given: Parameters<typeof renameSync>) {
      renameSync(...given)
      if (!/\/slots\/new-/.test(String(given[0]))) return
      hasMachines = true
      at('creating')
    },
    writeFileSync(...given: Parameters<typeof writeFileSync>) {
      writeFileSync(...given)
      const [path, data] = [String(given[0]), given[1]]
      if (!path.endsWith('/cgroup.freeze')) return
      if (data === '0') {
        if (frozen.delete(path)) at('thawing')
        return
      }
      frozen.add(path)
      at('freezing')
      // For no longer than the kernel takes.
      while (!fs.readFileSync(path.replace(/freeze$/, 'events'), 'utf8').includes('frozen 1'));
      at('frozen')
    },
    rmSync(...given: Parameters<typeof rmSync>) {
      const isSlot = /\/slots\/[^/]+$/.test(String(given[0]))
      if (isSlot && hasMachines) at('destroying')
      rmSync(...given)
      if (isSlot && !hasMachines) at('sweeping')
    },
    rmdirSync(...given: Parameters<typeof rmdirSync>) {
      rmdirSync(...given)
      if (!hasMachines && /\/senmon-[\d-]+\.[^/]+$/.test(String(given[0]))) at('sweeping')
    },
  })
}

function patchProcesses(at: At, kill: typeof process.kill): void {
  const stopped = new Set<number>()
  Object.assign(process, {
    // Where no cgroup freezes.
    kill(pid: number, signal?: NodeJS.Signals | number) {
      const result = kill(pid, signal)
      if (signal === 'SIGSTOP') {
        stopped.add(pid)
        at('freezing')
        at('frozen')
      }
      if (signal === 'SIGCONT' && stopped.delete(pid)) at('thawing')
      return result
    },
  })
}

/** The streams of machines are sockets, however their processes came about. */
function patchStreams(at: At): void {
  type Call = (this: Socket, ...given: unknown[]) => unknown
  const { push, write, end } = Socket.prototype as unknown as Record<'push' | 'write' | 'end', Call>
  const inputs = new WeakMap<Socket, { hasGone: boolean }>()
  Object.assign(Socket.prototype, {
    push(this: Socket, ...given: unknown[]) {
      const result = push.apply(this, given)
      // It says that it is ready before it primes itself.
      if (Buffer.isBuffer(given[0]) && given[0].includes('{"type":"ready"')) at('priming')
      return result
    },
    write(this: Socket, ...given: unknown[]) {
      const result = write.apply(this, given)
      const text = typeof given[0] === 'string' ? given[0] : ''
      const input = inputs.get(this)
      if (input?.hasGone === true) at('busy')
      if (input !== undefined && text.includes('{"type":"go"}')) input.hasGone = true
      if (text.startsWith('{"type":"skills"')) inputs.set(this, { hasGone: false })
      return result
    },
    end(this: Socket, ...given: unknown[]) {
      const result = end.apply(this, given)
      if (inputs.has(this)) at('letting go')
      return result
    },
  })
}

/** Postgres has given a machine to a job, and whoever asked never hears of it. */
function patchClaims(at: At): void {
  type Answer = { readonly rows?: readonly { readonly id?: string | null }[] } | undefined
  const { query } = Client.prototype as { query: (...given: unknown[]) => unknown }
  const heard = (answer: Answer): void => {
    // A claim that goes with a lease answers without a machine, too.
    if (typeof answer?.rows?.[0]?.id === 'string') at('claiming')
  }
  Object.assign(Client.prototype, {
    query(this: Client, ...given: unknown[]): unknown {
      const [first] = given
      const text = typeof first === 'string' ? first : ((first as { text?: string }).text ?? '')
      if (!/update machines set job_id/.test(text)) return query.apply(this, given)
      const tell = given.at(-1)
      if (typeof tell !== 'function')
        return (query.apply(this, given) as Promise<Answer>).then((answer) => {
          heard(answer)
          return answer
        })
      return query.apply(this, [
        ...given.slice(0, -1),
        (error: unknown, answer: Answer) => {
          heard(answer)
          tell(error, answer)
        },
      ])
    },
  })
}
