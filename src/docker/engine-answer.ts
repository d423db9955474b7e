/** What an engine's answers say, parsed as far as we need them: the rest of them is its own. Pure. */
import { z } from 'zod'
import type { MachineId } from '../../schema/id.ts'
import type { Json, JsonObject } from '../../schema/json.ts'
import type { Observation } from '../pool/machine-provider.ts'
import type { Arch } from '../sandbox/seccomp.ts'
import type { ContainerEnd } from './attached-machine.ts'
import { LABEL } from './container.ts'

export interface EngineDescription {
  readonly hasAppArmor: boolean
  readonly runtimes: readonly string[]
}

const info = z.object({
  MemoryLimit: z.boolean().default(false),
  PidsLimit: z.boolean().default(false),
  CpuCfsQuota: z.boolean().default(false),
  SecurityOptions: z.array(z.string()).nullable().default([]),
  Runtimes: z.record(z.string(), z.unknown()).nullable().default({}),
})

/** Of `GET /info`; a sentence where it lacks what machines must have. */
export function describeEngine(body: Json): EngineDescription | string {
  const parsed = info.safeParse(body)
  if (!parsed.success) return 'What the Docker engine says of itself is malformed.'
  const { MemoryLimit, PidsLimit, CpuCfsQuota, SecurityOptions, Runtimes } = parsed.data
  const options = SecurityOptions ?? []
  const lacking = [
    MemoryLimit ? [] : ['limit memory'],
    PidsLimit ? [] : ['limit processes'],
    CpuCfsQuota ? [] : ['limit processor time'],
    options.some((option) => /^name=seccomp\b/.test(option)) ? [] : ['filter system calls'],
  ].flat()
  if (lacking.length > 0) return `The Docker engine cannot ${lacking.join(', ')}.`
  return {
    hasAppArmor: options.some((option) => /^name=apparmor\b/.test(option)),
    runtimes: Object.keys(Runtimes ?? {}),
  }
}

const image = z.object({
  Id: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  Os: z.literal('linux'),
  Architecture: z.enum(['amd64', 'arm64']),
})

/** Of `GET /images/{name}/json`; undefined for one that no machine can be made of. */
export function describeImage(body: Json): { readonly id: string; readonly arch: Arch } | undefined {
  const parsed = image.safeParse(body)
  if (!parsed.success) return undefined
  return { id: parsed.data.Id, arch: parsed.data.Architecture === 'amd64' ? 'x64' : 'arm64' }
}

const waited = z.object({ StatusCode: z.int() })
const inspected = z.object({ State: z.object({ OOMKilled: z.boolean().default(false) }) })

/** Of `POST /containers/{id}/wait`, and of what inspecting it says afterwards. */
export function endOf(wait: Json, inspection: Json | undefined): ContainerEnd | null {
  const parsed = waited.safeParse(wait)
  if (!parsed.success) return null
  const seen = inspected.safeParse(inspection)
  return { exitCode: parsed.data.StatusCode, oom: seen.success && seen.data.State.OOMKilled }
}

const STATES: Readonly<Record<string, Observation['state']>> = {
  created: 'creating',
  running: 'running',
  paused: 'suspended',
  restarting: 'starting',
  removing: 'destroying',
  exited: 'failed',
  dead: 'failed',
}

const text = z.string()
const observed = z.object({
  Id: text,
  /** An object where one is inspected, a word where they are listed. */
  State: z.union([text, z.object({ Status: text })]),
  /** Seconds, or a text, in the same way. */
  Created: z.union([z.number(), text]).optional(),
  Labels: z.record(text, text).nullish(),
  Config: z.object({ Labels: z.record(text, text).nullish() }).optional(),
})

export function observe(machineId: MachineId | null, container: JsonObject): Observation {
  const parsed = observed.safeParse(container)
  if (!parsed.success) return { machineId, providerId: '', state: 'unknown', generation: null, createdAt: null }
  const { Id, State, Created, Labels, Config } = parsed.data
  const status = typeof State === 'string' ? State : State.Status
  const createdAt = typeof Created === 'string' ? Date.parse(Created) : (Created ?? Number.NaN) * 1000
  return {
    machineId,
    providerId: Id,
    state: STATES[status] ?? 'unknown',
    generation: (Labels ?? Config?.Labels)?.[LABEL.generation] ?? null,
    createdAt: Number.isNaN(createdAt) ? null : createdAt,
  }
}
