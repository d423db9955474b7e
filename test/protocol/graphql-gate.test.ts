/** What a stranger, a web page or a hostile document gets from the GraphQL door: a refusal, at once. */
import { request } from 'node:http'
import { connect } from 'node:net'
import { gzipSync } from 'node:zlib'
import { getIntrospectionQuery } from 'graphql'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openDoor, type Door } from '../support/door.ts'
import { until } from '../support/patience.ts'

let door: Door
beforeAll(async () => {
  door = await openDoor({
    registryListener: (incoming, outgoing) => outgoing.end(`registry ${incoming.url}`),
  })
})
afterAll(() => door.close())

const HELLO = '{ application { name } }'
const json = { 'content-type': 'application/json' }
const post = (
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = json,
  key: string | null = door.key,
) => door.fetch('/graphql', { method: 'POST', headers, body }, key)
const codeOf = async (response: Response) =>
  ((await response.json()) as { errors: { extensions: { code: string } }[] }).errors[0]?.extensions.code

describe('without a key', () => {
  it('nothing answers, and every bad key gets the same words (H1)', async () => {
    const caller = await door.applications.authenticate(door.key)
    const spare = (await door.applications.createKey(caller!.application.id)).reveal()
    const spareCaller = await door.applications.authenticate(spare)
    await door.applications.revokeKey(caller!.application.id, spareCaller!.keyId)
    const bodies = new Set<string>()
    const bad = [
      null,
      'nonsense',
      `${door.key}x`,
      door.key.toUpperCase(),
      door.key.slice(0, -1),
      spare,
      'a'.repeat(5000),
    ]
    for (const key of bad) {
      const response = await post(JSON.stringify({ query: getIntrospectionQuery() }), json, key)
      expect(response.status).toBe(401)
      bodies.add(await response.text())
    }
    expect(bodies.size).toBe(1)
    expect([...bodies][0]).toContain('"code":"unauthenticated"')
    expect([...bodies][0]).not.toContain('__schema')
  })

  it('no path but the front page and the probes says anything (H1)', async () => {
    for (const path of ['/', '/healthz', '/readyz']) expect((await door.fetch(path, {}, null)).status).toBe(200)
    const paths = [
      '/graphql',
      '/graphql/stream',
      '/expert_jobs',
      '/expert_jobs/x/workspace_instance',
      '/api/studio/v1/expert_jobs',
      '/etc/passwd',
    ]
    for (const path of paths)
      for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'PATCH'])
        expect((await door.fetch(path, { method }, null)).status, `${method} ${path}`).toBe(401)
  })

  it('a key in the address is no key', async () => {
    const response = await door.fetch(
      `/graphql?key=${door.key}&access_token=${door.key}&token=${door.key}`,
      {
        method: 'POST',
        headers: json,
        body: JSON.stringify({ query: HELLO }),
      },
      null,
    )
    expect(response.status).toBe(401)
  })

  it('the registry is asked itself', async () => {
    expect(await (await door.fetch('/npm/@senmon%2ffiles?x=1', {}, null)).text()).toBe(
      'registry /npm/@senmon%2ffiles?x=1',
    )
    expect((await door.fetch('/npmx', {}, null)).status).toBe(401)
  })
})

describe('a web page', () => {
  it('cannot send what needs no preflight', async () => {
    const types = [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'application/graphql',
      'application/json; charset=utf-7',
      'message/json',
      'application/jsonp',
      '',
    ]
    for (const type of types) {
      const response = await post(JSON.stringify({ query: HELLO }), { 'content-type': type })
      expect([type, response.status]).toEqual([type, 415])
      expect(await codeOf(response)).toBe('media_type_unsupported')
    }
    expect(
      (await post(JSON.stringify({ query: HELLO }), { 'content-type': 'application/json; charset=UTF-8' })).status,
    ).toBe(200)
  })

  it('is given no CORS header', async () => {
    const response = await post(JSON.stringify({ query: HELLO }), { ...json, origin: 'https://evil.example' })
    expect([...response.headers.keys()].filter((name) => name.startsWith('access-control'))).toEqual([])
    const preflight = await door.fetch('/graphql', { method: 'OPTIONS', headers: { origin: 'https://evil.example' } })
    expect(preflight.headers.get('access-control-allow-origin')).toBeNull()
  })

  it('cannot ask by GET', async () => {
    for (const query of [
      HELLO,
      'mutation { createApiKey { __typename } }',
      'subscription { events(jobId: "x") { seq } }',
    ]) {
      const response = await door.fetch(`/graphql?query=${encodeURIComponent(query)}`, {
        headers: { accept: 'text/event-stream' },
      })
      expect(response.status).toBe(405)
      expect((await door.fetch(`/graphql/stream?query=${encodeURIComponent(query)}`)).status).toBe(405)
    }
  })

  it('cannot reach us under a name of its own (H2)', async () => {
    const ask = (host: string) =>
      new Promise<number>((resolve) => {
        request(`${door.url}/healthz`, { headers: { host } }, (response) =>
          resolve(response.resume().statusCode ?? 0),
        ).end()
      })
    const port = new URL(door.url).port
    for (const host of [`localhost:${port}`, `127.0.0.1:${port}`, 'LOCALHOST', '[::1]:80'])
      expect([host, await ask(host)]).toEqual([host, 200])
    for (const host of [
      'evil.example',
      `evil.example:${port}`,
      '127.0.0.1.evil.example',
      'localhost@evil.example',
      '10.0.0.1',
    ])
      expect([host, await ask(host)]).toEqual([host, 403])
  })
})

