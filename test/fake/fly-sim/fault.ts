/**
 * The ways in which the platform may be hostile, F1 to F20, and the rules that say when one of them strikes. F19 is not
 * among them: what arrives twice or late on a guest's own line to us never passes this API, and is tried where lines are.
 */
import { z } from 'zod'
import { isDrawn, type Stream } from './draws.ts'

const of = <Name extends string, Shape extends z.ZodRawShape>(name: Name, shape: Shape) =>
  z.strictObject({ fault: z.literal(name), ...rule, ...shape })

/** Everything that is left out matches everything; moments are epoch ms of the simulator's clock. */
const rule = {
  match: z
    .strictObject({
      action: z.string().optional(),
      app: z.string().optional(),
      /** Id or name. */
      machine: z.string().optional(),
      region: z.string().optional(),
      from: z.number().optional(),
      until: z.number().optional(),
    })
    .optional(),
  /** So many occasions are let pass first: 2 strikes at the third. */
  skip: z.int().min(0).optional(),
  /** It strikes so often; without a limit when left out. */
  times: z.int().min(1).optional(),
  /** Of each occasion; 1 when left out. */
  p: z.number().min(0).max(1).optional(),
}

export const faultRule = z.discriminatedUnion('fault', [
  /** A create is answered with an error, and was carried out or not. */
  of('F1', { commit: z.boolean(), status: z.union([z.literal(408), z.literal(502)]) }),
  /** The connection is reset, after or before the call was carried out. */
  of('F2', { commit: z.boolean() }),
  /** 429. */
  of('F3', {}),
  /** No room for a create or a start. */
  of('F4', { as: z.enum(['quota', 'reserve', 'volume', 'no_capacity', 'insufficient']) }),
  /** A machine that enters this state stays there. */
  of('F5', { state: z.enum(['created', 'starting', 'suspending', 'stopping', 'replacing', 'destroying']) }),
  /** A suspended machine boots cold, with its files. */
  of('F6', {}),
  /** The host of a started machine dies; it is back after so long, or never. */
  of('F7', { backAfterMs: z.number().nullable() }),
  /** A stopped or suspended machine is started on another host: without its memory, with another address. */
  of('F8', {}),
  /** What is read is old (all of it, from `match.from` on), older than usual, or wrong in a list. */
  of('F9', { as: z.enum(['frozen', 'lag', 'omit', 'dead']), ms: z.number().optional() }),
  /** A proxy makes the call twice; its caller hears the second answer. */
  of('F10', {}),
  /** Somebody else takes a lease just before the call. */
  of('F11', { ttlMs: z.number() }),
  /** The guest's clock is off after a boot or a resume; negative is behind. */
  of('F12', { skewMs: z.number() }),
  /** After a resume old connections are dead, and the network is gone for a while. */
  of('F13', { unreachableMs: z.number() }),
  /** A line of a guest's output is lost, or comes after the next. */
  of('F14', { as: z.enum(['lost', 'reordered']) }),
  /** The API, or a region of it, fails. */
  of('F15', { as: z.enum(['500', '503', 'timeout']) }),
  /** The guest dies, ends, hangs, or hears no signal. */
  of('F16', { as: z.enum(['oom', 'exit', 'hang', 'deaf']), afterMs: z.number().optional() }),
  /** A start is refused for a state that the machine has left. */
  of('F17', { as: z.enum(['active', 'replacing', 'created']) }),
  /** An answer has another shape than usual. */
  of('F18', { as: z.enum(['truncated', 'unknown_state', 'extra', 'missing']) }),
  /** The image cannot be pulled, or does not boot. */
  of('F20', { as: z.enum(['pull', 'boot']) }),
])
export type FaultRule = z.infer<typeof faultRule>
export type FaultName = FaultRule['fault']
type Named<Name extends FaultName> = Extract<FaultRule, { fault: Name }>

/** A rule, and what is left of it. */
export interface Loaded {
  readonly rule: FaultRule
  skip: number
  left: number
}

export function load(rule: FaultRule): Loaded {
  return { rule, skip: rule.skip ?? 0, left: rule.times ?? Number.POSITIVE_INFINITY }
}

