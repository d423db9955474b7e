/**
 * Proves an engine before the first job: runs two machines whose runners try to get out, one past the walls of the
 * container, one past those of a compartment inside of it.
 */
import type { Clock } from '../../schema/clock.ts'
import { sha256 } from '../../schema/hash.ts'
import { makeId, type MachineId } from '../../schema/id.ts'
import { IMAGE, imagePaths, type ImageFacts } from '../../schema/machine-image.ts'
import type { Launch } from '../../schema/machine-plan.ts'
import type { ProbeResult } from '../pool/machine-host.ts'
import { ProviderError } from '../pool/machine-provider.ts'
import { imageRunner } from '../sandbox/machine-image.ts'
import { judgeProbe, probeScript } from '../pool/probe.ts'
import type { AttachedMachine } from './attached-machine.ts'

const PROBE_MS_MAX = 60_000
/** Nothing listens there: a wall is whole when there is no socket to try with. */
const PORT = 9
/** Where the engine itself listens: seen from inside, it would be the way out. */
const ENGINE_SOCKET = '/var/run/docker.sock'

export interface ContainerProbe {
  readonly image: ImageFacts
  readonly protocol: number
  readonly boot: (
    machine: { readonly id: MachineId; readonly pool: string },
    runner: Launch,
  ) => Promise<{ readonly machine: AttachedMachine }>
  readonly clock: Clock
}

/** Never throws what the engine throws. */
export async function probeContainer(probe: ContainerProbe): Promise<ProbeResult> {
  const walls: readonly (readonly [string, Launch])[] = [
    ['container', plain(probeScript({ file: ENGINE_SOCKET, port: PORT }))],
    [
      'compartment',
      imageRunner(probe.image, probeScript({ file: imagePaths(probe.image).bundle('supervisor'), port: PORT })),
    ],
  ]
  const results = await Promise.all(walls.map(([wall, launch]) => tryWall(probe, wall, launch)))
  return results.find((result) => !result.ok) ?? { ok: true }
}

/** A runner without a sandbox of its own: it meets the container's walls. */
function plain(script: string): Launch {
  const args = ['--input-type=module', '--eval', script]
  return { file: IMAGE.node, args, cwd: '/', feeds: [], environment: {}, ownGroup: true }
}

async function tryWall(probe: ContainerProbe, wall: string, runner: Launch): Promise<ProbeResult> {
  const id = makeId('mch', probe.clock.now(), Buffer.from(sha256(wall), 'hex').subarray(0, 16))
  try {
    const { machine } = await probe.boot({ id, pool: 'probe' }, runner)
    const enough = new AbortController()
    const late = probe.clock.sleep(PROBE_MS_MAX, enough.signal).then(
      () =>
        no(
          `A container did not come up within ${PROBE_MS_MAX} ms.`,
          'Look at the load of the engine, then start again.',
        ),
      () => no('The probe was ended.', 'Start again.'),
    )
    try {
      return await Promise.race([late, judge(machine, wall, probe.protocol)])
    } finally {
      enough.abort(new Error('judged'))
      await machine.destroy()
    }
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error
    return no(`A machine could not be tried: ${error.message}`, 'Correct what the message names.')
  }
}

async function judge(machine: AttachedMachine, wall: string, protocol: number): Promise<ProbeResult> {
  const said: string[] = []
  for await (const line of machine.lines) {
    if (line.type === 'ready' && line.protocol !== protocol)
      return no(`The image speaks protocol ${line.protocol} and this server ${protocol}.`, 'Build the image again.')
    if (line.type !== 'log') continue
    if (line.source === 'runner' && line.text.startsWith('{')) return judgeReport(line.text, wall)
    said.push(line.text)
  }
  const { reason, stderrTail } = await machine.ended
  return explainContainer([...said, stderrTail].join(' ').trim() || reason)
}

function judgeReport(text: string, wall: string): ProbeResult {
  const result = judgeProbe(text)
  const isSocketless = /"connected":"EAFNOSUPPORT"/.test(text)
  if (result.ok && isSocketless) return result
  const reason = result.ok ? 'A sandbox started but does not hold: it has sockets of the internet.' : result.reason
  return no(`In the ${wall}: ${reason}`, 'Update the engine, or use SENMON_MACHINES=local on Linux.')
}

/** Why no compartment came up in a container, from what its launcher wrote, and what to do. */
export function explainContainer(said: string): ProbeResult {
  const reason = `No compartment starts inside of a container of this engine: ${said}.`
  if (/uid map|new namespace|RTM_NEWADDR|Operation not permitted|Permission denied|No space left/i.test(said))
    return no(
      reason,
      'Allow unprivileged user namespaces where the engine runs (for Colima and the like, inside of its VM): ' +
        '`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu, `sysctl -w user.max_user_namespaces=10000`.',
    )
  return no(reason, 'Build the image again; if that does not help, use SENMON_MACHINES=local on Linux.')
}

function no(reason: string, fix: string): ProbeResult {
  return { ok: false, reason, fix }
}
