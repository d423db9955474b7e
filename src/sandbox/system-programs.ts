/**
 * The programs of this computer, for compartments that may have them: /usr and what stands beside it, read-only, and of
 * /etc only what programs are found by. What an operator keeps below /usr is taken out.
 */
import { existsSync, lstatSync, readlinkSync, realpathSync } from 'node:fs'
import { dirname } from 'node:path'
import { PlatformError } from '../../schema/error.ts'

/** What holds programs and what they load; on most systems links into /usr. */
const ROOTS = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32']
/** Settings and sources of whoever runs this computer: no program needs them to run. */
const KEPT = ['/usr/local/etc', '/usr/etc', '/usr/src', '/usr/local/src', '/usr/local/share/ca-certificates']
/** `awk` and others are links by way of the first; libraries outside the usual places are found by the second. */
const SETTINGS = ['/etc/alternatives', '/etc/ld.so.cache']

/** Where a compartment with the system's programs looks for them; its own Node stands first. */
export const SYSTEM_PATH = '/opt:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin'

/**
 * The options of bubblewrap that show the programs. `runtimeDirectory` is where machines have their files: it, and what
 * stands beside it, stays unseen even below /usr. Throws `machine_failed` when that cannot be.
 */
export function systemOptions(runtimeDirectory: string): readonly string[] {
  const options = ROOTS.flatMap((root) => {
    if (!existsSync(root)) return []
    return lstatSync(root).isSymbolicLink() ? ['--symlink', readlinkSync(root), root] : ['--ro-bind', root, root]
  })
  const settings = SETTINGS.filter((path) => existsSync(path)).flatMap((path) => ['--ro-bind', path, path])
  const hidden = [...KEPT.filter(isPlainDirectory), ...ownPlaces(runtimeDirectory)]
  const covers = hidden.flatMap((path) => ['--perms', '0555', '--tmpfs', path, '--remount-ro', path])
  return [...options, ...settings, ...covers]
}

/** Whether a path is seen by way of the programs already. */
export function isSystemPath(path: string): boolean {
  return ROOTS.some((root) => path === root || path.startsWith(`${root}/`))
}

/** A server that is no root gives machines its own uid: what it keeps must not be seen at all. */
function ownPlaces(runtimeDirectory: string): readonly string[] {
  const directory = realpathSync(runtimeDirectory)
  if (!isSystemPath(directory)) return []
  const place = dirname(directory)
  if ([directory, place, dirname(place)].some((path) => ROOTS.includes(path)))
    throw new PlatformError(
      'machine_failed',
      `${runtimeDirectory} is too near to the programs of the system to be kept from machines: name a directory outside of /usr.`,
    )
  return [place]
}

function isPlainDirectory(path: string): boolean {
  return existsSync(path) && lstatSync(path).isDirectory()
}
