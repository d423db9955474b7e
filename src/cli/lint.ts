/** `senmon lint`: all faults of an expert file and its package.json at once, and what the file comes to. */
import { access, readFile } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { parse } from 'smol-toml'
import { MEASURES } from '../../schema/budget.ts'
import { PlatformError } from '../../schema/error.ts'
import { EXPERT_FILE_NAMES, LEFT_ASIDE, parseExpertFile } from '../../schema/expert-file.ts'
import { checkAgainstPackage, EXPERT_KEYWORD, foreignDelegates, skillPackages } from '../../schema/expert-package.ts'
import { parseExpertKey } from '../../schema/expert-key.ts'
import type { ExpertFile } from '../../schema/expert.ts'
import { isJsonObject, type Json, type JsonObject } from '../../schema/json.ts'
import { REHEARSAL, rehearsalPaths } from '../../schema/model-settings.ts'
import { decodeUtf8, faultsAt, isFaults, type Fault } from '../../schema/toml-file.ts'
import type { Api } from './api.ts'
import { exitCodeOf, type Call, type Command } from './command.ts'
import { LISTED, reportOn, type LintReport, type Missing, type Published, type PublishedReach } from './lint-report.ts'
import { shown, styled, type Terminal } from './terminal.ts'

export const lint: Command = {
  name: 'lint',
  usage: '[directory | file]',
  summary: 'Finds all faults of an expert package, as the registry would at publish, and says what it comes to.',
  details:
    'Delegates of other packages, and skills, are looked up where a server answers; without one they are listed as\n' +
    'unchecked.\n' +
    'With --json: one object { file, faults, warnings, experts }.',
  options: { offline: { type: 'boolean', help: 'Ask no server.' } },
  arity: [0, 1],
  async perform(call) {
    const given = resolve(call.directory, call.positionals[0] ?? '.')
    const named = EXPERT_FILE_NAMES.find((name) => name === basename(given))
    const directory = named === undefined ? given : dirname(given)
    const { name, text } = await readExpertFile(directory, named === undefined ? EXPERT_FILE_NAMES : [named])
    const path = relative(call.directory, join(directory, name)) || name
    const file = parseExpertFile(text, path)
    const versions = isFaults(file)
      ? []
      : Object.values(file.experts).flatMap(({ name: expert, version }) =>
          version === null ? [] : [{ expert, version }],
        )
    const manifestPath = relative(call.directory, join(directory, 'package.json'))
    const manifest = await readText(join(directory, 'package.json'), 'package_invalid')
    const malformed = [...(isFaults(file) ? file : []), ...checkManifest(manifest, manifestPath, name, versions)]
    const parsed = parseManifest(manifest)
    const own = ownOf(parsed)
    const report = isFaults(file) || own === undefined ? undefined : await examine(call, file, own)
    // Where versions differ, that has been said already.
    const misfit =
      isFaults(file) || own === undefined || malformed.length > 0 ? undefined : checkAgainstPackage(file, path, own)
    const faults = [
      ...malformed,
      ...(misfit === undefined ? [] : [wholeFault(path, misfit.message)]),
      ...faultsAt(text, path, report?.faults ?? []),
    ]
    const warnings = isFaults(file)
      ? []
      : [
          ...leftAside(text, path),
          ...keywordless(parsed, manifestPath),
          ...(await unrecorded(file, directory)),
          ...(report?.warnings ?? []),
        ]
    const experts = report?.experts ?? []
    if (call.json) call.terminal.write(`${JSON.stringify({ file: path, faults, warnings, experts })}\n`)
    else show(call.terminal, path, faults, warnings, experts)
    return faults.length > 0 ? exitCodeOf('expert_file_invalid') : 0
  },
}

async function examine(
  call: Call,
  file: ExpertFile,
  own: { readonly name: string; readonly version: string },
): Promise<LintReport> {
  const wanted = { experts: foreignDelegates(own.name, file), skills: skillPackages(file) }
  return reportOn(file, own, await lookUp(call, call.flag('offline') ? { experts: [], skills: [] } : wanted))
}

const REACH = `query ($key: String!) { expert(key: $key) { key lock { experts { key skills {
  name unpinned requiredEnv allowedDomains command endpoint } } } } }`

const VERSIONS = 'query ($key: String!) { expert(key: $key) { versions } }'

const SKILL = 'query ($key: String!) { skill(key: $key) { key } }'

