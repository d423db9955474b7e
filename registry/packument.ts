/** What npm reads of a package, made from what the registry recorded and from nothing that a publisher claimed. */
import type { JsonObject } from '../schema/json.ts'
import type { PackageRecord, PackageVersion } from '../schema/package-store.ts'

/** The name of a version's tarball file, by npm's custom. */
export function tarballName(packageName: string, version: string): string {
  return `${packageName.split('/').at(-1)}-${version}.tgz`
}

/** The packument, with tarball URLs under `base`, which ends in a slash. */
export function printPackument(record: PackageRecord, base: string): JsonObject {
  const first = record.versions[0]
  const times = Object.fromEntries(record.versions.map(({ version, publishedAt }) => [version, iso(publishedAt)]))
  return {
    _id: record.name,
    _rev: `${record.versions.length}-${record.modifiedAt}`,
    name: record.name,
    'dist-tags': { ...record.tags },
    versions: Object.fromEntries(
      record.versions.map((version) => [version.version, printVersion(record, version, base)]),
    ),
    time: { created: iso(first?.publishedAt ?? record.modifiedAt), modified: iso(record.modifiedAt), ...times },
  }
}

function iso(epochMs: number): string {
  return new Date(epochMs).toISOString()
}

function printVersion(record: PackageRecord, version: PackageVersion, base: string): JsonObject {
  const file = tarballName(record.name, version.version)
  return {
    ...version.manifest,
    _id: `${record.name}@${version.version}`,
    ...(version.deprecated === null ? {} : { deprecated: version.deprecated }),
    dist: {
      integrity: version.integrity,
      shasum: version.shasum,
      tarball: `${base}${record.name}/-/${file}`,
      fileCount: version.fileCount,
      unpackedSize: version.unpackedBytes,
    },
  }
}

/** The version that a tarball's file name means. */
export function versionOfTarball(record: PackageRecord, file: string): PackageVersion | undefined {
  return record.versions.find((version) => tarballName(record.name, version.version) === file)
}
