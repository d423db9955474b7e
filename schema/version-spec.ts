/** Which version of a package a version, range or tag means. */
import semver from 'semver'

export interface VersionedPackage {
  readonly tags: Readonly<Record<string, string>>
  readonly versions: readonly { readonly version: string }[]
}

/** True for what a version may be called: exactly as semver prints it. */
export function isVersion(text: string): boolean {
  return text.length <= 128 && semver.valid(text) === text
}

/** True for a version or a range: then it can be no tag. */
export function isRange(text: string): boolean {
  return text.length <= 256 && semver.validRange(text) !== null
}

/** The version meant by `spec` (none means `latest`): a tag, an exact version, or the highest of a range. */
export function pickVersion(found: VersionedPackage, spec = 'latest'): string | undefined {
  if (Object.hasOwn(found.tags, spec)) return found.tags[spec]
  if (found.versions.some((known) => known.version === spec)) return spec
  if (!isRange(spec)) return undefined
  const versions = found.versions.map((known) => known.version)
  const latest = found.tags['latest']
  // As npm does: where `latest` is within the range, it is what is meant, even when higher versions are there.
  if (latest !== undefined && semver.satisfies(latest, spec)) return latest
  return semver.maxSatisfying(versions, spec) ?? undefined
}

/** Newest first, as semver orders them. */
export function newestFirst(versions: readonly string[]): readonly string[] {
  return semver.rsort([...versions])
}

/** True when the version is within the range; a tag is within nothing. */
export function satisfies(version: string, spec: string): boolean {
  return isRange(spec) && semver.satisfies(version, spec)
}
