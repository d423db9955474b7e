/** A version's bytes change by no route (GA2), and nobody writes where they may not (GA1, GA3, GA4): npm and raw HTTP. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { handTgz, packageEntries } from '../support/hand-tar.ts'
import { startRegistry, type Manifest, type TestRegistry } from '../support/npm-registry.ts'

const manifest = { name: '@acme/kept', version: '1.0.0', bin: { kept: 'kept.js' } }
const original = handTgz(packageEntries(manifest, { 'kept.js': 'original' }))
const changed = handTgz(packageEntries(manifest, { 'kept.js': 'changed' }))
const path = '@acme%2fkept'

let open: TestRegistry | undefined
let registry: TestRegistry
beforeEach(async () => {
  await open?.close()
  open = registry = await startRegistry()
  expect(await registry.put('acme-key', manifest, original)).toMatchObject({ status: 201 })
})
afterAll(() => open?.close())

async function served(): Promise<{ sha512: string; record: string }> {
  const packument = await registry.request('rival-key', 'GET', path)
  const versions = packument.body['versions'] as Record<string, { dist: { tarball: string; integrity: string } }>
  const { tarball } = versions['1.0.0']?.dist ?? { tarball: '' }
  const response = await fetch(tarball, { headers: { authorization: 'Bearer rival-key' } })
  const bytes = Buffer.from(await response.arrayBuffer())
  expect(bytes.length).toBe(Number(response.headers.get('content-length')))
  return {
    sha512: `sha512-${createHash('sha512').update(bytes).digest('base64')}`,
    record: JSON.stringify(await registry.packages.find('@acme/kept')),
  }
}

const integrity = `sha512-${createHash('sha512').update(original).digest('base64')}`
const file = 'kept-1.0.0.tgz'
const doc = async (change: (body: { versions: Record<string, { dist: object }> }) => void) => {
  const { body } = await registry.request('acme-key', 'GET', `${path}?write=true`)
  change(body as never)
  return body
}

/** What an owner may try against their own version. */
const attempts: readonly (readonly [string, () => Promise<{ status: number }>, number])[] = [
  ['publishing other bytes', () => registry.put('acme-key', manifest, changed), 409],
  [
    'publishing other bytes at a revision',
    async () => registry.request('acme-key', 'PUT', `${path}/-rev/1-1`, await doc(() => undefined)),
    405,
  ],
  [
    'unpublishing it as npm does, first step',
    async () =>
      registry.request('acme-key', 'PUT', `${path}/-rev/1-1`, await doc((body) => delete body.versions['1.0.0'])),
    405,
  ],
  [
    'leaving it out of a document',
    async () => registry.request('acme-key', 'PUT', path, await doc((body) => delete body.versions['1.0.0'])),
    405,
  ],
  ['deleting its tarball', () => registry.request('acme-key', 'DELETE', `${path}/-/${file}/-rev/1-1`), 405],
  ['deleting the package', () => registry.request('acme-key', 'DELETE', `${path}/-rev/1-1`), 405],
  ['deleting the package, bare', () => registry.request('acme-key', 'DELETE', path), 405],
  ['deleting the version', () => registry.request('acme-key', 'DELETE', `${path}/1.0.0`), 405],
  ['uploading a raw tarball', () => registry.request('acme-key', 'PUT', `${path}/-/${file}/x`, { a: 1 }), 405],
  ['uploading a raw tarball, bare', () => registry.request('acme-key', 'PUT', `${path}/-/${file}`, { a: 1 }), 405],
  [
    'uploading a raw tarball at a revision',
    () => registry.request('acme-key', 'PUT', `${path}/-/${file}/-rev/1-1`, { a: 1 }),
    405,
  ],
  ['adding a version by a path', () => registry.request('acme-key', 'PUT', `${path}/1.0.0/-tag/latest`, { a: 1 }), 405],
  ['posting', () => registry.request('acme-key', 'POST', path, { a: 1 }), 405],
  ['patching', () => registry.request('acme-key', 'PATCH', path, { a: 1 }), 405],
  ['an encoded slash in the path', () => registry.request('acme-key', 'PUT', `@acme%2fkept%2f-rev%2f1`, { a: 1 }), 422],
  [
    'two versions in one body',
    () =>
      registry.put('acme-key', manifest, changed, (body) => ({
        ...body,
        versions: { ...body.versions, '1.0.1': { ...manifest, version: '1.0.1' } },
      })),
    422,
  ],
  [
    'another version in the body than in the tarball',
    () => registry.put('acme-key', { ...manifest, version: '1.0.1' }, changed),
    422,
  ],
  [
    'a tag that is a version',
    () => registry.put('acme-key', manifest, changed, (body) => ({ ...body, 'dist-tags': { '1.0.0': '1.0.0' } })),
    422,
  ],
  [
    'a tag that is a version, by its route',
    () => registry.request('acme-key', 'PUT', `-/package/${path}/dist-tags/1.0.0`, '1.0.0'),
    422,
  ],
  [
    'two tarballs',
    () =>
      registry.put('acme-key', manifest, changed, (body) => ({
        ...body,
        _attachments: { ...body._attachments, 'x.tgz': Object.values(body._attachments)[0] },
      })),
    422,
  ],
]

