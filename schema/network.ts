/** Addresses of the internet and of networks that an operator names: which of them a connection may be made to. */
import { BlockList, isIP } from 'node:net'

/** An operator's own networks; none by default. */
export class Networks {
  readonly #list = new BlockList()

  constructor(networks: readonly Network[]) {
    for (const { address, bits, family } of networks) this.#list.addSubnet(address, bits, family)
  }

  /** False for anything that is no address. */
  has(address: string): boolean {
    return isIn(this.#list, address)
  }
}

export interface Network {
  readonly address: string
  readonly bits: number
  readonly family: 'ipv4' | 'ipv6'
}

/** `10.1.0.0/16`, `fd00::/8`, or one address; undefined for anything else. */
export function parseNetwork(text: string): Network | undefined {
  const [address = '', bits, ...rest] = text.split('/')
  const version = isIP(address)
  const most = version === 4 ? 32 : 128
  const count = bits === undefined ? most : /^\d{1,3}$/.test(bits) ? Number(bits) : Number.NaN
  if (version === 0 || address.includes('%') || rest.length > 0 || !(count <= most)) return undefined
  return { address, bits: count, family: version === 4 ? 'ipv4' : 'ipv6' }
}

function listOf(...texts: readonly string[]): BlockList {
  const list = new BlockList()
  for (const text of texts) {
    const network = parseNetwork(text)
    if (network === undefined) throw new TypeError(`${text} is no network`)
    list.addSubnet(network.address, network.bits, network.family)
  }
  return list
}

/** What the registries of special addresses take out of the internet. */
const SPECIAL_4 = listOf(
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.31.196.0/24',
  '192.52.193.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '192.175.48.0/24',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
)
/** The one part of IPv6 that is given out for the internet; whatever embeds an IPv4 address is special, too. */
const GLOBAL_6 = listOf('2000::/3')
const SPECIAL_6 = listOf('2001::/23', '2001:db8::/32', '2002::/16', '2620:4f:8000::/48', '3fff::/20')

/** Whether an address is of the public internet: not this computer, not a private network, not a cloud's metadata. */
export function isPublicAddress(address: string): boolean {
  switch (isIP(address)) {
    case 4:
      return !isIn(SPECIAL_4, address)
    case 6:
      return isIn(GLOBAL_6, address) && !isIn(SPECIAL_6, address)
    default:
      return false
  }
}

function isIn(list: BlockList, address: string): boolean {
  const version = isIP(address)
  if (version === 0 || address.includes('%')) return false
  return list.check(address, version === 4 ? 'ipv4' : 'ipv6')
}
