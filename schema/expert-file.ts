/**
 * Parses the expert file, `senmon.toml`, into the types of `expert.ts`. `perstack.toml` has the same grammar.
 * What is part of a later grammar, or would be a guarantee that nobody keeps, is a fault and never ignored.
 */
import * as z from 'zod'
import { matchesGlob } from './approval.ts'
import { baseSchema, checkChoice, printChoice } from './base-choice.ts'
import { BASE } from './base-tool.ts'
import { isUnlimited, LIMITS, MEASURES, type Budget, type Measure } from './budget.ts'
import { COMPACTION, compactionSchema, printCompaction } from './compaction-rule.ts'
import { DOMAIN, domainFault, isWithin } from './domain.ts'
import { CALL_EFFECTS } from './effect.ts'
import { parseExpertKey } from './expert-key.ts'
import type { Expert, ExpertFile, InteractiveTool, Skill, StdioSkill } from './expert.ts'
import { checkOrigin, ORIGIN_PACKAGE, originChoice } from './origin-tools.ts'
import { endpointFault, headerFaults } from './remote-skill.ts'
import { isFaults, readToml, valueAt, type Complaint, type Fault } from './toml-file.ts'
import { modelSettingsShape, printModelSettings } from './model-settings.ts'
import { OUTPUT_RETRIES } from './output.ts'
import { parseToolSchema } from './tool-schema.ts'
import { checkTools, timeoutSchema, toolShape, toolsSchema, type ToolText, printTools } from './interactive-tool.ts'

export const INSTRUCTION_BYTES_MAX = 20 * 1024
export const DESCRIPTION_CHARACTERS_MAX = 2048
/** The version of the runtime that an expert may ask for. */
export const RUNTIME_VERSION = 'v1.0'
export const EXPERT_FILE_NAMES = ['senmon.toml', 'perstack.toml'] as const

const version = z
  .string()
  .regex(
    /^\d{1,9}\.\d{1,9}\.\d{1,9}(?:-[0-9A-Za-z.-]{1,64})?(?:\+[0-9A-Za-z.-]{1,64})?$/,
    'must be an exact version such as "1.0.0"',
  )
const model = z
  .string()
  .min(1)
  .max(200)
  .regex(/^[\w./:@+-]+$/, 'must be provider/model, such as "anthropic/claude-sonnet-4-5"')
const count = z.number().int().min(1).max(100_000)

const MEMBER = /^[A-Za-z0-9_.-]{1,64}$/
const toolName = z.string().regex(MEMBER, 'must be the name of a tool: letters, digits, ".", "_" and "-", at most 64')
const DENIED = 'would change how programs run rather than carry a value; choose another name'
const ENV_DENIED =
  /^(?:PATH|HOME|SHELL|IFS|ENV|BASH_ENV|PS4|TMPDIR|NODE_.*|LD_.*|DYLD_.*|PYTHON(?:PATH|STARTUP|HOME)|PERL5?(?:OPT|LIB)|RUBY(?:OPT|LIB)|GIT_(?:SSH.*|EXEC_PATH|CONFIG.*|ASKPASS)|npm_.*|NPM_CONFIG_.*|SENMON_.*|__.*)$/i
const envName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/, 'must be the name of a variable: letters, digits and "_", at most 64')
  .refine((text) => !ENV_DENIED.test(text), { error: DENIED })
const domain = z
  .string()
  .refine((text) => domainFault(text) === undefined, { error: ({ input }) => domainFault(String(input)) })
  .meta({ pattern: DOMAIN.source })
const PACKAGE = /^((?:@[a-z0-9][a-z0-9._-]{0,63}\/)?[a-z0-9][a-z0-9._-]{0,63})(?:@([^@\s/]{1,128}))?$/
const packageName = z
  .string()
  .regex(PACKAGE, 'must be the name of an npm package, such as "@senmon/files" or "@senmon/files@^1"')
const argument = z.string().max(4096)