describe('a published version', () => {
  it.each(attempts)('stays as it is, against %s (GA2)', async (_name, attempt, status) => {
    const before = await served()
    expect(before.sha512).toBe(integrity)
    const answer = await attempt()
    expect(answer.status).toBe(status)
    expect(await served()).toEqual(before)
  })

  it('is the same when the same bytes come again, tags and all', async () => {
    const before = await served()
    const again = await registry.put('acme-key', manifest, original, (body) => ({
      ...body,
      'dist-tags': { other: '1.0.0' },
    }))
    expect(again.status).toBe(201)
    expect(await served()).toEqual(before)
  })

  it('ignores whatever else a document that deprecates says', async () => {
    const before = await served()
    const body = await doc((found) => {
      Object.assign(found.versions['1.0.0'] ?? {}, {
        dist: { integrity: 'sha512-x', tarball: 'http://evil/x.tgz' },
        bin: 'evil',
      })
      Object.assign(found, { 'dist-tags': { latest: '9.9.9' }, users: { eve: true } })
    })
    expect((await registry.request('acme-key', 'PUT', path, body)).status).toBe(200)
    expect(await served()).toEqual(before)
  })

  it('stays as it is against the npm client: unpublish, of a version and of all, and publish again', async () => {
    const before = await served()
    const npm = (...args: string[]) => registry.npm('acme-key', registry.directory, ...args)
    for (const what of ['@acme/kept@1.0.0', '@acme/kept']) {
      const result = await npm('unpublish', '--force', what)
      expect(result.code).not.toBe(0)
      expect(result.stderr).toContain('A published version stays as it is, for ever')
    }
    const folder = await registry.folder({ 'package.json': JSON.stringify(manifest), 'kept.js': 'changed' })
    const again = await registry.npm('acme-key', folder, 'publish', '--access', 'public')
    expect(again.stderr).toMatch(/cannot publish over the previously published versions|published with other bytes/i)
    expect((await npm('owner', 'add', 'rival', '@acme/kept')).code).not.toBe(0)
    expect(await served()).toEqual(before)
  })

  it('is one of two when different bytes race for it (GA2)', async () => {
    const next = { ...manifest, version: '2.0.0' }
    const tarballs = Array.from({ length: 6 }, (_, i) => handTgz(packageEntries(next, { 'kept.js': `race ${i}` })))
    const answers = await Promise.all(tarballs.map((tarball) => registry.put('acme-key', next, tarball)))
    expect(answers.filter((answer) => answer.status === 201)).toHaveLength(1)
    expect(answers.filter((answer) => answer.status === 409)).toHaveLength(5)
    const found = await registry.packages.find('@acme/kept')
    expect(found?.versions).toHaveLength(2)
  })
})

