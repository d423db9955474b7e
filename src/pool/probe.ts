/** A runner that tries to get out of its sandbox and reports how that went, and what its report means. */
import { z } from 'zod'
import type { ProbeResult } from './machine-host.ts'

export interface ProbeTargets {
  /** A file of the host that a sandbox must not see. */
  readonly file: string
  /** A TCP port of the host that a sandbox must not reach. */
  readonly port: number
}

/** The probing runner: JavaScript without dependencies. It says one `log` line and `done`. */
export function probeScript({ file, port }: ProbeTargets): string {
  return `import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
const attempt = (act) => { try { act(); return 'open' } catch (error) { return error.code ?? String(error) } }
const status = readFileSync('/proc/self/status', 'utf8')
const field = (name) => new RegExp('^' + name + ':\\\\s+(\\\\S+)', 'm').exec(status)?.[1] ?? ''
const found = {
  uid: process.getuid(),
  read: attempt(() => readFileSync(${JSON.stringify(file)})),
  capabilities: field('CapEff'),
  noNewPrivileges: field('NoNewPrivs'),
  seccomp: field('Seccomp'),
}
const say = (line) => process.stdout.write(JSON.stringify(line) + '\\n')
const end = (connected) => {
  say({ type: 'log', source: 'probe', text: JSON.stringify({ ...found, connected }) })
  say({ type: 'done', reason: 'finished' })
}
const socket = connect(${port}, '127.0.0.1')
socket.once('connect', () => end('open')).once('error', (error) => end(error.code ?? 'refused'))
`
}

const report = z.object({
  uid: z.number(),
  read: z.string(),
  connected: z.string(),
  capabilities: z.string(),
  noNewPrivileges: z.string(),
  seccomp: z.string(),
})

/** What the report proves: anything less than a whole sandbox is none. */
export function judgeProbe(text: string): ProbeResult {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    value = undefined
  }
  const parsed = report.safeParse(value)
  if (!parsed.success) return broken('its report is malformed')
  const { uid, read, connected, capabilities, noNewPrivileges, seccomp } = parsed.data
  if (uid === 0) return broken('it runs as uid 0')
  if (read !== 'ENOENT') return broken(`reading a file of the host gave ${read}`)
  if (connected === 'open') return broken('it reaches the network of the host')
  if (!/^0+$/.test(capabilities)) return broken(`it holds the capabilities ${capabilities}`)
  if (noNewPrivileges !== '1') return broken('it may gain privileges')
  if (seccomp !== '2') return broken('no system call filter is in place')
  return { ok: true }
}

function broken(how: string): ProbeResult {
  return {
    ok: false,
    reason: `A sandbox started but does not hold: ${how}.`,
    fix: 'Update bubblewrap and the kernel, or use SENMON_MACHINES=docker.',
  }
}
