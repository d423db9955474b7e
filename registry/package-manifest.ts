/** package.json as the registry sees it: recomputed from the tarball, compared with what the publisher claims. */
import validateName from 'validate-npm-package-name'
import { canonical } from '../schema/hash.ts'
import { refuse, type Refusal } from '../schema/error.ts'
import { isJsonObject, type Json, type JsonObject } from '../schema/json.ts'
import { isRange, isVersion } from '../schema/version-spec.ts'

export interface PackageManifest {
  readonly name: string
  readonly version: string
  readonly keywords: readonly string[]
  /** Command to file within the package, `./` cut off. */
  readonly bin: Readonly<Record<string, string>>
  /** Whether installing it needs other packages. */
  readonly hasDependencies: boolean
  /** As it is served. */
  readonly json: JsonObject
}

const MANIFEST_BYTES_MAX = 256 * 1024
const NAMES_DENIED = new Set(['__proto__', 'constructor', 'prototype', 'node_modules', 'favicon.ico'])
/** What only a registry or a client's own bookkeeping says. */
const FIELDS_DROPPED = new Set(['dist', 'readme', 'readmeFilename', 'gitHead', 'deprecated'])
const DEPENDENCY_FIELDS = ['dependencies', 'optionalDependencies', 'peerDependencies'] as const

/**
 * True for a name that may be published here. npm takes no new package named as a module of Node is, but old ones
 * (`string_decoder`, `punycode`) are what others need; Node never takes such a package for its own module.
 */
export function isPackageName(name: string): boolean {
  const { validForOldPackages, warnings = [] } = validateName(name)
  const isPlain = validForOldPackages && warnings.every((warning) => warning.endsWith(' is a core module name'))
  return isPlain && !name.split('/').some((part) => NAMES_DENIED.has(part.replace(/^@/, '')))
}

/** The manifest in a package.json, or why it is refused. */
export function parsePackageManifest(bytes: Uint8Array | undefined): PackageManifest | Refusal {
  if (bytes === undefined) return invalid('The tarball has no package/package.json.')
  if (bytes.length > MANIFEST_BYTES_MAX) return invalid(`package.json is larger than ${MANIFEST_BYTES_MAX} bytes.`)
  let value: Json
  try {
    // JSON.parse gives exactly what Json describes.
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)) as Json
  } catch (error) {
    return invalid(`package.json is not valid JSON: ${(error as Error).message}.`)
  }
  if (!isJsonObject(value)) return invalid('package.json does not hold an object.')
  const text = JSON.stringify(value)
  if (text.includes('\\u0000') || /\\ud[89a-f]/i.test(text))
    return invalid('package.json holds NUL or half a surrogate pair.')
  const { name, version } = value
  if (typeof name !== 'string' || !isPackageName(name))
    return invalid(`package.json has ${brief(name)} for a name, which npm packages may not have.`)
  if (typeof version !== 'string' || !isVersion(version))
    return invalid(`package.json of ${name} has ${brief(version)} for a version; write it as 1.0.0.`)
  const bin = parseBin(name, value['bin'])
  if ('refused' in bin) return bin
  const refused = refuseFields(name, value)
  if (refused !== undefined) return refused
  const keywords = Array.isArray(value['keywords'])
    ? value['keywords'].filter((word: Json) => typeof word === 'string')
    : []
  const hasDependencies = DEPENDENCY_FIELDS.some((field) => Object.keys(recordOf(value[field])).length > 0)
  return { name, version, keywords, bin: bin.files, hasDependencies, json: served(value, bin.files) }
}

function invalid(message: string): Refusal {
  return refuse('package_invalid', message)
}

function brief(value: unknown): string {
  return (JSON.stringify(value) ?? 'nothing').slice(0, 80)
}

function recordOf(value: Json | undefined): JsonObject {
  return value !== undefined && isJsonObject(value) ? value : {}
}

function parseBin(
  name: string,
  value: Json | undefined,
): { readonly files: Readonly<Record<string, string>> } | Refusal {
  if (value === undefined || value === null) return { files: {} }
  const unscoped = name.split('/').at(-1) ?? name
  const written = typeof value === 'string' ? { [unscoped]: value } : value
  if (!isJsonObject(written)) return invalid(`bin in package.json of ${name} is neither a file nor a table of files.`)
  const files: Record<string, string> = {}
  for (const [command, file] of Object.entries(written)) {
    if (!/^[A-Za-z0-9._-]{1,214}$/.test(command) || NAMES_DENIED.has(command))
      return invalid(
        `bin in package.json of ${name} has the command ${brief(command)}; use letters, digits, ".", "_", "-".`,
      )
    const path = typeof file === 'string' ? file.replace(/^(?:\.\/+)+/, '') : ''
    const isInside = path !== '' && !path.startsWith('/') && !path.includes('\\') && !path.split('/').includes('..')
    if (!isInside) return invalid(`bin in package.json of ${name} points outside the package: ${brief(file)}.`)
    files[command] = path
  }
  return { files }
}

