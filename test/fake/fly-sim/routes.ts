/** The paths of the Machines API: which action a request asks for, and of what. */
export type Action =
  | 'app_create'
  | 'app_list'
  | 'app_get'
  | 'app_delete'
  | 'create'
  | 'list'
  | 'get'
  | 'update'
  | 'delete'
  | 'start'
  | 'stop'
  | 'suspend'
  | 'signal'
  | 'wait'
  | 'cordon'
  | 'uncordon'
  | 'exec'
  | 'events'
  | 'versions'
  | 'lease_get'
  | 'lease_take'
  | 'lease_release'
  | 'metadata_get'
  | 'metadata_set'
  | 'metadata_patch'
  | 'metadata_delete'
  | 'regions'
  | 'placements'
  | 'org_machines'

export interface Route {
  readonly action: Action
  readonly app?: string
  readonly machine?: string
  /** Of a piece of metadata. */
  readonly key?: string
  readonly org?: string
}

const ROUTES: readonly (readonly [method: string, path: string, action: Action])[] = [
  ['POST', '/apps', 'app_create'],
  ['GET', '/apps', 'app_list'],
  ['GET', '/apps/:app', 'app_get'],
  ['DELETE', '/apps/:app', 'app_delete'],
  ['POST', '/apps/:app/machines', 'create'],
  ['GET', '/apps/:app/machines', 'list'],
  ['GET', '/apps/:app/machines/:machine', 'get'],
  ['POST', '/apps/:app/machines/:machine', 'update'],
  ['DELETE', '/apps/:app/machines/:machine', 'delete'],
  ['POST', '/apps/:app/machines/:machine/start', 'start'],
  ['POST', '/apps/:app/machines/:machine/stop', 'stop'],
  ['POST', '/apps/:app/machines/:machine/suspend', 'suspend'],
  ['POST', '/apps/:app/machines/:machine/signal', 'signal'],
  ['GET', '/apps/:app/machines/:machine/wait', 'wait'],
  ['POST', '/apps/:app/machines/:machine/cordon', 'cordon'],
  ['POST', '/apps/:app/machines/:machine/uncordon', 'uncordon'],
  ['POST', '/apps/:app/machines/:machine/exec', 'exec'],
  ['GET', '/apps/:app/machines/:machine/events', 'events'],
  ['GET', '/apps/:app/machines/:machine/versions', 'versions'],
  ['GET', '/apps/:app/machines/:machine/lease', 'lease_get'],
  ['POST', '/apps/:app/machines/:machine/lease', 'lease_take'],
  ['DELETE', '/apps/:app/machines/:machine/lease', 'lease_release'],
  ['GET', '/apps/:app/machines/:machine/metadata', 'metadata_get'],
  ['PATCH', '/apps/:app/machines/:machine/metadata', 'metadata_patch'],
  ['POST', '/apps/:app/machines/:machine/metadata/:key', 'metadata_set'],
  ['DELETE', '/apps/:app/machines/:machine/metadata/:key', 'metadata_delete'],
  ['GET', '/platform/regions', 'regions'],
  ['POST', '/platform/placements', 'placements'],
  ['GET', '/orgs/:org/machines', 'org_machines'],
]

/** `path` is what follows `/v1`. */
export function routeOf(method: string, path: string): Route | undefined {
  const parts = path.split('/')
  for (const [wanted, pattern, action] of ROUTES) {
    const names = pattern.split('/')
    if (wanted !== method || names.length !== parts.length) continue
    const found: Record<string, string> = {}
    const fits = names.every((name, i) => {
      if (!name.startsWith(':')) return name === parts[i]
      found[name.slice(1)] = decodeURIComponent(parts[i] ?? '')
      return parts[i] !== ''
    })
    if (fits) return { action, ...found }
  }
  return undefined
}