const skillParts = {
  description: z.string().max(DESCRIPTION_CHARACTERS_MAX).optional(),
  rule: z.string().max(INSTRUCTION_BYTES_MAX).optional(),
}
const effect = z.enum(CALL_EFFECTS, { error: () => 'must be "pure", "idempotent" or "once"' })
const effects = z.record(
  z
    .string()
    .regex(/^[\w.*?-]{1,64}$/, 'must be a tool of the skill or a glob over them, such as "send_mail" or "read_*"'),
  effect,
  { error: () => 'must be a table of tools, such as send_mail = "once"' },
)
const baseEffects = z.record(
  z
    .string()
    .max(200)
    .regex(/^[\w.*?/-]+$/, 'must be a base tool as the model reads it, such as "shell/exec" or "files/read_*"'),
  effect,
  { error: () => 'must be a table of base tools, such as "shell/exec" = "once"' },
)
const toolParts = { pick: z.array(toolName).max(256).optional(), omit: z.array(toolName).max(256).optional() }

const stdioSkill = z.strictObject({
  type: z.literal('mcpStdioSkill'),
  ...skillParts,
  ...toolParts,
  command: z
    .enum(['npx', 'node'], {
      error: () => 'must be "npx" or be left out: a skill is an npm package, started by its bin',
    })
    .optional(),
  packageName: packageName.optional(),
  args: z.array(argument).max(64).optional(),
  requiredEnv: z.array(envName).max(32).optional(),
  allowedDomains: z.array(domain).max(64).optional(),
  lazyInit: z.boolean().optional(),
  pin: z.boolean().optional(),
  required: z.boolean().optional(),
  effects: effects.optional(),
  questionTimeout: timeoutSchema.optional(),
})
const endpoint = z
  .string()
  .max(2048)
  .refine((text) => endpointFault(text) === undefined, { error: ({ input }) => endpointFault(String(input)) })
  .meta({ pattern: '^https?://[!-~]+$' })
const remoteParts = {
  ...skillParts,
  ...toolParts,
  endpoint,
  // As the origin writes it; a remote skill reaches its endpoint and nothing else.
  allowedDomains: z.array(domain).max(64).optional(),
  headers: z.record(z.string().max(128), z.string().max(4096)).optional(),
  requiredEnv: z.array(envName).max(32).optional(),
  lazyInit: z.boolean().optional(),
  pin: z.boolean().optional(),
  required: z.boolean().optional(),
  effects: effects.optional(),
  questionTimeout: timeoutSchema.optional(),
}
const skillSchema = z.discriminatedUnion('type', [
  stdioSkill,
  z.strictObject({ type: z.literal('mcpHttpSkill'), ...remoteParts }),
  z.strictObject({ type: z.literal('mcpSseSkill'), ...remoteParts }),
  z.strictObject({
    type: z.literal('interactiveSkill'),
    ...skillParts,
    packageName: packageName.optional(),
    tools: toolsSchema.optional(),
  }),
])
type SkillText = z.infer<typeof skillSchema>

