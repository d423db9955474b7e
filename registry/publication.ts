/**
 * From the body of `npm publish` to a publication: everything is recomputed from the tarball, and what the body
 * claims is only compared with it. Nothing is stored unless all of it holds.
 */
import { createHash } from 'node:crypto'
import type { Clock } from '../schema/clock.ts'
import { refuse, type Refusal } from '../schema/error.ts'
import { EXPERT_FILE_NAMES, parseExpertFile } from '../schema/expert-file.ts'
import { isBasePackage } from '../schema/base-choice.ts'
import { withImplicitSkills } from '../schema/base-skill.ts'
import { parseExpertKey } from '../schema/expert-key.ts'
import {
  EXPERT_KEYWORD,
  SKILL_KEYWORD,
  checkAgainstPackage,
  foreignDelegates,
  wholeName,
} from '../schema/expert-package.ts'
import type { ExpertFile, InteractiveSkill, Skill, StdioSkill } from '../schema/expert.ts'
import type { ApplicationId } from '../schema/id.ts'
import { isJsonObject, type Json, type JsonObject } from '../schema/json.ts'
import type { Integrity, Lock, LockedPackage, LockedSkill } from '../schema/lock.ts'
import type { ExpertCard, PackageStore, PackageVersion, Publication } from '../schema/package-store.ts'
import { parseSkillFile, SKILL_FILE_NAME } from '../schema/skill-file.ts'
import { decodeUtf8, isFaults, type Fault } from '../schema/toml-file.ts'
import { isRange, pickVersion } from '../schema/version-spec.ts'
import { hashInstallation, lonePackage, type Closures } from './closure.ts'
import { makeLocks, skillPlace, skillsOf } from './lock.ts'
import { compareManifests, parsePackageManifest, type PackageManifest } from './package-manifest.ts'
import { isOwned, programsOf } from './own-skills.ts'
import type { Content } from './ports.ts'
import { openTarball, type OpenedTarball } from './tarball.ts'
import type { Pinnable, ToolPins } from './tool-pins.ts'

export interface PublishGround {
  readonly packages: PackageStore
  readonly content: Content
  readonly closures: Closures
  readonly pins: ToolPins
  /** Whose packages come with the platform; undefined where none do. */
  readonly own: ApplicationId | undefined
  readonly clock: Clock
}

/** What the body says, taken apart and not yet believed. */
export interface PublishBody {
  readonly name: string
  readonly manifest: JsonObject
  readonly tags: readonly string[]
  readonly tarball: Uint8Array
}

/** A dist-tag that cannot be mistaken for a version or a range. */
export function isTag(text: string): boolean {
  return /^[A-Za-z][A-Za-z0-9._-]{0,63}$/.test(text) && !isRange(text) && !['constructor', 'prototype'].includes(text)
}

/** The body of a publication of `name`, as `npm publish` writes it. */
export function parsePublishBody(name: string, body: JsonObject): PublishBody | Refusal {
  const attachments = Object.entries(recordOf(body['_attachments']))
  const versions = Object.entries(recordOf(body['versions']))
  const [attachment] = attachments
  const [published] = versions
  if (attachment === undefined || attachments.length !== 1 || published === undefined || versions.length !== 1)
    return refuse('package_invalid', `A publication of ${name} holds one version and one tarball.`)
  const [version, manifest] = published
  if (!isJsonObject(manifest) || body['name'] !== name || manifest['name'] !== name || manifest['version'] !== version)
    return refuse('package_mismatch', `The publication at ${name} names another package or version within.`)
  const tags = Object.entries(recordOf(body['dist-tags']))
  const strange = tags.find(([tag, target]) => target !== version || !isTag(tag))
  if (strange !== undefined)
    return refuse(
      'package_invalid',
      `The publication of ${name} sets the tag ${JSON.stringify(strange[0])}, which it may not.`,
    )
  const { data } = recordOf(attachment[1])
  if (typeof data !== 'string' || !/^[A-Za-z0-9+/]*={0,2}$/.test(data))
    return refuse('tarball_invalid', `The tarball of ${name} is not base64.`)
  return { name, manifest, tags: tags.map(([tag]) => tag), tarball: Buffer.from(data, 'base64') }
}

function recordOf(value: Json | undefined): JsonObject {
  return value !== undefined && isJsonObject(value) ? value : {}
}