/** What would make an installation take anything from elsewhere than this registry, or bring its own. */
function refuseFields(name: string, json: JsonObject): Refusal | undefined {
  for (const field of ['bundleDependencies', 'bundledDependencies']) {
    const bundled = json[field]
    if (bundled === true || (Array.isArray(bundled) && bundled.length > 0))
      return invalid(
        `${field} in package.json of ${name} is not supported: publish the dependency, or bundle it into a file.`,
      )
  }
  for (const field of DEPENDENCY_FIELDS) {
    const value = json[field]
    if (value === undefined) continue
    if (!isJsonObject(value)) return invalid(`${field} in package.json of ${name} is not a table.`)
    for (const [dependency, spec] of Object.entries(value)) {
      if (typeof spec !== 'string' || !isRegistrySpec(dependency, spec))
        return invalid(
          `${field} in package.json of ${name} wants ${brief(dependency)} as ${brief(spec)}; only versions and ranges of published packages are allowed.`,
        )
    }
  }
  for (const field of ['main', 'module', 'types', 'browser'] as const) {
    const file = json[field]
    if (typeof file === 'string' && (file.startsWith('/') || file.split(/[\\/]/).includes('..')))
      return invalid(`${field} in package.json of ${name} points outside the package: ${brief(file)}.`)
  }
  return undefined
}

/** A list of what is allowed: npm's own list of what a specifier may be is long, and most of it is the network. */
function isRegistrySpec(name: string, spec: string): boolean {
  if (!validateName(name).validForOldPackages || NAMES_DENIED.has(name)) return false
  const alias = /^npm:((?:@[^@/]+\/)?[^@/]+)(?:@(.*))?$/.exec(spec)
  if (alias !== null) return isPackageName(alias[1] ?? '') && isPlainSpec(alias[2] ?? '')
  return isPlainSpec(spec)
}

function isPlainSpec(spec: string): boolean {
  return isRange(spec) || /^[A-Za-z][A-Za-z0-9_-]{0,63}$/.test(spec)
}

function served(json: JsonObject, bin: Readonly<Record<string, string>>): JsonObject {
  const kept = Object.entries(json).filter(([field]) => !field.startsWith('_') && !FIELDS_DROPPED.has(field))
  return { ...Object.fromEntries(kept), ...(Object.keys(bin).length === 0 ? {} : { bin }) }
}

/** The first field in which the manifest that was sent differs from the one in the tarball; undefined for none. */
export function compareManifests(inside: PackageManifest, sent: JsonObject): Refusal | undefined {
  const claimed = parseBin(inside.name, sent['bin'])
  const sentBin = 'refused' in claimed ? null : claimed.files
  const fields: readonly (readonly [string, unknown, unknown])[] = [
    ['name', inside.name, sent['name']],
    ['version', inside.version, sent['version']],
    ['bin', inside.bin, sentBin],
    ['dependencies', required(inside.json), required(sent)],
    ['optionalDependencies', ranges(inside.json['optionalDependencies']), ranges(sent['optionalDependencies'])],
    ['peerDependencies', ranges(inside.json['peerDependencies']), ranges(sent['peerDependencies'])],
    ['scripts', recordOf(inside.json['scripts']), recordOf(sent['scripts'])],
    ['engines', inside.json['engines'] ?? {}, sent['engines'] ?? {}],
  ]
  const differs = fields.find(([, a, b]) => canonical(a) !== canonical(b ?? null))
  if (differs === undefined) return undefined
  const [field, there, claim] = differs
  return refuse(
    'package_mismatch',
    `${field} in package.json of the tarball is ${brief(there)}, but the publication says ${brief(claim)}.`,
  )
}

/** npm takes out of `dependencies` what is optional as well. */
function required(json: JsonObject): JsonObject {
  const optional = recordOf(json['optionalDependencies'])
  return Object.fromEntries(
    Object.entries(ranges(json['dependencies'])).filter(([name]) => !Object.hasOwn(optional, name)),
  )
}

function ranges(value: Json | undefined): JsonObject {
  return Object.fromEntries(
    Object.entries(recordOf(value)).map(([name, spec]) => [
      name,
      spec === '' ? '*' : typeof spec === 'string' ? spec.trim() : spec,
    ]),
  )
}
