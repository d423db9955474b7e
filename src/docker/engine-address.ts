/** Where a Docker engine listens: what DOCKER_HOST says, or the usual places. Pure. */

export type AddressText =
  | { readonly type: 'socket'; readonly path: string }
  | { readonly type: 'tcp'; readonly hostname: string; readonly port: number }

const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]'])

/** A sentence where it is no address that we can speak to. */
export function parseEngineAddress(text: string): AddressText | string {
  const [, scheme = '', rest = ''] = /^([a-z]+):\/\/(.*)$/s.exec(text) ?? []
  if ((scheme === 'unix' || scheme === 'npipe') && rest.startsWith('/')) return { type: 'socket', path: rest }
  if (scheme === 'tcp') {
    const url = URL.parse(`http://${rest}`)
    if (url !== null && url.hostname !== '' && url.pathname === '/' && url.username === '' && url.search === '')
      return { type: 'tcp', hostname: url.hostname, port: Number(url.port || 2376) }
  }
  return `DOCKER_HOST is "${text}"; it must be unix:///path, npipe:////./pipe/name or tcp://host:port.`
}

/** Whether it may be spoken to in the clear: an engine gives whoever reaches it the whole computer. */
export function isLoopback(hostname: string): boolean {
  return LOOPBACK.has(hostname)
}

/** Where engines put their sockets, in the order in which they are looked for. */
export function usualSockets(
  platform: string,
  home: string | undefined,
  runtimeDirectory: string | undefined,
): readonly string[] {
  if (platform === 'win32') return ['//./pipe/docker_engine']
  const below = (directory: string | undefined, paths: readonly string[]): readonly string[] =>
    directory === undefined || directory === '' ? [] : paths.map((path) => `${directory}/${path}`)
  return [
    '/var/run/docker.sock',
    ...below(runtimeDirectory, ['docker.sock']),
    ...below(home, ['.docker/run/docker.sock', '.orbstack/run/docker.sock', '.colima/default/docker.sock']),
  ]
}
