/** What an expert file says of a skill on the network: where it is, and the headers that carry its secrets. */
import { isIP } from 'node:net'

/** Endings of names that mean something only within somebody's own network. */
const INWARD = /(?:^|\.)(?:localhost|internal|local|lan|home|corp|intranet|test|home\.arpa)$/

/**
 * What is wrong with an endpoint, in words that follow the field's name; undefined when nothing is. Whether its address
 * may be reached is for the server to say, when it has looked it up.
 */
export function endpointFault(text: string): string | undefined {
  const url = URL.parse(text)
  if (url === null || !/^https?:\/\/[\x21-\x7e]+$/.test(text))
    return 'must be an https URL such as "https://mcp.example.com/mcp"'
  if (url.username !== '' || url.password !== '') return 'must hold no user and password: send them in headers'
  if (url.hash !== '' || text.includes('${')) return 'must hold neither a fragment nor a placeholder'
  if (url.hostname.split('.').some((label) => label.startsWith('xn--')))
    return 'must be in plain ASCII and not in Punycode ("xn--…"), since look-alike letters hide which host is meant'
  if (url.protocol === 'https:' || isOwn(url.hostname)) return undefined
  return 'must begin with https://: what is not encrypted is read and changed on its way'
}

/** A host without a name in the internet: an address, or a name of somebody's own network. */
function isOwn(hostname: string): boolean {
  const name = hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '')
  return isIP(name) !== 0 || !name.includes('.') || INWARD.test(name)
}

const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/
const VALUE = /^[\x20-\x7e]{1,4096}$/
/** The connection's own, and the protocol's. */
const TAKEN =
  /^(?:accept|connection|content-.*|cookie2?|date|expect|host|keep-alive|last-event-id|mcp-.*|origin|proxy-.*|referer|sec-.*|te|trailer|transfer-encoding|upgrade|via)$/i
/** Their values are secrets, whoever writes them. */
const SECRET = /^authorization$|(?:^|[-_])(?:key|token|secret|password|apikey)$/i
const PLACEHOLDER = /\$\{([A-Za-z_][A-Za-z0-9_]{0,63})\}/g

/** A complaint about one header (`null`: about `requiredEnv`), in words that follow its name. */
export interface HeaderFault {
  readonly header: string | null
  readonly words: string
}

/** All that is wrong with the headers of a skill that gets these secrets. */
export function headerFaults(
  headers: Readonly<Record<string, string>>,
  requiredEnv: readonly string[],
): readonly HeaderFault[] {
  const faults: HeaderFault[] = []
  const seen = new Set<string>()
  for (const [header, value] of Object.entries(headers)) {
    const fault = (words: string): void => void faults.push({ header, words })
    if (!NAME.test(header)) fault('is no name of a header')
    else if (TAKEN.test(header)) fault('is a header of the connection or the protocol; remove it')
    if (seen.has(header.toLowerCase())) fault('is set twice')
    seen.add(header.toLowerCase())
    if (!VALUE.test(value)) fault('must be printable ASCII, at most 4096 characters')
    if (value.replace(PLACEHOLDER, '').includes('${')) fault('holds a "${" that is no "${NAME}"')
    const named = namesIn(value)
    if (named.length === 0 && SECRET.test(header))
      fault('holds a secret, which a package must not: write "${NAME}", and NAME into requiredEnv')
    const missing = named.filter((name) => !requiredEnv.includes(name))
    if (missing.length > 0) fault(`names ${missing.join(', ')}, which requiredEnv does not`)
  }
  const used = new Set(Object.values(headers).flatMap(namesIn))
  const idle = requiredEnv.filter((name) => !used.has(name))
  if (idle.length > 0) faults.push({ header: null, words: `names ${idle.join(', ')}, which no header uses` })
  return faults
}

function namesIn(value: string): readonly string[] {
  return [...value.matchAll(PLACEHOLDER)].map(([, name]) => name ?? '')
}

/** The headers with secrets in their places; undefined when one is missing, or could not be the value of a header. */
export function fillHeaders(
  headers: Readonly<Record<string, string>>,
  secrets: ReadonlyMap<string, string>,
): Readonly<Record<string, string>> | undefined {
  const filled: Record<string, string> = {}
  for (const [header, value] of Object.entries(headers)) {
    const text = value.replace(PLACEHOLDER, (_, name: string) => secrets.get(name) ?? '\0').trim()
    if (!/^[\x20-\x7e]+$/.test(text)) return undefined
    filled[header] = text
  }
  return filled
}