/** What the server's registry has of them; nothing when no server answers or no key is there. */
async function lookUp(
  call: Call,
  wanted: { readonly experts: readonly string[]; readonly skills: readonly string[] },
): Promise<Published> {
  const experts = new Map<string, PublishedReach | Missing>()
  const skills = new Map<string, boolean>()
  try {
    if (wanted.experts.length + wanted.skills.length === 0) return { experts, skills }
    const api = await call.api()
    for (const key of wanted.experts) experts.set(key, await reachOf(api, key))
    for (const key of wanted.skills) skills.set(key, isJsonObject((await api.request(SKILL, { key }))['skill'] ?? null))
  } catch (error) {
    if (!(error instanceof PlatformError)) throw error
    if (error.code !== 'unauthenticated' && error.code !== 'server_unreachable' && error.code !== 'not_ready')
      throw error
  }
  return { experts, skills }
}

async function reachOf(api: Api, key: string): Promise<PublishedReach | Missing> {
  const expert = (await api.request(REACH, { key }))['expert']
  const lock = isJsonObject(expert) ? expert['lock'] : null
  if (!isJsonObject(lock)) return { versions: await versionsOf(api, parseExpertKey(key)?.name ?? key) }
  const experts = objects(lock['experts'])
  const skills = experts.flatMap((one) => objects(one['skills']))
  const keys = experts.flatMap((one) => texts([one['key'] ?? null]))
  return {
    keys,
    requiredEnv: skills.flatMap((skill) => texts(skill['requiredEnv'])),
    allowedDomains: skills.flatMap((skill) => texts(skill['allowedDomains'])),
    unpinned: experts.flatMap((one) =>
      objects(one['skills']).flatMap(({ name, unpinned }) =>
        typeof unpinned === 'string'
          ? [
              `The skill ${JSON.stringify(name)} of ${texts([one['key'] ?? null]).join('')} is unpinned (${unpinned}): ${LISTED}.`,
            ]
          : [],
      ),
    ),
    endpoints: skills.flatMap((skill) => (typeof skill['endpoint'] === 'string' ? [skill['endpoint']] : [])),
    commands: skills.flatMap((skill) => (typeof skill['command'] === 'string' ? [skill['command']] : [])),
  }
}

async function versionsOf(api: Api, name: string): Promise<readonly string[]> {
  const { expert } = await api.request(VERSIONS, { key: name })
  return isJsonObject(expert) ? texts(expert['versions']) : []
}

function objects(value: Json | undefined) {
  return Array.isArray(value) ? value.filter((item: Json) => isJsonObject(item)) : []
}

function texts(value: Json | undefined): readonly string[] {
  return Array.isArray(value) ? value.filter((item: Json) => typeof item === 'string') : []
}

function show(
  terminal: Terminal,
  path: string,
  faults: readonly Fault[],
  warnings: readonly string[],
  experts: LintReport['experts'],
): void {
  for (const fault of faults) terminal.write(`${styled(terminal, 'red', shown(fault.message))}\n`)
  for (const warning of warnings) terminal.write(`${styled(terminal, 'yellow', shown(`warning: ${warning}`))}\n`)
  if (faults.length > 0) return
  for (const expert of experts) {
    const rows: readonly (readonly [string, string])[] = [
      ['model', expert.model ?? "the job's"],
      ['delegates', expert.reaches.join(', ')],
      ['unchecked', expert.unchecked.join(', ')],
      ['environment', expert.requiredEnv.join(', ')],
      ['domains', expert.allowedDomains.join(', ')],
      ['commands', expert.commands.join(', ')],
      ['endpoints', expert.endpoints.join(', ')],
      ['worst case', printWorstCase(expert.worstCase)],
      ['compacted', printCompaction(expert.compaction)],
    ]
    terminal.write(`\n${styled(terminal, 'bold', shown(expert.key))}\n`)
    for (const [name, value] of rows) if (value !== '') terminal.write(`  ${name.padEnd(11)}  ${shown(value)}\n`)
  }
  terminal.write(`\n${path}: no faults\n`)
}

/** What is bounded, and that steps or dollars are not. */
function printWorstCase(worstCase: LintReport['experts'][number]['worstCase']): string {
  const bounded = MEASURES.flatMap((measure) => {
    const limit = worstCase[measure]
    return limit === null ? [] : [measure === 'costUsd' ? `$${limit}` : `${limit} ${measure}`]
  })
  const unbounded = [
    ...(worstCase.steps === null ? ['no limit of steps'] : []),
    ...(worstCase.costUsd === null ? ['unbounded in dollars'] : []),
  ]
  return [...bounded, ...unbounded].join(', ')
}

function printCompaction({ at, keepSteps }: LintReport['experts'][number]['compaction']): string {
  const steps = keepSteps === 1 ? 'the last step' : `the last ${keepSteps} steps`
  return `at ${Math.round(at * 100)} % of its model's window, ${steps} kept`
}

