/** A machine as Fly describes it, read leniently: what is new or missing is no error, a state that is new is `unknown`. */
import { z } from 'zod'
import { parseId } from '../../schema/id.ts'
import type { Observation } from '../pool/machine-provider.ts'

export const MANAGED_BY = 'senmon'

const fields = z.object({
  id: z.string().min(1),
  name: z.string().catch(''),
  state: z.string().catch(''),
  region: z.string().catch(''),
  instance_id: z.string().catch(''),
  created_at: z.string().catch(''),
  host_status: z.string().catch('ok'),
  config: z
    .object({ metadata: z.record(z.string(), z.string()).catch({}) })
    .catch({ metadata: {} })
    .optional(),
  incomplete_config: z
    .object({ metadata: z.record(z.string(), z.string()).catch({}) })
    .catch({ metadata: {} })
    .nullish(),
})
export type FlyMachine = z.infer<typeof fields>

/** Undefined for what is no machine at all. */
export function parseFlyMachine(value: unknown): FlyMachine | undefined {
  const parsed = fields.safeParse(value)
  return parsed.success ? parsed.data : undefined
}

export function parseFlyMachines(value: unknown): readonly FlyMachine[] | undefined {
  if (!Array.isArray(value)) return undefined
  return value.flatMap((one) => parseFlyMachine(one) ?? [])
}

const regions = z.object({ Regions: z.array(z.object({ code: z.string() })) })

/** The codes in an answer about regions. */
export function parseRegions(value: unknown): readonly string[] | undefined {
  const parsed = regions.safeParse(value)
  return parsed.success ? parsed.data.Regions.map(({ code }) => code) : undefined
}

/** Fly's words for states, in the pool's. */
const STATES: Readonly<Record<string, Observation['state']>> = {
  created: 'creating',
  creating: 'creating',
  starting: 'starting',
  started: 'running',
  restarting: 'starting',
  suspending: 'suspending',
  suspended: 'suspended',
  stopping: 'stopping',
  stopped: 'stopped',
  failed: 'failed',
  launch_failed: 'failed',
  updating: 'stopping',
  replacing: 'stopping',
  destroying: 'destroying',
  destroyed: 'gone',
  replaced: 'gone',
  migrated: 'gone',
}

export function metadataOf({ config, incomplete_config: incomplete }: FlyMachine): Readonly<Record<string, string>> {
  return config?.metadata ?? incomplete?.metadata ?? {}
}

export function observe(machine: FlyMachine): Observation {
  const metadata = metadataOf(machine)
  const createdAt = Date.parse(machine.created_at)
  return {
    machineId: parseId('mch', metadata['launch_id']) ?? idOf(machine.name) ?? null,
    providerId: machine.id,
    state: STATES[machine.state] ?? 'unknown',
    generation: metadata['gen'] ?? null,
    createdAt: Number.isFinite(createdAt) ? createdAt : null,
  }
}

/** Unique in an app, and ours alone: a name that is taken is this very machine. */
export function nameOf(id: string): string {
  return `${MANAGED_BY}-${id.replace('_', '-')}`
}

function idOf(name: string): ReturnType<typeof parseId<'mch'>> {
  return name.startsWith(`${MANAGED_BY}-mch-`)
    ? parseId('mch', name.slice(MANAGED_BY.length + 1).replace('-', '_'))
    : undefined
}
