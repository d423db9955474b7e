/**
 * Whether Fly will make machines for us: asks with our credentials for each app, for the regions, and, where an operator
 * wants to know, orders a machine that is never launched. It boots nothing, and so tries no sandbox (docs/deploy-fly.md).
 */
import { unreachable } from '../../schema/decider.ts'
import type { ProbeResult } from '../pool/machine-host.ts'
import { ProviderError } from '../pool/machine-provider.ts'
import { MANAGED_BY } from './fly-machine.ts'
import type { MachinesClient } from './machines-client.ts'

export interface FlyProbe {
  readonly client: Pick<MachinesClient, 'list' | 'regions' | 'create' | 'destroy'>
  readonly apps: readonly string[]
  readonly regions: readonly string[]
  /** The config of a machine as the pool orders it: its image and size are tried. Null leaves that out. */
  readonly config: Readonly<Record<string, unknown>> | null
}

/** Names of Fly's that stand for several regions. */
const ALIASES: ReadonlySet<string> = new Set(['any', 'apac', 'eu', 'na', 'sa', 'us'])
/** One name: what is left of a probe that died is found by the next, and by every census. */
const NAME = `${MANAGED_BY}-probe`

/** Never throws what Fly answers. */
export async function probeFly(probe: FlyProbe): Promise<ProbeResult> {
  const { client, apps, regions, config } = probe
  for (const app of apps) {
    const result = await tried(`the app ${app}`, () => client.list(app), {
      refused: `Make FLY_API_TOKEN anew: \`fly tokens create deploy --app ${app}\`; it must be good for every app of FLY_APP_NAME.`,
      gone: `Make it by \`fly apps create ${app}\`, or correct FLY_APP_NAME.`,
    })
    if (!result.ok) return result
  }
  if (regions.length > 0) {
    let known: readonly string[] = []
    const result = await tried('the regions', async () => (known = await client.regions()), { refused: '', gone: '' })
    if (!result.ok && result.mayPass) return result
    // A token of one app may not be allowed to ask: then the first order shows it.
    const strange = result.ok ? regions.filter((region) => !ALIASES.has(region) && !known.includes(region)) : []
    if (strange.length > 0)
      return no(`Fly has no region ${strange.join(', ')}.`, `Correct SENMON_FLY_REGIONS; Fly has ${known.join(', ')}.`)
  }
  if (config === null) return { ok: true }
  const [app = ''] = apps
  const metadata = { managed_by: MANAGED_BY, launch_id: NAME }
  const order = { name: NAME, launchId: NAME, config: { ...config, metadata }, regions, isLaunched: false }
  return await tried(
    `a machine of ${app}`,
    async () => {
      const { id } = await client.create(app, order)
      await client.destroy(app, id)
    },
    {
      refused:
        'Correct what it names: SENMON_FLY_IMAGE must have been pushed, by its digest, and SENMON_FLY_SIZE be one of Fly’s.',
      gone: 'Push the image of SENMON_FLY_IMAGE (docs/deploy-fly.md), and name it by its digest.',
    },
  )
}

/** `fixes` is what to do where Fly will never do it. */
async function tried(
  what: string,
  ask: () => Promise<unknown>,
  fixes: Readonly<Record<'refused' | 'gone', string>>,
): Promise<ProbeResult> {
  try {
    await ask()
    return { ok: true }
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error
    const { fault, message } = error
    const reason = `Fly was asked for ${what}: ${message}`
    switch (fault) {
      case 'refused':
      case 'gone':
        return no(reason, fixes[fault])
      case 'capacity':
        return { ...no(reason, 'Name more regions in SENMON_FLY_REGIONS, or wait.'), mayPass: true }
      case 'throttled':
      case 'ambiguous':
      case 'state':
        return { ...no(reason, 'Look at Fly’s status and at FLY_FLAPS_BASE_URL, then try again.'), mayPass: true }
      default:
        return unreachable(fault)
    }
  }
}

function no(reason: string, fix: string): Extract<ProbeResult, { ok: false }> {
  return { ok: false, reason, fix }
}
