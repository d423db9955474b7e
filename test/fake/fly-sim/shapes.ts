/** The bodies of the Machines API that the simulator reads and writes: what it checks is typed, the rest goes through. */
import { z } from 'zod'

export const duration = z.union([z.string(), z.number()])
const guest = z.looseObject({
  cpu_kind: z.enum(['shared', 'performance']),
  cpus: z.int(),
  memory_mb: z.int(),
  gpu_kind: z.string().optional(),
  gpus: z.int().optional(),
})
export const machineConfig = z.looseObject({
  image: z.string(),
  env: z.record(z.string(), z.string()).optional(),
  init: z
    .looseObject({
      exec: z.array(z.string()).optional(),
      entrypoint: z.array(z.string()).optional(),
      cmd: z.array(z.string()).optional(),
      swap_size_mb: z.number().optional(),
    })
    .optional(),
  guest: guest.optional(),
  rootfs: z.looseObject({ persist: z.enum(['never', 'restart', 'always']).optional() }).optional(),
  mounts: z.array(z.unknown()).optional(),
  restart: z
    .looseObject({
      policy: z.enum(['no', 'on-failure', 'always', 'spot-price']).optional(),
      max_retries: z.int().optional(),
    })
    .optional(),
  auto_destroy: z.boolean().optional(),
  schedule: z.string().optional(),
  metadata: z.record(z.string(), z.string()).optional(),
  stop_config: z.looseObject({ signal: z.string().optional(), timeout: duration.optional() }).optional(),
})
export type MachineConfig = z.infer<typeof machineConfig>

export const launchBody = z.looseObject({
  config: machineConfig,
  name: z.string().optional(),
  region: z.string().optional(),
  skip_launch: z.boolean().optional(),
  lease_ttl: z.number().optional(),
  current_version: z.string().optional(),
})
export type LaunchBody = z.infer<typeof launchBody>

export const stopBody = z.looseObject({ signal: z.string().optional(), timeout: duration.optional() })
export const signalBody = z.looseObject({ signal: z.union([z.string(), z.number()]) })
export const execBody = z.looseObject({
  command: z.array(z.string()).optional(),
  cmd: z.string().optional(),
  stdin: z.string().optional(),
  timeout: z.number().optional(),
})
export const appBody = z.looseObject({
  app_name: z.string().optional(),
  name: z.string().optional(),
  org_slug: z.string(),
  network: z.string().optional(),
})
export const leaseBody = z.looseObject({ description: z.string().optional(), ttl: z.number().optional() })
export const metadataBody = z.looseObject({ value: z.string() })
export const metadataPatch = z.looseObject({
  metadata: z.record(z.string(), z.string().nullable()),
  machine_version: z.string().optional(),
})
export const placementBody = z.looseObject({
  compute: z.looseObject({ memory_mb: z.int().optional() }).optional(),
  region: z.string().optional(),
  count: z.int().optional(),
})

/** `updating`, `restarting` and `creating` are never shown: updates show `replacing`, and we do not restart. */
export type MachineState =
  | 'created'
  | 'starting'
  | 'started'
  | 'suspending'
  | 'suspended'
  | 'stopping'
  | 'stopped'
  | 'failed'
  | 'replacing'
  | 'launch_failed'
  | 'destroying'
  | 'destroyed'

export interface ExitEvent {
  readonly exit_code: number
  readonly signal: number
  readonly oom_killed: boolean
  readonly requested_stop: boolean
  readonly restarting: boolean
  readonly exited_at: string
}

export interface MachineEvent {
  readonly id: string
  readonly type: string
  readonly status: string
  readonly source: 'user' | 'flyd'
  /** Epoch ms. */
  readonly timestamp: number
  readonly request?: { readonly exit_event: ExitEvent; readonly restart_count: number } | { readonly migrated: true }
}

/** A machine as the API shows it. */
export interface Machine {
  readonly id: string
  readonly name: string
  readonly state: string
  readonly region: string
  readonly image_ref: {
    readonly registry: string
    readonly repository: string
    readonly tag?: string
    readonly digest: string
    readonly labels: null
  }
  readonly instance_id: string
  readonly version: string
  readonly private_ip: string
  readonly created_at: string
  readonly updated_at: string
  readonly config?: MachineConfig
  readonly incomplete_config?: MachineConfig
  readonly events?: readonly MachineEvent[]
  readonly host_status: 'ok' | 'unknown' | 'unreachable'
  readonly cordoned?: boolean
  readonly nonce?: string
}

/** `15s`, `1m30s`, `500ms` or nanoseconds, in ms. */
export function millisecondsOf(value: string | number): number {
  if (typeof value === 'number') return value / 1e6
  const units: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }
  let total = 0
  for (const [, amount, unit] of value.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g))
    total += Number(amount) * (units[unit ?? ''] ?? 0)
  return total
}

/** RFC 3339 to the second, as the API prints moments. */
export function printMoment(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`
}