/** Checks all of it; stores the tarball's bytes only when everything holds. */
export async function judgePublication(
  ground: PublishGround,
  owner: ApplicationId,
  body: PublishBody,
): Promise<Publication | Refusal> {
  const opened = await openTarball(body.tarball)
  if ('refused' in opened) return opened
  const own = parsePackageManifest(opened.files.get('package.json')?.bytes)
  if ('refused' in own) return own
  const integrity: Integrity = `sha512-${createHash('sha512').update(body.tarball).digest('base64')}`
  const shasum = createHash('sha1').update(body.tarball).digest('hex')
  const differs = compareManifests(own, body.manifest) ?? compareDist(body, integrity, shasum)
  if (differs !== undefined) return differs
  const frozen = await refuseFrozen(ground.packages, owner, own, integrity)
  if (frozen !== undefined) return frozen
  const missing = Object.entries(own.bin).find(([, file]) => !opened.files.has(file))
  if (missing !== undefined)
    return refuse(
      'package_invalid',
      `bin in package.json of ${own.name} names ${missing[1]}, which the tarball does not have.`,
    )
  const skill = checkSkillPackage(own, opened)
  if (skill !== undefined) return skill
  const experts = await judgeExperts(ground, { name: own.name, version: own.version, integrity }, own, opened)
  if ('refused' in experts) return experts
  return {
    name: own.name,
    owner,
    version: {
      version: own.version,
      integrity,
      shasum,
      contentHash: await ground.content.put(body.tarball),
      sizeBytes: body.tarball.length,
      unpackedBytes: opened.unpackedBytes,
      fileCount: opened.files.size,
      manifest: own.json,
      experts: experts.cards,
      publishedAt: ground.clock.now(),
    },
    locks: Object.fromEntries(experts.locks),
    tags: body.tags,
  }
}

function compareDist(body: PublishBody, integrity: Integrity, shasum: string): Refusal | undefined {
  const dist = recordOf(body.manifest['dist'])
  const claims = [dist['integrity'] ?? integrity, dist['shasum'] ?? shasum]
  if (claims[0] === integrity && claims[1] === shasum) return undefined
  return refuse('package_mismatch', `The tarball of ${body.name} does not hash to what the publication says.`)
}

/** An early answer; the store decides again when it writes. */
async function refuseFrozen(packages: PackageStore, owner: ApplicationId, own: PackageManifest, integrity: Integrity) {
  const found = await packages.find(own.name)
  if (found === undefined) return undefined
  if (found.owner !== owner) return refuse('name_taken', `${own.name} belongs to another application.`)
  const before = found.versions.find((known) => known.version === own.version)
  if (before === undefined || before.integrity === integrity) return undefined
  return refuse(
    'version_frozen',
    `${own.name}@${own.version} is published with other bytes, and published means frozen.`,
  )
}

function checkSkillPackage(own: PackageManifest, opened: OpenedTarball): Refusal | undefined {
  if (!own.keywords.includes(SKILL_KEYWORD)) return undefined
  const text = textOf(opened, SKILL_FILE_NAME)
  if (text === undefined) {
    if (Object.keys(own.bin).length > 0) return undefined
    return refuse(
      'package_invalid',
      `${own.name} is a skill, but has neither a bin that speaks MCP nor a ${SKILL_FILE_NAME}.`,
    )
  }
  if (text === null) return refuse('expert_file_invalid', `${SKILL_FILE_NAME} of ${own.name} is not UTF-8.`)
  const file = parseSkillFile(text, SKILL_FILE_NAME)
  return isFaults(file) ? faulty(file) : undefined
}

/** A file's text; undefined when there is none, null when it is not UTF-8. */
function textOf(opened: OpenedTarball, path: string): string | null | undefined {
  const found = opened.files.get(path)
  return found === undefined ? undefined : (decodeUtf8(found.bytes) ?? null)
}

function faulty(faults: readonly Fault[]): Refusal {
  return refuse('expert_file_invalid', faults.map((fault) => fault.message).join('\n'))
}

interface Experts {
  readonly cards: readonly ExpertCard[]
  readonly locks: ReadonlyMap<string, Lock>
}