/** What the registry's rules refuse in a publication that npm's client would not send. */
const crooked: readonly (readonly [string, () => Promise<{ status: number; body: unknown }>, number, string])[] = [
  [
    'other bytes than its integrity',
    () => registry.put('acme-key', next, tarballOf(next), (body) => claim(body, { integrity: integrity })),
    422,
    'does not hash to',
  ],
  [
    'another sha1',
    () => registry.put('acme-key', next, tarballOf(next), (body) => claim(body, { shasum: '0'.repeat(40) })),
    422,
    'does not hash to',
  ],
  [
    'a manifest with another bin',
    () => registry.put('acme-key', { ...next, bin: { kept: 'evil.js' } }, tarballOf(next)),
    422,
    'bin in package.json of the tarball is',
  ],
  [
    'a manifest with hidden dependencies',
    () => registry.put('acme-key', { ...next, dependencies: { evil: '1' } }, tarballOf(next)),
    422,
    'dependencies in package.json',
  ],
  [
    'a manifest with other scripts',
    () => registry.put('acme-key', { ...next, scripts: { install: 'evil' } }, tarballOf(next)),
    422,
    'scripts in package.json',
  ],
  [
    'a manifest with other engines',
    () => registry.put('acme-key', { ...next, engines: { node: '1' } }, tarballOf(next)),
    422,
    'engines in package.json',
  ],
  [
    'a manifest that leaves dependencies out',
    () => registry.put('acme-key', next, tarballOf({ ...next, dependencies: { a: '1' } })),
    422,
    'dependencies in package.json',
  ],
  [
    'another name than its path',
    () =>
      registry.request('acme-key', 'PUT', 'other', {
        name: '@acme/kept',
        versions: { '1.0.1': { name: 'other', version: '1.0.1' } },
        _attachments: { x: { data: '' } },
      }),
    422,
    'names another package',
  ],
  ['junk for a tarball', () => registry.put('acme-key', next, Buffer.from('junk!')), 422, 'not gzip'],
  [
    'no base64',
    () =>
      registry.put('acme-key', next, tarballOf(next), (body) => ({ ...body, _attachments: { x: { data: '\u0000' } } })),
    422,
    'not base64',
  ],
  [
    'no package.json',
    () => registry.put('acme-key', next, handTgz([{ path: 'package/x', body: 'x' }])),
    422,
    'has no package/package.json',
  ],
  [
    'a package.json that is no JSON',
    () => registry.put('acme-key', next, handTgz([{ path: 'package/package.json', body: '{' }])),
    422,
    'not valid JSON',
  ],
  [
    'a package.json with a byte order mark',
    () =>
      registry.put(
        'acme-key',
        next,
        handTgz([{ path: 'package/package.json', body: `\ufeff${JSON.stringify(next)}` }]),
      ),
    422,
    'not valid JSON',
  ],
  ['NUL in package.json', () => both({ ...next, description: 'a\0b' }), 422, 'holds NUL'],
  ['a version that is none', () => both({ ...next, version: 'not-a-version' }), 422, 'for a version'],
  ['a version with a v', () => both({ ...next, version: 'v1.0.0' }), 422, 'for a version'],
  ['the name constructor', () => both({ name: 'constructor', version: '1.0.0' }), 422, 'is not the name of a package'],
  ['the name __proto__', () => both({ name: '__proto__', version: '1.0.0' }), 422, 'is not the name of a package'],
  ['a name in capitals', () => both({ name: 'UPPER', version: '1.0.0' }), 422, 'is not the name of a package'],
  ['a name in Cyrillic', () => both({ name: '\u0441kill', version: '1.0.0' }), 422, 'is not the name of a package'],
  [
    'the name node_modules',
    () => both({ name: 'node_modules', version: '1.0.0' }),
    422,
    'is not the name of a package',
  ],
  ['a bin that climbs', () => both({ ...next, bin: { kept: '../../x' } }), 422, 'points outside the package'],
  ['a main that climbs', () => both({ ...next, main: '../x.js' }), 422, 'points outside the package'],
  ['bundled dependencies', () => both({ ...next, bundleDependencies: ['a'] }), 422, 'is not supported'],
  ...[
    'git+ssh://x/y',
    'git://x/y',
    'github:u/r',
    'u/r',
    'gist:11',
    'https://x/y.tgz',
    'file:../x',
    'link:x',
    'workspace:*',
    './x.tgz',
    'npm:git+ssh://x@1',
    '',
  ].flatMap((spec, i) =>
    ['dependencies', 'optionalDependencies', 'peerDependencies']
      .slice(0, spec === '' ? 0 : 3)
      .map(
        (field) =>
          [
            `${spec} in ${field} (${i})`,
            () => both({ ...next, [field]: { a: spec } }),
            422,
            'only versions and ranges',
          ] as const,
      ),
  ),
  [
    'an expert file that is not UTF-8',
    () =>
      registry.put(
        'acme-key',
        next,
        handTgz([
          ...packageEntries(next, { 'kept.js': 'x' }),
          { path: 'package/senmon.toml', body: Buffer.from([0xff]) },
        ]),
      ),
    422,
    'is not UTF-8',
  ],
  ['a body that is a list', () => registry.request('acme-key', 'PUT', path, []), 400, 'must be a JSON object'],
  ['no body', () => registry.request('acme-key', 'PUT', path), 422, 'no tarball'],
]
const next = { ...manifest, version: '1.1.0' }
const tarballOf = (content: object) => handTgz(packageEntries(content, { 'kept.js': 'x' }))
const both = (content: Manifest) => registry.put('acme-key', content, tarballOf(content))
const claim = (body: { versions: Record<string, Record<string, unknown>> }, dist: object) => {
  const version = body.versions['1.1.0']
  return { ...body, versions: { '1.1.0': { ...version, dist: { ...(version?.['dist'] as object), ...dist } } } }
}