describe('a body', () => {
  it('must be one GraphQL request in JSON (H3)', async () => {
    const deep = `${'['.repeat(20_000)}${']'.repeat(20_000)}`
    const bodies: readonly (string | Uint8Array<ArrayBuffer>)[] = [
      '',
      '{',
      '[]',
      `[{"query":"${HELLO}"},{"query":"${HELLO}"}]`,
      '"x"',
      'null',
      '{"query":{"a":1}}',
      '{}',
      `{"query":"${HELLO}","foo":1}`,
      `{"query":"${HELLO}","variables":[]}`,
      `{"query":"${HELLO}","variables":{"a":${deep}}}`,
      `{"query":"${HELLO}","variables":{"__proto__":{"x":1}}}`,
      Uint8Array.from([0x7b, 0xff, 0x7d]),
      Uint8Array.from([0xef, 0xbb, 0xbf, 0x7b, 0x7d]),
    ]
    for (const body of bodies) {
      const response = await post(body)
      expect([String(body).slice(0, 60), response.status]).toEqual([String(body).slice(0, 60), 400])
      expect(await codeOf(response)).toBe('input_invalid')
    }
    expect(({} as Record<string, unknown>)['x']).toBeUndefined()
  })

  it('is bounded, said beforehand or not, and never unpacked (H3)', async () => {
    const big = 'x'.repeat(17 * 1024 * 1024)
    const said = await post(big)
    expect(said.status).toBe(413)
    expect(await codeOf(said)).toBe('input_too_large')
    const chunked = await new Promise<number>((resolve, reject) => {
      const sent = request(
        `${door.url}/graphql`,
        { method: 'POST', headers: { ...json, authorization: `Bearer ${door.key}` } },
        (response) => resolve(response.resume().statusCode ?? 0),
      )
      sent.on('error', reject)
      for (let i = 0; i < 17; i++) sent.write(Buffer.alloc(1024 * 1024, 0x20))
      sent.end()
    })
    expect(chunked).toBe(413)
    const packed = Uint8Array.from(gzipSync(JSON.stringify({ query: HELLO })))
    expect((await post(packed, { ...json, 'content-encoding': 'gzip' })).status).toBe(415)
    expect((await post(JSON.stringify({ query: HELLO }))).status).toBe(200)
  })

  it('that breaks off harms nobody', async () => {
    const socket = connect(Number(new URL(door.url).port), '127.0.0.1')
    socket.write(
      `POST /graphql HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${door.key}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"query"`,
    )
    await new Promise((resolve) => socket.once('connect', resolve))
    socket.destroy()
    expect((await post(JSON.stringify({ query: HELLO }))).status).toBe(200)
  })
})