/** Rehearsals that the package lacks: a job would find that out. */
async function unrecorded(file: ExpertFile, directory: string): Promise<readonly string[]> {
  const models = new Set(Object.values(file.experts).flatMap(({ model }) => model ?? []))
  const names = [...models].flatMap((model) => /^rehearsal\/([\w-]+)$/.exec(model)?.[1] ?? [])
  const lacking = await Promise.all(
    names.map(async (name) => {
      const paths = rehearsalPaths(name)
      const found = await Promise.all(
        paths.map((path) =>
          access(join(directory, path))
            .then(() => true)
            .catch(() => false),
        ),
      )
      return found.some(Boolean)
        ? []
        : [`The model ${REHEARSAL}/${name} plays ${paths[0]}, which the package does not have.`]
    }),
  )
  return lacking.flat()
}

/** Keys that have no effect here, each with what has. */
function leftAside(text: string, path: string): readonly string[] {
  const root = parse(text)
  const { provider } = root
  const nested = typeof provider === 'object' && 'envPath' in provider ? ['envPath'] : []
  return [...Object.keys(root), ...nested].flatMap((key) => {
    const words = LEFT_ASIDE[key]
    return words === undefined ? [] : [`${path}: ${key} has no effect: ${words}.`]
  })
}

/** Name and version of a package.json that has both. */
function ownOf(manifest: JsonObject | undefined): { readonly name: string; readonly version: string } | undefined {
  const { name, version } = manifest ?? {}
  return typeof name === 'string' && typeof version === 'string' ? { name, version } : undefined
}

/** undefined for what `checkManifest` has said already. */
function parseManifest(text: string | undefined): JsonObject | undefined {
  try {
    const parsed: unknown = JSON.parse(text ?? '')
    return isJsonObject(parsed) ? parsed : undefined
  } catch {
    return undefined
  }
}

/** Without its keyword a package is published as any other when npm packs no expert file; with it, that is refused. */
function keywordless(manifest: JsonObject | undefined, path: string): readonly string[] {
  return manifest === undefined || holds(manifest['keywords'], EXPERT_KEYWORD)
    ? []
    : [`${path}: "keywords" lacks "${EXPERT_KEYWORD}"; with it no version is published that lacks its experts.`]
}

const holds = (list: unknown, what: string) => Array.isArray(list) && list.includes(what)

function wholeFault(file: string, message: string): Fault {
  return { file, line: 1, column: null, table: 'the top level', field: null, message: `${file}: ${message}` }
}

async function readExpertFile(
  directory: string,
  names: readonly string[],
): Promise<{ readonly name: string; readonly text: string }> {
  for (const name of names) {
    const text = await readText(join(directory, name), 'expert_file_invalid')
    if (text !== undefined) return { name, text }
  }
  throw new PlatformError('expert_file_missing', `${directory} holds no ${names.join(' and no ')}.`)
}

/** undefined when there is no such file. */
async function readText(
  path: string,
  otherwise: 'expert_file_invalid' | 'package_invalid',
): Promise<string | undefined> {
  let bytes: Uint8Array
  try {
    bytes = await readFile(path)
  } catch (error) {
    const [code, why] = error instanceof Error && 'code' in error ? [error.code, error.message] : [null, String(error)]
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw new PlatformError(otherwise, `${path} cannot be read: ${why}.`, { cause: error })
  }
  const text = decodeUtf8(bytes)
  if (text === undefined) throw new PlatformError(otherwise, `${path} is not UTF-8.`)
  return text
}

/** What npm and the registry will ask of package.json. Pure. */
export function checkManifest(
  text: string | undefined,
  path: string,
  expertFile: string,
  versions: readonly { readonly expert: string; readonly version: string }[],
): readonly Fault[] {
  const fault = (field: string | null, words: string): Fault => ({
    file: path,
    line: 1,
    column: null,
    table: 'the top level',
    field,
    message: `${path}${field === null ? '' : `: "${field}"`} ${words}.`,
  })
  if (text === undefined) return [fault(null, 'is missing: a package that publishes experts is an npm package')]
  let manifest: unknown
  try {
    manifest = JSON.parse(text)
  } catch (error) {
    return [fault(null, `is not JSON: ${error instanceof Error ? error.message : String(error)}`)]
  }
  if (!isJsonObject(manifest)) return [fault(null, 'must hold an object')]
  const { name, version, files } = manifest
  return [
    ...(typeof name === 'string' ? [] : [fault('name', 'is missing')]),
    ...(typeof version === 'string' ? [] : [fault('version', 'is missing')]),
    ...(manifest['private'] === true ? [fault('private', 'is true, so that npm publishes nothing; remove it')] : []),
    ...(files === undefined || holds(files, expertFile) ? [] : [fault('files', `must hold "${expertFile}"`)]),
    ...versions.flatMap((one) =>
      one.version === version
        ? []
        : [fault('version', `is ${JSON.stringify(version)} but the expert "${one.expert}" says "${one.version}"`)],
    ),
  ]
}
