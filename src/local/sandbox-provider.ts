/**
 * Machines in sandboxes of this computer: Linux namespaces by bubblewrap, a filter of system calls, no network.
 * The supervisor of a machine runs outside of them, as the slot's uid; the runner and each skill have one each.
 */
import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { sha256 } from '../../schema/hash.ts'
import type { Clock } from '../../schema/clock.ts'
import { heapOptions, RUNNER_OPTIONS, SKILL_OPTIONS } from '../../schema/node-options.ts'
import type { Machine, ProbeResult } from '../pool/machine-host.ts'
import type { MachineProvider } from '../pool/machine-provider.ts'
import { openLocalProvider } from './local-provider.ts'
import { explainBubblewrap } from './probe.ts'
import { judgeProbe, probeScript } from '../pool/probe.ts'
import type { Runtime } from './runtime.ts'
import { compiledInside } from './compiled.ts'
import { heapInside } from './heap.ts'
import { sandboxLaunch, type Mount, type SandboxSpec } from '../sandbox/sandbox.ts'
import { assemble, denyProgram } from '../sandbox/seccomp.ts'
import { isSystemPath, SYSTEM_PATH, systemOptions } from '../sandbox/system-programs.ts'
import { openSupervisedHost, type Launches, type LocalHostOptions, type SupervisedHost } from './supervised-host.ts'

const BWRAP_PATHS = ['/usr/bin/bwrap', '/usr/local/bin/bwrap', '/bin/bwrap']
const PROBE_MS_MAX = 20_000

export interface SandboxProviderOptions extends LocalHostOptions {
  /** Where bubblewrap is; the first of the usual places by default. */
  readonly bwrap?: string
}

/** Sandboxes for a pool: call `probe` before the first. Throws `machine_failed`. */
export async function openSandboxProvider(options: SandboxProviderOptions, place: string): Promise<MachineProvider> {
  const bwrap = options.bwrap ?? BWRAP_PATHS.find((path) => existsSync(path))
  const host = await openSupervisedHost(options, launchesOf(bwrap ?? ''))
  const { clock } = options
  return openLocalProvider({
    name: 'local',
    host,
    place,
    probe: async () => absent(bwrap) ?? (await probe(host, clock)),
    clock,
  })
}

function launchesOf(bwrap: string): Launches {
  const arch = process.arch === 'arm64' ? 'arm64' : 'x64'
  const seccomp = assemble(denyProgram(arch))
  const specOf = (runtime: Runtime): Omit<SandboxSpec, 'mounts' | 'cwd' | 'command' | 'environment'> => ({
    bwrap,
    node: runtime.node,
    libraries: runtime.libraries,
    programs: [],
    passwd: runtime.passwd,
    preload: runtime.preload,
    seccomp,
  })
  return {
    // The runner sees no workspace: what it needs of it comes in the answers of tools.
    runner: (slot, runtime, bundle, isAwaited) => {
      const heap = isAwaited ? runtime.heapOf(bundle) : undefined
      const { mounts, command, environment } = heap === undefined ? compiledInside(bundle) : heapInside(heap)
      const options = heap === undefined ? RUNNER_OPTIONS : heapOptions(RUNNER_OPTIONS)
      return sandboxLaunch(
        {
          ...specOf(runtime),
          mounts,
          cwd: '/tmp',
          command: [...options, ...command, ...(isAwaited ? ['--unprimed'] : [])],
          environment,
        },
        slot.directory,
      )
    },
    skill: (slot, runtime, { directory, locked }) => {
      const mounts: readonly Mount[] = [
        { source: directory, target: '/skill', writable: false },
        { source: slot.workspace, target: '/workspace', writable: true },
        // Always there: a mount point in a directory that the skill can write cannot be moved away from inside.
        { source: slot.input, target: '/workspace/input', writable: false },
      ]
      const isSystem = locked.programs === 'system'
      const programs = isSystem
        ? {
            programs: systemOptions(runtime.directory),
            libraries: runtime.libraries.filter((path) => !isSystemPath(path)),
          }
        : {}
      return sandboxLaunch(
        {
          ...specOf(runtime),
          ...programs,
          mounts,
          cwd: '/workspace',
          command: [...SKILL_OPTIONS, join('/skill', locked.entry), ...locked.args],
          environment: { PATH: isSystem ? SYSTEM_PATH : '/opt:/usr/bin:/bin', SENMON_WORKSPACE: '/workspace' },
        },
        slot.directory,
      )
    },
    input: (slot) => slot.input,
  }
}

/** What rules sandboxes out before one is tried. */
function absent(bwrap: string | undefined): ProbeResult | undefined {
  const no = (reason: string, fix: string): ProbeResult => ({ ok: false, reason, fix })
  if (process.platform !== 'linux')
    return no(`${process.platform} has no bubblewrap.`, 'Use SENMON_MACHINES=docker, or Linux (WSL2 on Windows).')
  if (process.arch !== 'x64' && process.arch !== 'arm64')
    return no(`No system call filter is written for ${process.arch}.`, 'Use SENMON_MACHINES=docker.')
  if (bwrap === undefined || !existsSync(bwrap))
    return no('bubblewrap is not installed.', 'Install it: `apt-get install bubblewrap`, `dnf install bubblewrap`.')
  if ((statSync(bwrap).mode & 0o4000) !== 0)
    return no(`${bwrap} is setuid, which lets a sandbox trace it.`, `Take it away: \`chmod u-s ${bwrap}\`.`)
  return undefined
}

/** Runs a machine whose runner tries to get out. */
async function probe(host: SupervisedHost, clock: Clock): Promise<ProbeResult> {
  const listener = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1')
  const file = join(host.runtime.directory, `canary-${process.pid}`)
  let script: string | undefined
  try {
    await new Promise((resolve, reject) => listener.once('listening', resolve).once('error', reject))
    const address = listener.address()
    writeFileSync(file, 'canary', { mode: 0o644 })
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const text = probeScript({ file, port })
    script = host.runtime.write(`probe-${process.pid}-${sha256(text).slice(0, 16)}.mjs`, text)
    return await within(host.fill(await host.park(script), []), clock)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    return { ok: false, reason: `A sandbox could not be tried: ${why}`, fix: 'Correct what the message names.' }
  } finally {
    listener.close()
    rmSync(file, { force: true })
    if (script !== undefined) rmSync(script, { force: true })
  }
}

async function within(machine: Machine, clock: Clock): Promise<ProbeResult> {
  const timer = new AbortController()
  const late = clock.sleep(PROBE_MS_MAX, timer.signal).then(
    (): ProbeResult => ({
      ok: false,
      reason: `A sandbox did not start within ${PROBE_MS_MAX} ms.`,
      fix: 'Look at the load of this computer, then start again.',
    }),
    (): ProbeResult => ({ ok: false, reason: 'The probe was ended.', fix: 'Start again.' }),
  )
  try {
    return await Promise.race([late, heard(machine)])
  } finally {
    timer.abort()
    await machine.destroy()
  }
}

async function heard(machine: Machine): Promise<ProbeResult> {
  const said: string[] = []
  for await (const line of machine.lines) {
    if (line.type !== 'log') continue
    if (line.source === 'runner' && line.text.startsWith('{')) return judgeProbe(line.text)
    said.push(line.text)
  }
  const { stderrTail } = await machine.ended
  return explainBubblewrap([...said, stderrTail].join(' ').trim())
}