const SKILL_NAME = /^(?:@[a-z0-9][a-z0-9._-]{0,63}\/)?[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
const skillName = z
  .string()
  .regex(SKILL_NAME, 'is not a name of a skill: use letters, digits, ".", "_" and "-", at most 64')
const EXPERT_NAME = /^(?:@[a-z0-9][a-z0-9._-]{0,63}\/)?[a-z0-9][a-z0-9._-]{0,63}$/
const expertName = z
  .string()
  .regex(EXPERT_NAME, 'is not a name of an expert: use lower case letters, digits, ".", "_" and "-", at most 64')

const glob = z.string().min(1).max(1024)
const approvalShape = {
  tool: z
    .string()
    .max(200)
    .regex(/^[\w.@*?/-]+$/, 'must be a tool as the model reads it, such as "shell/exec" or "shell/*"'),
  args: z.record(z.string().min(1).max(128), glob, { error: () => 'must give a glob for each argument' }).optional(),
  edits: z.boolean().optional(),
  timeout: timeoutSchema.optional(),
}
const approvalSchema = z.strictObject(approvalShape)

const limitSchema = (measure: Measure) => {
  const { isWhole, min, max } = LIMITS[measure]
  const number = isWhole ? z.number().int() : z.number()
  return number
    .min(min)
    .max(max, { error: () => `must be at most ${max}` })
    .optional()
}
const budgetSchema = z
  .strictObject({
    costUsd: limitSchema('costUsd'),
    inputTokens: limitSchema('inputTokens'),
    cachedInputTokens: limitSchema('cachedInputTokens'),
    outputTokens: limitSchema('outputTokens'),
    steps: limitSchema('steps'),
    toolCalls: limitSchema('toolCalls'),
    wallSeconds: limitSchema('wallSeconds'),
  })
  .refine((budget) => !isUnlimited(known(budget)), { error: `bounds nothing; give one of ${MEASURES.join(', ')}` })

const expertSchema = z.strictObject({
  version: version.optional(),
  minRuntimeVersion: z
    .string()
    .regex(/^v?\d{1,9}(?:\.\d{1,9}){0,2}$/, 'must be a version such as "v1.0"')
    .refine((text) => !isAbove(text, RUNTIME_VERSION), {
      error: `asks for a newer runtime than this one, which is ${RUNTIME_VERSION}; lower it`,
    })
    .optional(),
  description: z.string().max(DESCRIPTION_CHARACTERS_MAX).optional(),
  instruction: z
    .string()
    .min(1)
    .refine((text) => new TextEncoder().encode(text).length <= INSTRUCTION_BYTES_MAX, {
      error: `must be at most ${INSTRUCTION_BYTES_MAX} bytes long`,
    }),
  model: model.optional(),
  maxSteps: count.optional(),
  delegates: z.array(z.string()).max(64).optional(),
  tags: z.array(z.string().min(1).max(64)).max(32).optional(),
  skills: z.record(skillName, skillSchema).optional(),
  approvals: z.array(approvalSchema).max(64).optional(),
  base: baseSchema.optional(),
  effects: baseEffects.optional(),
  budget: budgetSchema.optional(),
  compaction: compactionSchema.optional(),
  /** JSON text: the schema of the expert's result. */
  outputJsonSchema: z.string().optional(),
  outputRetries: z.number().int().min(0).max(10).optional(),
  ...modelSettingsShape,
})

const envPath = z.array(z.string().max(1024)).max(32)
const elsewhere = (where: string) => z.never({ error: () => `does not belong into the file: ${where}` }).optional()
/** The grammar's shape; what lies across fields is checked besides. The schema for editors is printed from it. */
export const fileSchema = z.strictObject({
  model: model.optional(),
  provider: z
    .strictObject({
      providerName: z.string().regex(/^[a-z][a-z0-9-]{0,63}$/, 'must be the name of a provider, such as "anthropic"'),
      setting: elsewhere('providers are set up on the server; remove it'),
      // Files of the origin write it below the table that it was meant to precede.
      envPath: envPath.optional(),
    })
    .optional(),
  maxSteps: count.optional(),
  ...modelSettingsShape,
  // Read and left aside, as the origin's files have them.
  envPath: envPath.optional(),
  temperature: z.number().min(0).max(2).optional(),
  perstackApiBaseUrl: z.string().max(2048).optional(),
  runtime: z
    .enum(['senmon', 'perstack', 'local', 'docker'], {
      error: () =>
        'must be "senmon", "perstack", "local", "docker" or be left out: experts run in the machines of the server',
    })
    .optional(),
  headers: elsewhere('headers may hold keys; set them as secrets of the application'),
  perstackBaseSkillCommand: elsewhere('a skill named files or shell takes the place of a base tool; remove it'),
  experts: z.record(expertName, expertSchema, {
    error: () => 'must be a table with at least one expert, such as [experts."my-expert"]',
  }),
})
type FileText = z.infer<typeof fileSchema>

/** What a file may say, as the origin's files do, without any effect here; and what has the effect instead. */
export const LEFT_ASIDE: Readonly<Record<string, string>> = {
  envPath: 'variables come from no file; set them with senmon secret set',
  runtime: 'experts run in the machines of the server',
  temperature: 'a model samples as its provider lets it by default',
  perstackApiBaseUrl: 'an expert is published where npm publish is told to',
}
type ExpertText = z.infer<typeof expertSchema>

const REFUSED = new Set(['headers', 'perstackBaseSkillCommand'])
const FILE_KEYS = Object.keys(fileSchema.shape).filter((key) => !REFUSED.has(key))
const EXPERT_KEYS = Object.keys(expertSchema.shape).filter((key) => !REFUSED.has(key))

const SKILL_KEYS = Object.fromEntries(
  skillSchema.options.map((option) => [option.shape.type.value, Object.keys(option.shape)]),
)

/** The file, or all of its faults, each a sentence that names file, line, table and field. */
export function parseExpertFile(text: string, fileName: string): ExpertFile | readonly Fault[] {
  const file = readToml(text, fileName, { schema: fileSchema, keysAt, check })
  return isFaults(file) ? file : printFile(file)
}

function keysAt(path: readonly (string | number)[], root: unknown): readonly string[] {
  if (path.length === 0) return FILE_KEYS
  if (path[0] === 'provider') return ['providerName']
  if (path.length === 2) return EXPERT_KEYS
  if (path[2] === 'budget') return MEASURES
  if (path[2] === 'compaction') return Object.keys(COMPACTION)
  if (path[2] === 'approvals') return Object.keys(approvalShape)
  if (path.length === 4) return SKILL_KEYS[String(valueAt(root, [...path, 'type']))] ?? []
  return Object.keys(toolShape)
}

const providerSchema = z.looseObject({ model: z.string().optional(), provider: z.unknown().optional() })

/** Checks each expert that has its shape, so that one expert's mistake does not hide another's. */
function check(root: unknown): readonly Complaint[] {
  const experts = valueAt(root, ['experts'])
  if (typeof experts !== 'object' || experts === null) return []
  const complaints: Complaint[] = []
  if (Object.keys(experts).length === 0) complaints.push({ path: ['experts'], words: 'must hold at least one expert' })
  const top = providerSchema.safeParse(root).data
  const hasProvider = top?.provider !== undefined
  const orphan = 'must name its provider: write provider/model'
  if (top?.model !== undefined && !top.model.includes('/') && !hasProvider)
    complaints.push({ path: ['model'], words: orphan })
  for (const [name, candidate] of Object.entries(experts)) {
    const expert = expertSchema.safeParse(candidate).data
    if (expert === undefined) continue
    const path = ['experts', name]
    if (expert.model !== undefined && !expert.model.includes('/') && !hasProvider)
      complaints.push({ path: [...path, 'model'], words: orphan })
    complaints.push(...checkDelegates(name, expert, path), ...checkSkills(expert, path))
    complaints.push(...checkApprovals(expert, path), ...checkOutput(expert, path))
    complaints.push(...checkChoice(expert.base, declared(expert), path), ...checkOrigins(expert, path))
    complaints.push(...checkEffects(expert, path))
  }
  return complaints
}

/** The names of an expert's own skills, as they prefix their tools. */
function declared(expert: ExpertText): readonly string[] {
  return Object.entries(expert.skills ?? {}).flatMap(([name, skill]) =>
    isOrigins(skill) ? [] : [printSkillName(name)],
  )
}

/** Whether a skill is the origin's base skill, which is no skill here but a choice of base tools. */
function isOrigins(skill: SkillText): skill is StdioText {
  if (skill.type !== 'mcpStdioSkill') return false
  const command = commandOf(skill)
  return typeof command !== 'string' && command.packageName === ORIGIN_PACKAGE
}

function checkOrigins(expert: ExpertText, at: readonly string[]): readonly Complaint[] {
  const origins = Object.entries(expert.skills ?? {}).filter(([, skill]) => isOrigins(skill))
  return origins.flatMap(([name, skill], index): Complaint[] => {
    const path = [...at, 'skills', name]
    if (index > 0) return [{ path, words: `is ${ORIGIN_PACKAGE} a second time; remove it` }]
    const twice = { path, words: `chooses among the base tools, as the key base does; remove one of the two` }
    const command = isOrigins(skill) ? commandOf(skill) : 'no'
    if (!isOrigins(skill) || typeof command === 'string') return []
    return [...(expert.base === undefined ? [] : [twice]), ...checkOrigin(skill, command.args, path)]
  })
}

function choiceOf(expert: ExpertText): Expert['base'] {
  const origins = Object.values(expert.skills ?? {}).find(isOrigins)
  return origins === undefined ? printChoice(expert.base, declared(expert)) : originChoice(origins, declared(expert))
}

function checkDelegates(name: string, expert: ExpertText, at: readonly string[]): readonly Complaint[] {
  const seen = new Set<string>()
  return (expert.delegates ?? []).flatMap((delegate, index): Complaint[] => {
    const path = [...at, 'delegates', index]
    const key = parseExpertKey(delegate)
    if (key === undefined)
      return [
        {
          path,
          words: `must be an expert key such as "security-analyst" or "@acme/licences@^2"; got ${brief(delegate)}`,
        },
      ]
    if (key.name === name) return [{ path, words: `names the expert itself, ${brief(name)}; remove it` }]
    if (seen.has(key.name)) return [{ path, words: `names ${brief(key.name)} a second time; remove it` }]
    seen.add(key.name)
    return []
  })
}

function checkSkills(expert: ExpertText, at: readonly string[]): readonly Complaint[] {
  const complaints: Complaint[] = []
  const seen = new Map<string, string>()
  for (const [name, skill] of Object.entries(expert.skills ?? {})) {
    const path = [...at, 'skills', name]
    const printed = printSkillName(name)
    const twin = seen.get(printed)
    if (twin !== undefined)
      complaints.push({ path, words: `has the same tool prefix as the skill ${brief(twin)}; rename it` })
    if (printed === 'delegate') complaints.push({ path, words: 'has a name that is kept for delegation; rename it' })
    seen.set(printed, name)
    if (skill.type === 'mcpStdioSkill') complaints.push(...checkStdioSkill(skill, path))
    else if (skill.type === 'interactiveSkill') {
      if (skill.packageName === undefined && Object.keys(skill.tools ?? {}).length === 0)
        complaints.push({ path, words: 'brings no tool; give it tools or a packageName' })
      complaints.push(...checkTools(skill.tools ?? {}, [...path, 'tools']))
    } else complaints.push(...checkRemoteSkill(skill, path))
  }
  return complaints
}

/** A rule that covers nothing protects nobody: its author believes that it does. */
function checkApprovals(expert: ExpertText, at: readonly string[]): readonly Complaint[] {
  const owners = Object.entries(expert.skills ?? {}).flatMap(([name, skill]) =>
    skill.type === 'interactiveSkill' || isOrigins(skill) ? [] : [`${printSkillName(name)}/`],
  )
  const base = choiceOf(expert).tools.filter((name) => !name.startsWith(`${BASE}/`))
  const delegates = (expert.delegates ?? []).map((written) => `delegate/${parseExpertKey(written)?.name ?? written}`)
  return (expert.approvals ?? []).flatMap(({ tool }, index): Complaint[] => {
    const isMet =
      [...delegates, ...base].some((name) => matchesGlob(tool, name)) || owners.some((owner) => mayCover(tool, owner))
    const words = `covers no tool of the skills and delegates of this expert: ${brief(tool)}; correct or remove it`
    return isMet ? [] : [{ path: [...at, 'approvals', index, 'tool'], words }]
  })
}

/** The tools that skills of the file bring have their classes there, where `pick` and `omit` stand as well. */
function checkEffects(expert: ExpertText, at: readonly string[]): readonly Complaint[] {
  const { tools } = choiceOf(expert)
  const served = tools.filter((name) => name.split('/')[0] !== BASE)
  return Object.keys(expert.effects ?? {}).flatMap((tool): Complaint[] => {
    if (served.some((name) => matchesGlob(tool, name))) return []
    const owner = declared(expert).find((name) => tool.startsWith(`${name}/`))
    const words =
      owner === undefined
        ? 'names no base tool of files or shell that this expert has; correct or remove it'
        : `names a tool of the skill ${brief(owner)}; write it into the effects of that skill`
    return [{ path: [...at, 'effects', tool], words }]
  })
}

function checkOutput(expert: ExpertText, at: readonly string[]): readonly Complaint[] {
  const { outputJsonSchema: text, outputRetries } = expert
  if (text === undefined) {
    const words = 'has no effect without an outputJsonSchema; give one or remove it'
    return outputRetries === undefined ? [] : [{ path: [...at, 'outputRetries'], words }]
  }
  const schema = parseToolSchema(text, 'answer')
  return typeof schema === 'string' ? [{ path: [...at, 'outputJsonSchema'], words: schema }] : []
}

/** Whether a glob can match a name that begins with `owner`, which ends at its slash. */
function mayCover(glob: string, owner: string): boolean {
  return Array.from({ length: glob.length }, (_, i) => glob.slice(0, i + 1)).some(
    (head) => matchesGlob(head, owner) && (head.endsWith('*') || glob.length > head.length),
  )
}

type StdioText = Extract<SkillText, { type: 'mcpStdioSkill' }>
type RemoteText = Extract<SkillText, { endpoint: string }>

function checkStdioSkill(skill: StdioText, path: readonly string[]): readonly Complaint[] {
  const complaints: Complaint[] = []
  const command = commandOf(skill)
  if (typeof command === 'string') complaints.push({ path: [...path, 'packageName'], words: command })
  return [...complaints, ...checkPick(skill, path)]
}

function checkRemoteSkill(skill: RemoteText, path: readonly string[]): readonly Complaint[] {
  const faults = headerFaults(skill.headers ?? {}, skill.requiredEnv ?? [])
  const complaints = faults.map(({ header, words }): Complaint => {
    return { path: header === null ? [...path, 'requiredEnv'] : [...path, 'headers', header], words }
  })
  const { hostname } = new URL(skill.endpoint)
  const isNamed = skill.allowedDomains?.some((allowed) => isWithin(allowed, hostname)) ?? true
  const words = `leaves out the host of the endpoint, ${brief(hostname)}; add it, or remove the key`
  const domains = isNamed ? [] : [{ path: [...path, 'allowedDomains'], words }]
  return [...complaints, ...domains, ...checkPick(skill, path)]
}

function checkPick(skill: StdioText | RemoteText, path: readonly string[]): readonly Complaint[] {
  const both = (skill.pick ?? []).filter((tool) => skill.omit?.includes(tool))
  const words = (tool: string) => `omits ${brief(tool)}, which pick asks for; decide`
  const vain = Object.keys(skill.effects ?? {}).filter((name) => !isOffered(skill, name))
  return [
    ...both.map((tool) => ({ path: [...path, 'omit'], words: words(tool) })),
    ...vain.map((tool) => ({
      path: [...path, 'effects', tool],
      words: 'names no tool that is on offer; correct or remove it',
    })),
  ]
}

/** Whether a name or a glob may mean a tool that `pick` and `omit` leave. */
function isOffered({ pick, omit = [] }: StdioText | RemoteText, tool: string): boolean {
  if (pick !== undefined) return pick.some((picked) => matchesGlob(tool, picked))
  return !omit.includes(tool)
}

/** Package, spec and arguments as meant, or what is wrong: the origin also writes `npx` with the package in args. */
function commandOf(skill: StdioText): { packageName: string; spec: string; args: readonly string[] } | string {
  let args = skill.args ?? []
  let text = skill.packageName
  if (text === undefined) {
    if (skill.command === undefined) return 'must name the npm package of the skill; it is missing'
    args = args.slice(args.findLastIndex((arg) => arg === '-y' || arg === '--yes') === 0 ? 1 : 0)
    ;[text, ...args] = args
    if (text === undefined) return 'must name the npm package of the skill; it is missing'
  }
  const match = PACKAGE.exec(text)
  if (match === null) return `must name an npm package that is published here; ${brief(text)} is none`
  return { packageName: match[1] ?? '', spec: match[2] ?? 'latest', args }
}

/** How a skill's name prefixes its tools: `@acme/files` becomes `acme_files`, since a model reads `skill/tool`. */
export function printSkillName(name: string): string {
  return name.replace(/^@/, '').replace('/', '_')
}

/** Both as `v1.2.3`, the `v` and what follows the first number optional. */
function isAbove(wanted: string, version: string): boolean {
  const [want, have] = [wanted, version].map((text) => text.replace(/^v/, '').split('.').map(Number))
  for (const [i, part] of (want ?? []).entries()) if (part !== (have?.[i] ?? 0)) return part > (have?.[i] ?? 0)
  return false
}

/** Without the keys that are not there. */
function known(budget: Partial<Record<Measure, number | undefined>>): Budget {
  return Object.fromEntries(Object.entries(budget).filter(([, limit]) => limit !== undefined)) as Budget // no undefined
}

function brief(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text)
}

