/** Where the kernel shows the cgroups that this process is in, of either version; pure. */

export const LIMIT_KINDS = ['memory', 'pids', 'cpu'] as const
export type LimitKind = (typeof LIMIT_KINDS)[number]

export interface CgroupPlace {
  readonly version: 1 | 2
  /** The directory of the cgroup that this process is in. */
  readonly directory: string
  /** Controllers that it may be able to limit by; of version 2 only the directory itself can tell. */
  readonly kinds: readonly LimitKind[]
}

/**
 * Reads `/proc/self/mountinfo` and `/proc/self/cgroup` (see proc(5) and cgroups(7)). A machine is made beside nothing: below
 * the cgroup of the server, whose own limits hold for all of its machines.
 */
export function placesOf(mountinfo: string, membership: string): readonly CgroupPlace[] {
  const paths = new Map<string, string>()
  for (const line of membership.split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(.+)$/.exec(line) ?? []
    if (controllers === undefined || path === undefined) continue
    for (const name of controllers.split(',')) paths.set(name, path)
  }
  const places: CgroupPlace[] = []
  for (const line of mountinfo.split('\n')) {
    const [mount = '', filesystem = ''] = line.split(' - ')
    const [, , , root, mountPoint] = mount.split(' ')
    const [type, , options = ''] = filesystem.split(' ')
    if (root === undefined || mountPoint === undefined || (type !== 'cgroup' && type !== 'cgroup2')) continue
    const kinds = LIMIT_KINDS.filter((kind) => options.split(',').includes(kind))
    const path = paths.get(type === 'cgroup2' ? '' : (kinds[0] ?? ''))
    const below = path === undefined ? undefined : relativeTo(unescape(root), path)
    if (below === undefined) continue
    const directory = `${unescape(mountPoint)}${below}`
    if (type === 'cgroup2') places.push({ version: 2, directory, kinds: [] })
    else if (kinds.length > 0) places.push({ version: 1, directory, kinds })
  }
  return places.filter((place, i) => places.findIndex(({ directory }) => directory === place.directory) === i)
}

/** What of `path` is below `root`, with a slash before it; undefined when it is not. */
function relativeTo(root: string, path: string): string | undefined {
  if (path.split('/').includes('..')) return undefined
  if (root === '/') return path === '/' ? '' : path
  if (path === root) return ''
  return path.startsWith(`${root}/`) ? path.slice(root.length) : undefined
}

/** The kernel writes spaces and the like as three octal digits. */
function unescape(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}
