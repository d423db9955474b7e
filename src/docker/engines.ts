/** Opens the engine that the settings name, or the first whose socket is there. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import { isLoopback, parseEngineAddress, usualSockets } from './engine-address.ts'
import { openEngine, type Engine } from './engine.ts'

export interface EngineSettings {
  /** As DOCKER_HOST has it; null for the usual places. */
  readonly host: string | null
  /** A directory with ca.pem, cert.pem and key.pem; null for an engine without TLS. */
  readonly certificates: string | null
}

/** Of this computer, as `main.ts` reads them. */
export interface Surroundings {
  readonly platform: string
  readonly home: string | undefined
  readonly runtimeDirectory: string | undefined
}

/** Opens nothing yet. Throws `config_invalid` for an address that is none, or that would be spoken to in the clear. */
export async function openNamedEngine(
  { host, certificates }: EngineSettings,
  { platform, home, runtimeDirectory }: Surroundings,
  clock: Clock,
): Promise<Engine> {
  if (host === null) {
    const sockets = usualSockets(platform, home, runtimeDirectory)
    const path = sockets.find((socket) => existsSync(socket)) ?? sockets[0] ?? ''
    return openEngine({ type: 'socket', path }, clock)
  }
  const address = parseEngineAddress(host)
  if (typeof address === 'string') throw new PlatformError('config_invalid', address)
  if (address.type === 'socket') return openEngine(address, clock)
  const { hostname, port } = address
  if (certificates !== null) {
    const [ca = '', cert = '', key = ''] = await Promise.all(
      ['ca.pem', 'cert.pem', 'key.pem'].map((name) => readCertificate(join(certificates, name))),
    )
    return openEngine({ type: 'tls', hostname, port, ca, cert, key }, clock)
  }
  if (isLoopback(hostname)) return openEngine({ type: 'loopback', hostname, port }, clock)
  throw new PlatformError(
    'config_invalid',
    `DOCKER_HOST names ${hostname} without TLS: whoever listens on the way would own that computer. Set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH.`,
  )
}

async function readCertificate(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    throw new PlatformError('config_invalid', `${path} of DOCKER_CERT_PATH cannot be read.`, { cause })
  }
}