function printFile(file: FileText): ExpertFile {
  const withProvider = (text: string | undefined): string | null => {
    if (text === undefined) return null
    return text.includes('/') || file.provider === undefined ? text : `${file.provider.providerName}/${text}`
  }
  const experts = Object.entries(file.experts).map(([name, expert]): [string, Expert] => [
    name,
    {
      name,
      version: expert.version ?? null,
      description: expert.description ?? '',
      instruction: expert.instruction,
      model: withProvider(expert.model ?? file.model),
      maxSteps: expert.maxSteps ?? file.maxSteps ?? null,
      delegates: expert.delegates ?? [],
      tags: expert.tags ?? [],
      skills: Object.fromEntries(
        Object.entries(expert.skills ?? {}).flatMap(([skill, text]) =>
          isOrigins(text) ? [] : [[printSkillName(skill), printSkill(text)]],
        ),
      ),
      ...(expert.budget === undefined ? {} : { budget: known(expert.budget) }),
      ...(expert.compaction === undefined ? {} : { compaction: printCompaction(expert.compaction) }),
      approvals: (expert.approvals ?? []).map(({ tool, args = {}, edits = false, timeout }) => ({
        tool,
        args,
        edits,
        ...(timeout === undefined ? {} : { timeoutSeconds: timeout }),
      })),
      output: printOutput(expert),
      modelSettings: printModelSettings(file, expert),
      base: choiceOf(expert),
      ...(expert.effects === undefined ? {} : { effects: expert.effects }),
    },
  ])
  return { experts: Object.fromEntries(experts) }
}