describe('a hostile document', () => {
  const exponential = `query { ...f0 } ${Array.from({ length: 20 }, (_, i) => `fragment f${i} on Query { ...f${i + 1} ...f${i + 1} }`).join(' ')} fragment f20 on Query { application { name } }`
  const documents: Readonly<Record<string, string>> = {
    'exponential fragments': exponential,
    '2,000 aliases': `{ ${Array.from({ length: 2000 }, (_, i) => `a${i}: application { name }`).join(' ')} }`,
    '100 aliases': `{ ${Array.from({ length: 100 }, (_, i) => `a${i}: application { name }`).join(' ')} }`,
    '5,000 equal fields': `{ application { ${'name '.repeat(5000)} } }`,
    '2,000 directives': `{ application ${'@include(if: true) '.repeat(2000)} { name } }`,
    '100 unknown directives': `{ application ${'@aa '.repeat(100)} { name } }`,
    'directives on the operation': `query ${'@aa '.repeat(100)} { application { name } }`,
    'a depth of 500': `{ ${'a { '.repeat(400)} b ${'} '.repeat(400)} }`,
    'a depth of 5,000': `{ ${'a { '.repeat(5000)} b ${'} '.repeat(5000)} }`,
    'a depth of 40': `{ ${'a { '.repeat(40)} b ${'} '.repeat(40)} }`,
    '60 inline fragments of 60': `{ ${`... { ${'... { __typename } '.repeat(60)} } `.repeat(60)} }`,
    'a chain of 10,000 fragments': Array.from(
      { length: 10_000 },
      (_, i) => `fragment f${i} on Query { ...f${i + 1} }`,
    ).join(' '),
    'a name of a megabyte': `{ ${'a'.repeat(1024 * 1024)} }`,
    'a comment of five megabytes': `{ application { name } } #${'x'.repeat(5 * 1024 * 1024)}`,
    'a string of a megabyte': `{ job(id: """${'x'.repeat(1024 * 1024)}""") { id } }`,
    '1,000 mutations': `mutation { ${Array.from({ length: 1000 }, (_, i) => `m${i}: createJob(input: { expertKey: "greeter", query: "x" }) { __typename }`).join(' ')} }`,
    'pages of pages': `{ jobs(first: 100) { nodes { checkpoints(first: 100) { nodes { id } } runs { checkpoints(first: 100) { nodes { id } } } } } }`,
  }
  for (const [name, query] of Object.entries(documents))
    it(`of ${name} is refused fast`, async () => {
      const before = process.cpuUsage()
      const response = await post(JSON.stringify({ query }))
      const spent = process.cpuUsage(before)
      expect(await codeOf(response)).toBe('input_too_large')
      // The client's own work is in this figure as well; unbounded, the documents take seconds.
      expect((spent.user + spent.system) / 1000).toBeLessThan(1_000)
    })

  it('of circular fragments is invalid', async () => {
    const query = '{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }'
    expect(await codeOf(await post(JSON.stringify({ query })))).toBe('input_invalid')
  })

  it('with a bad number, a bad page, an unknown field or operation is invalid', async () => {
    const queries = [
      '{ jobs(first: 1e9) { nodes { id } } }',
      '{ jobs(first: 0) { nodes { id } } }',
      '{ jobs(first: -1) { nodes { id } } }',
      '{ jobs(first: 101) { nodes { id } } }',
      '{ jobs(first: 2147483648) { nodes { id } } }',
      '{ jobs(first: "1") { nodes { id } } }',
      '{ nope }',
      'query a { application { name } } query b { application { name } }',
      '{ application { name } ',
      '{ application @defer { name } }',
      '{ __type(name: "Job") { fields { type { fields { type { fields { type { fields { name } } } } } } } } }',
    ]
    for (const query of queries)
      expect([query, await codeOf(await post(JSON.stringify({ query })))]).toEqual([query, 'input_invalid'])
    const unknown = await post(JSON.stringify({ query: 'query a { application { name } }', operationName: 'b' }))
    expect(await codeOf(unknown)).toBe('input_invalid')
  })

  it('is not the introspection of a caller with a key', async () => {
    const response = await post(JSON.stringify({ query: getIntrospectionQuery() }))
    expect(await response.json()).toMatchObject({ data: { __schema: { queryType: { name: 'Query' } } } })
  })

  it('is refused over an event stream and a single connection as well', async () => {
    const token = await (await door.fetch('/graphql/stream', { method: 'PUT' })).text()
    const headers = { 'x-graphql-event-stream-token': token }
    const stream = await door.fetch('/graphql/stream', { headers: { ...headers, accept: 'text/event-stream' } })
    const started = await door.fetch('/graphql/stream', {
      method: 'POST',
      headers: { ...headers, ...json },
      body: JSON.stringify({ query: exponential, extensions: { operationId: 'a' } }),
    })
    expect(started.status).toBe(202)
    let text = ''
    for await (const chunk of stream.body!) {
      text += new TextDecoder().decode(chunk)
      if (text.includes('complete')) break
    }
    expect(text).toContain('"code":"input_too_large"')
    const distinct = await post(JSON.stringify({ query: exponential }), { ...json, accept: 'text/event-stream' })
    expect(await distinct.text()).toContain('"code":"input_too_large"')
    await until(() => door.server.streams() === 0)
  })
})

describe('what fails inside', () => {
  it('is told by a reference, and by the log what it was', async () => {
    const faulty = await openDoor({
      experts: {
        list: () => Promise.reject(new Error('relation "experts" does not exist at /srv/db/secret.ts:41')),
        find: () => {
          throw new TypeError('boom at /srv/x.ts')
        },
      },
    })
    for (const query of ['{ experts { nodes { key } } }', '{ expert(key: "x") { key } }']) {
      const { errors } = await faulty.ask(query)
      expect(errors?.[0]?.extensions.code).toBe('internal')
      expect(JSON.stringify(errors)).not.toMatch(/relation|srv|boom|stack/)
      const reference = /ref_[0-9a-f]{16}/.exec(errors?.[0]?.message ?? '')?.[0]
      expect(reference).toBeDefined()
      expect(faulty.logged.join('')).toContain(reference)
    }
    expect(faulty.logged.join('')).toContain('relation \\"experts\\"')
    await faulty.close()
  })
})

describe('where it cannot listen', () => {
  it('a server says why, and which setting would help', async () => {
    const port = Number(new URL(door.url).port)
    await expect(openDoor({ port })).rejects.toMatchObject({
      code: 'config_invalid',
      message: `Port ${port} of 127.0.0.1 is taken by another program; end that, or set SENMON_PORT to another.`,
    })
    await expect(openDoor({ hostname: '192.0.2.1' })).rejects.toMatchObject({
      code: 'config_invalid',
      message: 'SENMON_HOST is 192.0.2.1, which is no address of this computer.',
    })
  })
})