async function judgeExperts(
  ground: PublishGround,
  own: LockedPackage,
  manifest: PackageManifest,
  opened: OpenedTarball,
): Promise<Experts | Refusal> {
  const fileName = EXPERT_FILE_NAMES.find((name) => opened.files.has(name))
  if (fileName === undefined) {
    if (!manifest.keywords.includes(EXPERT_KEYWORD)) return { cards: [], locks: new Map() }
    return refuse(
      'expert_file_missing',
      `${own.name} has the keyword ${EXPERT_KEYWORD}, but senmon.toml is missing from the root of the package.`,
    )
  }
  const text = textOf(opened, fileName)
  if (typeof text !== 'string') return refuse('expert_file_invalid', `${fileName} of ${own.name} is not UTF-8.`)
  const file = parseExpertFile(text, fileName)
  if (isFaults(file)) return faulty(file)
  if (parseExpertKey(own.name)?.name !== own.name)
    return refuse(
      'package_invalid',
      `${own.name} cannot be the name of an expert: use lower case letters, digits, ".", "_", "-".`,
    )
  const disagrees = checkAgainstPackage(file, fileName, own)
  if (disagrees !== undefined) return disagrees
  const delegates = await resolveDelegates(ground, own, file)
  if ('refused' in delegates) return delegates
  const whole = ground.own === undefined ? file : withImplicitSkills(file)
  const skills = await resolveSkills(ground, whole)
  if ('refused' in skills) return skills
  const locks = makeLocks(own, whole, { delegates, skills })
  if ('refused' in locks) return locks
  return { cards: cardsOf(own, file, locks), locks }
}

async function resolveDelegates(
  ground: PublishGround,
  own: LockedPackage,
  file: ExpertFile,
): Promise<ReadonlyMap<string, Lock> | Refusal> {
  const locks = new Map<string, Lock>()
  for (const written of foreignDelegates(own.name, file)) {
    const key = parseExpertKey(written)
    // `a/b` may be a member of the package a; a bare `b` is a package.
    const found = key === undefined ? undefined : await ground.packages.find(key.packageName)
    const version = found === undefined ? undefined : pickVersion(found, key?.spec)
    const lock =
      version === undefined
        ? undefined
        : await ground.packages.findLock(key?.packageName ?? '', version, key?.name ?? '')
    if (lock === undefined)
      return missingDelegate(
        file,
        written,
        found?.versions.map((known) => known.version),
      )
    locks.set(written, lock)
  }
  return locks
}

function missingDelegate(file: ExpertFile, written: string, versions: readonly string[] | undefined): Refusal {
  const by = Object.values(file.experts).find((expert) => expert.delegates.includes(written))?.name ?? '?'
  const there = versions === undefined ? 'is not published here' : `no version has; there are ${versions.join(', ')}`
  return refuse('delegate_not_found', `"${by}" delegates to ${written}, which ${there}.`)
}

async function resolveSkills(
  ground: PublishGround,
  file: ExpertFile,
): Promise<ReadonlyMap<string, LockedSkill> | Refusal> {
  const places: string[] = []
  const resolved: Pinnable[] = []
  for (const { expert, name, skill } of skillsOf(file)) {
    const subject = `The skill "${name}" of "${expert}"`
    const locked = await resolveSkill(ground, subject, skill)
    if ('refused' in locked) return locked
    places.push(skillPlace(expert, name))
    resolved.push({ subject, skill: locked, pin: skill.type !== 'interactiveSkill' && skill.pin })
  }
  const pinned = await ground.pins.pin(resolved)
  return 'refused' in pinned ? pinned : new Map(pinned.map((skill, at) => [places[at] ?? '', skill]))
}

async function resolveSkill(ground: PublishGround, subject: string, skill: Skill): Promise<LockedSkill | Refusal> {
  if ('endpoint' in skill) {
    const { type, endpoint, headers, pick, omit, rule, requiredEnv, lazyInit, required, effects } = skill
    const { questionTimeoutSeconds: questionTimeout } = skill
    return {
      type,
      endpoint,
      headers,
      pick,
      omit,
      rule,
      requiredEnv,
      lazyInit,
      ...(required ? { required } : {}),
      ...(Object.keys(effects).length === 0 ? {} : { effects }),
      ...(questionTimeout === undefined ? {} : { questionTimeoutSeconds: questionTimeout }),
    }
  }
  if (skill.type === 'interactiveSkill' && skill.packageName === null)
    return { type: skill.type, rule: skill.rule, tools: skill.tools }
  if (skill.packageName === null) return refuse('skill_not_found', `${subject} names no package.`)
  const found = await ground.packages.find(skill.packageName)
  const version = found === undefined ? undefined : pickVersion(found, skill.spec)
  const published = found?.versions.find((known) => known.version === version)
  if (published === undefined) {
    const there = found === undefined ? '' : `; there are ${found.versions.map((known) => known.version).join(', ')}`
    return refuse(
      'skill_not_found',
      `${subject} wants ${skill.packageName}@${skill.spec}, which is not published here${there}.`,
    )
  }
  if (skill.type === 'interactiveSkill') return lockInteractive(ground, subject, skill, published)
  const isOwn = found !== undefined && isOwned(ground, found)
  if (ground.own !== undefined && !isOwn && isBasePackage(skill.packageName))
    return refuse('skill_not_found', `${subject} wants ${skill.packageName}, which is not the platform's own here.`)
  return lockStdio(ground, subject, skill, skill.packageName, { ...published, isOwn })
}

