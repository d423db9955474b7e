/** Endpoints and headers of skills on the network: what a file may say, and what a secret may become part of. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isPublicAddress, Networks, parseNetwork } from '../../schema/network.ts'
import { endpointFault, fillHeaders, headerFaults } from '../../schema/remote-skill.ts'

describe('an endpoint', () => {
  it.each([
    'https://mcp.example.com/mcp',
    'https://mcp.example.com:8443/a/b?tenant=x',
    'https://93.184.215.14/mcp',
    'http://127.0.0.1:3001/mcp',
    'http://[::1]:3001/mcp',
    'http://localhost:3001/sse',
    'http://mcp:3001/mcp',
    'http://mcp.internal/mcp',
  ])('may be %s', (text) => expect(endpointFault(text)).toBeUndefined())

  it.each([
    ['http://mcp.example.com/mcp', 'https://'],
    ['http://internal.example.com/mcp', 'https://'],
    ['ftp://mcp.example.com/mcp', 'https URL'],
    ['file:///etc/passwd', 'https URL'],
    ['https://user:pw@mcp.example.com/', 'no user and password'],
    ['https://mcp.example.com/#x', 'fragment'],
    ['https://mcp.example.com/${TOKEN}', 'placeholder'],
    ['https://mcp.example.com/a b', 'https URL'],
    ['https://xn--pple-43d.com/mcp', 'Punycode'],
    ['https://\u0430pple.com/mcp', 'https URL'],
    ['https://', 'https URL'],
    ['', 'https URL'],
  ])('may not be %s', (text, words) => expect(endpointFault(text)).toContain(words))
})

describe('headers', () => {
  it('are complete: each secret is named and used, and nothing that is one is written down', () => {
    expect(headerFaults({ Authorization: 'Bearer ${TOKEN}', 'X-Team': 'acme' }, ['TOKEN'])).toEqual([])
    expect(headerFaults({}, [])).toEqual([])
    for (const [headers, env, words] of [
      [{ Authorization: 'Bearer abc' }, [], 'holds a secret'],
      [{ 'x-api-key': 'abc' }, [], 'holds a secret'],
      [{ 'X-Auth-Token': 'abc' }, [], 'holds a secret'],
      [{ 'X-A': '${TOKEN}' }, [], 'names TOKEN, which requiredEnv does not'],
      [{ 'X-A': 'a' }, ['TOKEN'], 'names TOKEN, which no header uses'],
      [{ 'X-A': '${TO KEN}' }, [], 'is no "${NAME}"'],
      [{ 'X-A': '${TOKEN' }, [], 'is no "${NAME}"'],
      [{ 'X-A': 'a\r\nHost: b' }, [], 'printable ASCII'],
      [{ 'X A': 'a' }, [], 'no name of a header'],
      [{ 'X-A': 'a', 'x-a': 'b' }, [], 'set twice'],
      ...['Host', 'cookie', 'Content-Length', 'Mcp-Session-Id', 'Proxy-Authorization', 'connection', 'Accept'].map(
        (name) => [{ [name]: 'a' }, [], 'of the connection or the protocol'] as const,
      ),
    ] as const)
      expect(
        headerFaults(headers, env)
          .map((fault) => fault.words)
          .join(),
        JSON.stringify(headers),
      ).toContain(words)
  })

  it('get the secrets in their places, and nothing that would be another header', () => {
    const secrets = new Map([
      ['A', 'one'],
      ['B', 'two'],
    ])
    expect(fillHeaders({ X: 'a ${A} ${B} ${A}', Y: 'c' }, secrets)).toEqual({ X: 'a one two one', Y: 'c' })
    expect(fillHeaders({ X: '${C}' }, secrets)).toBeUndefined()
    for (const value of ['a\nb', 'a\r\nHost: b', 'caf\u00e9', '\0', ' '])
      expect(fillHeaders({ X: '${A}' }, new Map([['A', value]])), JSON.stringify(value)).toBeUndefined()
    // A secret is a text, not a place for another one.
    expect(fillHeaders({ X: '${A}' }, new Map([...secrets, ['A', '${B}']]))).toEqual({ X: '${B}' })
    expect(fillHeaders({ X: '${A}' }, new Map([['A', "$&$1$'"]]))).toEqual({ X: "$&$1$'" })
  })
})

describe('an address', () => {
  const special: readonly (readonly [first: string, bits: number])[] = [
    ['0.0.0.0', 8],
    ['10.0.0.0', 8],
    ['100.64.0.0', 10],
    ['127.0.0.0', 8],
    ['169.254.0.0', 16],
    ['172.16.0.0', 12],
    ['192.168.0.0', 16],
    ['198.18.0.0', 15],
    ['224.0.0.0', 4],
    ['240.0.0.0', 4],
  ]
  const ip4 = (value: number) => [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.')
  const number4 = (text: string) => text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)

  it('of any special range is not public, as IPv4 and in every form of IPv6 that carries it', () => {
    fc.assert(
      fc.property(fc.constantFrom(...special), fc.nat(0xffffffff), ([first, bits], host) => {
        const address = ip4((number4(first) + (host % 2 ** (32 - bits))) >>> 0)
        expect(isPublicAddress(address), address).toBe(false)
        const hex = number4(address).toString(16).padStart(8, '0')
        const [high, low] = [hex.slice(0, 4), hex.slice(4)]
        for (const form of [`::ffff:${address}`, `::${address}`, `64:ff9b::${high}:${low}`, `2002:${high}:${low}::1`])
          expect(isPublicAddress(form), form).toBe(false)
      }),
    )
  })

  it('of a link, a site, a document or a tunnel is not public, and what is no address is none', () => {
    const not = '::1 :: fe80::1 fe80::1%eth0 fc00::1 fdaa::3 fd00:ec2::254 ff02::1 2001:db8::1 2001::1 3fff::1 100::1'
    for (const address of [...not.split(' '), '', 'localhost', '1.2.3', '1.2.3.4.5', '1.2.3.4/8', '0x7f.1'])
      expect(isPublicAddress(address), address).toBe(false)
    for (const address of ['93.184.215.14', '1.1.1.1', '172.32.0.1', '2606:4700::1111', '2a00:1450::1'])
      expect(isPublicAddress(address), address).toBe(true)
  })

  it('is in a network that an operator names, and in no other', () => {
    const networks = new Networks(['10.1.0.0/16', '127.0.0.1', 'fd00::/8'].flatMap((text) => parseNetwork(text) ?? []))
    for (const address of ['10.1.2.3', '127.0.0.1', 'fd12::1', '::ffff:127.0.0.1'])
      expect(networks.has(address)).toBe(true)
    for (const address of ['10.2.0.1', '127.0.0.2', 'fe80::1', 'x', '']) expect(networks.has(address)).toBe(false)
    for (const text of ['10.0.0.0/33', '10.0.0/8', 'fd00::/129', 'x', '', '10.0.0.0/8/8', '10.0.0.0/', 'fe80::1%a'])
      expect(parseNetwork(text), text).toBeUndefined()
  })
})