function printOutput({ outputJsonSchema: text, outputRetries = OUTPUT_RETRIES }: ExpertText): Expert['output'] {
  if (text === undefined) return null
  const schema = parseToolSchema(text, 'answer')
  if (typeof schema === 'string') throw new TypeError(`a checked schema ${schema}`)
  return { schema, retries: outputRetries }
}

function printSkill(skill: SkillText): Skill {
  const rule = skill.rule ?? null
  if (skill.type === 'interactiveSkill') {
    const match = PACKAGE.exec(skill.packageName ?? '')
    const tools: Readonly<Record<string, InteractiveTool>> = printTools(
      skill.tools ?? ({} satisfies Record<string, ToolText>),
    )
    return { type: skill.type, packageName: match?.[1] ?? null, spec: match?.[2] ?? 'latest', rule, tools }
  }
  const tools = { pick: skill.pick ?? null, omit: skill.omit ?? [] }
  if (skill.type !== 'mcpStdioSkill') {
    const { type, endpoint, headers = {}, requiredEnv = [], lazyInit = true, pin = true, required = false } = skill
    const { effects = {} } = skill
    const served = { lazyInit, pin, required, effects, ...questionTimeoutOf(skill) }
    return { type, endpoint, headers, ...tools, rule, requiredEnv, ...served }
  }
  const command = commandOf(skill)
  if (typeof command === 'string') throw new TypeError(`a checked skill has no package: ${command}`)
  const { requiredEnv = [], allowedDomains = [], lazyInit = true, pin = true, required = false, effects = {} } = skill
  const served = { lazyInit, pin, required, effects, ...questionTimeoutOf(skill) }
  return { type: skill.type, ...command, ...tools, rule, requiredEnv, allowedDomains, ...served }
}

function questionTimeoutOf({ questionTimeout }: StdioText | RemoteText): Pick<StdioSkill, 'questionTimeoutSeconds'> {
  return questionTimeout === undefined ? {} : { questionTimeoutSeconds: questionTimeout }
}