/** What a rule is matched against. */
export interface Occasion {
  readonly now: number
  readonly action?: string | undefined
  readonly app?: string | undefined
  readonly machine?: { readonly id: string; readonly name: string } | undefined
  readonly region?: string | undefined
}

/** The first rule of that name that strikes now; it is used up by one. Draws only for rules that leave it to chance. */
export function strike<Name extends FaultName>(
  rules: readonly Loaded[],
  name: Name,
  stream: Stream,
  occasion: Occasion,
  suits: (rule: Named<Name>) => boolean = () => true,
): Named<Name> | undefined {
  for (const loaded of rules) {
    const { rule } = loaded
    if (!isNamed(rule, name) || loaded.left <= 0 || !matches(rule, occasion) || !suits(rule)) continue
    if (loaded.skip > 0) {
      loaded.skip -= 1
      continue
    }
    if (rule.p !== undefined && !isDrawn(stream, rule.p)) continue
    loaded.left -= 1
    return rule
  }
  return undefined
}

function isNamed<Name extends FaultName>(rule: FaultRule, name: Name): rule is Named<Name> {
  return rule.fault === name
}

function matches({ match = {} }: FaultRule, { now, action, app, machine, region }: Occasion): boolean {
  return (
    (match.action === undefined || match.action === action) &&
    (match.app === undefined || match.app === app) &&
    (match.machine === undefined || match.machine === machine?.id || match.machine === machine?.name) &&
    (match.region === undefined || match.region === region) &&
    (match.from === undefined || now >= match.from) &&
    (match.until === undefined || now < match.until)
  )
}

/** Everything that may go wrong, at one to five in a hundred. */
export const CRUEL: readonly FaultRule[] = [
  { fault: 'F1', commit: true, status: 408, p: 0.03 },
  { fault: 'F1', commit: false, status: 502, p: 0.03 },
  { fault: 'F2', commit: true, p: 0.01 },
  { fault: 'F2', commit: false, p: 0.01 },
  { fault: 'F3', p: 0.02 },
  { fault: 'F4', as: 'reserve', p: 0.03 },
  { fault: 'F4', as: 'quota', p: 0.01 },
  { fault: 'F5', state: 'created', p: 0.01 },
  { fault: 'F5', state: 'starting', p: 0.01 },
  { fault: 'F5', state: 'suspending', p: 0.01 },
  { fault: 'F5', state: 'stopping', p: 0.01 },
  { fault: 'F5', state: 'replacing', p: 0.01 },
  { fault: 'F5', state: 'destroying', p: 0.01 },
  { fault: 'F6', p: 0.05 },
  { fault: 'F7', backAfterMs: 20_000, p: 0.01 },
  { fault: 'F8', p: 0.02 },
  { fault: 'F9', as: 'lag', ms: 5_000, p: 0.03 },
  { fault: 'F9', as: 'omit', p: 0.02 },
  { fault: 'F10', p: 0.01 },
  { fault: 'F11', ttlMs: 3_000, p: 0.01 },
  { fault: 'F12', skewMs: -90_000, p: 0.03 },
  { fault: 'F13', unreachableMs: 2_000, p: 0.03 },
  { fault: 'F14', as: 'lost', p: 0.03 },
  { fault: 'F14', as: 'reordered', p: 0.03 },
  { fault: 'F15', as: '503', p: 0.01 },
  { fault: 'F15', as: '500', p: 0.01 },
  { fault: 'F16', as: 'oom', afterMs: 3_000, p: 0.01 },
  { fault: 'F16', as: 'exit', afterMs: 5_000, p: 0.01 },
  { fault: 'F16', as: 'hang', afterMs: 4_000, p: 0.01 },
  { fault: 'F16', as: 'deaf', p: 0.02 },
  { fault: 'F17', as: 'active', p: 0.03 },
  { fault: 'F18', as: 'extra', p: 0.05 },
  { fault: 'F18', as: 'missing', p: 0.03 },
  { fault: 'F18', as: 'unknown_state', p: 0.02 },
  { fault: 'F18', as: 'truncated', p: 0.03 },
  { fault: 'F20', as: 'pull', p: 0.01 },
]
