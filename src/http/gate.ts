/** What every request passes before anything reads it: the name it asks for, and the key it brings. */
import { PlatformError } from '../../schema/error.ts'
import type { Applications, Caller } from '../application/applications.ts'

const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]'])

/**
 * True when the Host header names this server. On loopback no other name may: a web page could point its own name
 * at 127.0.0.1 and have a browser read from here. `allowed` are further host names, without a port.
 */
export function isOurHost(header: string | undefined, hostname: string, allowed: readonly string[]): boolean {
  const isLoopback = LOOPBACK.has(hostname) || hostname === '::1' || hostname.startsWith('127.')
  if (!isLoopback) return true
  const name = /^(?<name>\[[0-9a-f:]+\]|[^:[\]]+)(:\d{1,5})?$/i.exec(header ?? '')?.groups?.['name']?.toLowerCase()
  if (name === undefined) return false
  return allowed.includes(name) || LOOPBACK.has(name) || name === hostname
}

/** The caller that the Authorization header stands for. Throws `unauthenticated`, the same for every bad key. */
export async function authenticate(header: string | undefined, applications: Applications): Promise<Caller> {
  const key = /^Bearer ([\x21-\x7e]{1,512})$/i.exec(header ?? '')?.[1] ?? null
  const caller = await applications.authenticate(key)
  if (caller === undefined) throw new PlatformError('unauthenticated', 'No valid key came with the request.')
  return caller
}
