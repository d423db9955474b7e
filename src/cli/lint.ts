/** `senmon lint`: all faults of an expert file and its package.json at once, each with its place. */
import { readFile } from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import { PlatformError } from '../../schema/error.ts'
import { EXPERT_FILE_NAMES, parseExpertFile } from '../../schema/expert-file.ts'
import { isJsonObject } from '../../schema/json.ts'
import { isFaults, type Fault } from '../../schema/toml-file.ts'
import { exitCodeOf, type Command } from './command.ts'
import { shown, styled } from './terminal.ts'

export const lint: Command = {
  name: 'lint',
  usage: '[directory]',
  summary: 'Finds all faults of an expert package, as the registry would at publish; needs no server.',
  options: {},
  arity: [0, 1],
  async perform(call) {
    const directory = resolve(call.directory, call.positionals[0] ?? '.')
    const { name, text } = await readExpertFile(directory)
    const path = relative(call.directory, join(directory, name)) || name
    const file = parseExpertFile(text, path)
    const versions = isFaults(file)
      ? []
      : Object.values(file.experts).flatMap(({ name: expert, version }) =>
          version === null ? [] : [{ expert, version }],
        )
    const manifestPath = relative(call.directory, join(directory, 'package.json'))
    const faults = [
      ...(isFaults(file) ? file : []),
      ...checkManifest(await readText(join(directory, 'package.json')), manifestPath, name, versions),
    ]
    if (call.json) for (const fault of faults) call.terminal.write(`${JSON.stringify(fault)}\n`)
    else for (const fault of faults) call.terminal.write(`${styled(call.terminal, 'red', shown(fault.message))}\n`)
    if (faults.length > 0) return exitCodeOf('expert_file_invalid')
    if (!call.json) call.terminal.write(`${path}: no faults\n`)
    return 0
  },
}

async function readExpertFile(directory: string): Promise<{ name: string; text: string }> {
  for (const name of EXPERT_FILE_NAMES) {
    const text = await readText(join(directory, name))
    if (text !== undefined) return { name, text }
  }
  throw new PlatformError('expert_file_missing', `${directory} holds no ${EXPERT_FILE_NAMES.join(' and no ')}.`)
}

/** undefined when there is no such file. */
async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
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
  const { name, version, keywords, files } = manifest
  const lists = (value: unknown, what: string) => Array.isArray(value) && value.includes(what)
  return [
    ...(typeof name === 'string' ? [] : [fault('name', 'is missing')]),
    ...(typeof version === 'string' ? [] : [fault('version', 'is missing')]),
    ...(manifest['private'] === true ? [fault('private', 'is true, so that npm publishes nothing; remove it')] : []),
    ...(lists(keywords, 'senmon-expert') ? [] : [fault('keywords', 'must hold "senmon-expert"')]),
    ...(files === undefined || lists(files, expertFile) ? [] : [fault('files', `must hold "${expertFile}"`)]),
    ...versions.flatMap((one) =>
      one.version === version
        ? []
        : [fault('version', `is ${JSON.stringify(version)} but the expert "${one.expert}" says "${one.version}"`)],
    ),
  ]
}