async function lockInteractive(
  ground: PublishGround,
  subject: string,
  skill: InteractiveSkill,
  published: PackageVersion,
): Promise<LockedSkill | Refusal> {
  const opened = await openTarball(await ground.content.get(published.contentHash))
  const text = 'refused' in opened ? undefined : textOf(opened, SKILL_FILE_NAME)
  if (typeof text !== 'string')
    return refuse(
      'skill_not_found',
      `${subject} wants ${skill.packageName}@${published.version}, which has no ${SKILL_FILE_NAME}.`,
    )
  const file = parseSkillFile(text, `${skill.packageName}/${SKILL_FILE_NAME}`)
  if (isFaults(file)) return faulty(file)
  const twin = Object.keys(skill.tools).find((tool) => Object.hasOwn(file.tools, tool))
  if (twin !== undefined)
    return refuse(
      'package_mismatch',
      `${subject} declares the tool "${twin}", which ${skill.packageName} brings already.`,
    )
  return { type: 'interactiveSkill', rule: skill.rule, tools: { ...file.tools, ...skill.tools } }
}

async function lockStdio(
  ground: PublishGround,
  subject: string,
  skill: StdioSkill,
  name: string,
  published: PackageVersion & { readonly isOwn: boolean },
): Promise<LockedSkill | Refusal> {
  const { version, integrity, isOwn } = published
  const manifest = parsePackageManifest(new TextEncoder().encode(JSON.stringify(published.manifest)))
  if ('refused' in manifest) return manifest
  const unscoped = name.split('/').at(-1) ?? name
  const commands = Object.keys(manifest.bin)
  const command = commands.length === 1 ? commands[0] : commands.find((candidate) => candidate === unscoped)
  if (command === undefined) {
    const why = commands.length === 0 ? 'has no bin to start' : `has several bins, and none is named ${unscoped}`
    return refuse('skill_not_found', `${subject} wants ${name}@${version}, which ${why}.`)
  }
  const packages = manifest.hasDependencies
    ? await ground.closures.resolve(name, version)
    : lonePackage(name, version, integrity)
  if ('refused' in packages) return packages
  const programs = programsOf(subject, manifest, isOwn)
  if ('refused' in programs) return programs
  const { args, pick, omit, rule, requiredEnv, allowedDomains, lazyInit, required, effects } = skill
  const { questionTimeoutSeconds: questionTimeout } = skill
  return {
    type: 'mcpStdioSkill',
    installHash: hashInstallation(packages),
    packages,
    entry: `node_modules/${name}/${manifest.bin[command] ?? ''}`,
    args,
    pick,
    omit,
    rule,
    requiredEnv,
    allowedDomains,
    lazyInit,
    ...programs,
    ...(required ? { required } : {}),
    ...(Object.keys(effects).length === 0 ? {} : { effects }),
    ...(questionTimeout === undefined ? {} : { questionTimeoutSeconds: questionTimeout }),
  }
}

function cardsOf(own: LockedPackage, file: ExpertFile, locks: ReadonlyMap<string, Lock>): readonly ExpertCard[] {
  return Object.values(file.experts).map((expert) => {
    const name = wholeName(own.name, expert.name) ?? expert.name
    const lock = locks.get(name)
    const delegates = lock === undefined ? [] : Object.values(lock.experts[lock.coordinator]?.delegates ?? {})
    return {
      name,
      description: expert.description,
      model: expert.model,
      delegates: delegates.toSorted(),
      skills: Object.keys(expert.skills).toSorted(),
      tags: expert.tags,
    }
  })
}