describe('a publication', () => {
  it.each(crooked)('with %s is refused, and nothing is stored', async (_name, send, status, words) => {
    const before = await served()
    const stored = registry.content.contents.size
    const answer = await send()
    expect(answer).toMatchObject({ status, body: { error: expect.stringContaining(words) } })
    expect(await served()).toEqual(before)
    expect(registry.content.contents.size).toBe(stored)
  })

  it('with too large a body is refused before it is read to its end', async () => {
    const answer = await registry.put('acme-key', next, Buffer.alloc(20 * 1024 * 1024))
    expect(answer.status).toBe(413)
  })

  it('that was refused leaves the registry whole: good packages are viewed, searched and published as before', async () => {
    for (const [, send] of crooked.slice(0, 30)) await send()
    expect((await registry.request('rival-key', 'GET', '-/v1/search?text=kept')).body['total']).toBe(1)
    expect((await both(next)).status).toBe(201)
  })
})

describe('whoever asks', () => {
  const routes = [
    ['GET', ''],
    ['GET', path],
    ['GET', `${path}/1.0.0`],
    ['GET', `@acme/kept/-/${file}`],
    ['GET', '-/ping'],
    ['GET', '-/whoami'],
    ['GET', '-/all'],
    ['GET', '-/v1/search?text=a'],
    ['GET', `-/package/${path}/dist-tags`],
    ['GET', '-/npm/v1/user'],
    ['GET', '-/npm/v1/tokens'],
    ['GET', '-/static/favicon.ico'],
    ['OPTIONS', path],
    ['PUT', path],
    ['PUT', '-/user/org.couchdb.user:eve'],
    ['POST', '-/v1/login'],
    ['POST', '-/npm/v1/security/advisories/bulk'],
    ['DELETE', `${path}/-rev/1`],
  ] as const

  it.each(routes)('without a key is refused at %s %s (GA1, RG2)', async (method, route) => {
    for (const key of [null, 'wrong-key']) {
      const answer = await registry.request(key, method, route)
      expect([answer.status, answer.body.code]).toEqual([401, 'unauthenticated'])
    }
  })

  it('may not register, log in or make keys (GA4)', async () => {
    const eve = { name: 'eve', password: 'x', email: 'e@example.com' }
    expect((await registry.request('rival-key', 'PUT', '-/user/org.couchdb.user:eve', eve)).status).toBe(403)
    expect((await registry.request('rival-key', 'POST', '-/v1/login', {})).status).toBe(403)
    expect((await registry.request('rival-key', 'POST', '-/npm/v1/tokens', { password: 'x' })).status).toBe(403)
    expect((await registry.request('rival-key', 'DELETE', '-/user/token/x')).status).toBe(403)
  })

  it('may not open the registry to web pages', async () => {
    const response = await fetch(registry.url + path, {
      headers: { authorization: 'Bearer acme-key', origin: 'http://evil.example' },
    })
    expect(response.status).toBe(200)
    expect(response.headers.get('access-control-allow-origin')).toBeNull()
  })

  it('with twenty bad keys must wait, and then may come again', async () => {
    for (let i = 0; i < 20; i++) expect((await registry.request(`bad-${i}`, 'GET', '-/whoami')).status).toBe(401)
    expect((await registry.request('bad', 'GET', '-/whoami')).status).toBe(429)
    expect((await registry.request('acme-key', 'GET', '-/whoami')).status).toBe(429)
    registry.clock.at += 60_001
    expect((await registry.request('acme-key', 'GET', '-/whoami')).status).toBe(200)
  })

  it('with a key that only reads writes nothing', async () => {
    const before = await served()
    const tries = [
      registry.put('reader-key', next, tarballOf(next)),
      registry.request('reader-key', 'PUT', `-/package/${path}/dist-tags/mine`, '1.0.0'),
      registry.request('reader-key', 'DELETE', `-/package/${path}/dist-tags/mine`),
      registry.request('reader-key', 'PUT', `${path}/mine`, '1.0.0'),
    ]
    for (const answer of await Promise.all(tries))
      expect([answer.status, answer.body.code]).toEqual([403, 'permission_denied'])
    expect(await served()).toEqual(before)
  })

  it('of another application writes nothing here (GA3)', async () => {
    const before = await served()
    const tries = [
      registry.put('rival-key', next, tarballOf(next)),
      registry.put('rival-key', manifest, original),
      registry.request('rival-key', 'PUT', `-/package/${path}/dist-tags/mine`, '1.0.0'),
      registry.request('rival-key', 'DELETE', `-/package/${path}/dist-tags/latest`),
      registry.request('rival-key', 'PUT', `${path}/mine`, '1.0.0'),
      registry.request(
        'rival-key',
        'PUT',
        path,
        await doc((body) => Object.assign(body.versions['1.0.0'] ?? {}, { deprecated: 'x' })),
      ),
    ]
    for (const answer of await Promise.all(tries))
      expect([answer.status, answer.body.code]).toEqual([403, 'name_taken'])
    expect(await served()).toEqual(before)
  })

  it('finds nothing that was not published here (RG3)', async () => {
    for (const name of ['is-odd', 'react', '@types%2fnode', '-/verdaccio/data', 'constructor', '__proto__'])
      expect((await registry.request('acme-key', 'GET', name)).status).toBeGreaterThanOrEqual(400)
  })
})

describe('the log', () => {
  it('says who published what, and never the key', async () => {
    const text = registry.logged.join('\n')
    expect(text).toContain('"package":"@acme/kept","version":"1.0.0"')
    expect(text).not.toContain('acme-key')
  })

  it('keeps nothing but what verdaccio writes for itself in its directory', async () => {
    await expect(readFile(join(registry.directory, 'registry', 'htpasswd'))).rejects.toThrow('ENOENT')
  })
})
