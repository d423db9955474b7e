/** The door for machines over HTTP: what it lets in, and what whoever stands before it can make it do. */
import { createServer, request, type IncomingMessage } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { afterEach, expect, it } from 'vitest'
import { PlatformError } from '../../schema/error.ts'
import { makeId } from '../../schema/id.ts'
import { IMAGE } from '../../schema/machine-image.ts'
import {
  BATCH_BYTES_MAX,
  LINK_BYTES_MAX,
  LINK_HEADER,
  LINK_PROTOCOL,
  printLinkName,
  WAKE_MS,
} from '../../schema/machine-link.ts'
import { Secret } from '../../schema/secret.ts'
import { openMachineDoor } from '../../src/http/machine-door.ts'
import { openLinks } from '../../src/pool/links.ts'
import { orderMachine } from '../../src/pool/machine.ts'
import { imagePlan } from '../../src/sandbox/machine-image.ts'
import { fakeClock } from '../fake/fake-clock.ts'
import { memoryPoolStore } from '../fake/memory-pool-store.ts'
import { silentLog } from '../support/sandbox.ts'

const ID = makeId('mch', 1, new Uint8Array(16))
const OTHER = makeId('mch', 2, new Uint8Array(16))
const JOB = makeId('job', 1, new Uint8Array(16))
const BOOT = 'boot-one-1'
const NAME = { machineId: ID, bootId: BOOT, jobId: JOB, fence: 3 }
const image = { ...IMAGE, arch: 'x64' } as const

const closers: (() => void)[] = []
afterEach(() => {
  for (const close of closers.splice(0)) close()
})

async function setUp() {
  const clock = fakeClock()
  const store = memoryPoolStore()
  let proofs = 0
  const links = openLinks({
    store,
    key: new Secret('42'.repeat(32)),
    prove: async (identity, machine) => {
      proofs += 1
      if (identity !== `token of ${machine.id}`) throw new PlatformError('unauthenticated', 'It is another machine.')
      return { providerId: 'fly-1' }
    },
    planOf: imagePlan,
    clock,
    log: silentLog,
  })
  const owner = { jobId: JOB, fence: 3, linesUrl: 'http://keeper' }
  const order = { id: ID, pool: 'p', place: 'app', generation: 'g', now: clock.now() }
  await store.add([orderMachine(order, { owner, deadline: clock.now() + 10_000 })], null)
  const server = createServer(openMachineDoor({ links, clock, log: silentLog }))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closers.push(() => {
    links.close()
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const ask = (verb: string, body: string | object, headers: Readonly<Record<string, string>> = {}, method = 'POST') =>
    new Promise<{ status: number; text: string; connection: string | undefined }>((resolve, reject) => {
      const asked = request({ port, path: `/machine/v1/${verb}`, method, headers, agent: false }, (answer) => {
        void textOf(answer).then((text) =>
          resolve({ status: answer.statusCode ?? 0, text, connection: answer.headers.connection }),
        )
      })
      asked.on('error', reject)
      asked.end(typeof body === 'string' ? body : JSON.stringify(body))
    })
  const enrolment = (change: object = {}) => ({
    protocol: LINK_PROTOCOL,
    machineId: ID,
    bootId: BOOT,
    identity: `token of ${ID}`,
    image,
    ...change,
  })
  const enrol = async (): Promise<string> => {
    const { text } = await ask('enrol', enrolment())
    return (JSON.parse(text) as { secret: string }).secret
  }
  return { clock, port, links, store, owner, ask, enrol, enrolment, proofs: () => proofs }
}

async function textOf(answer: IncomingMessage): Promise<string> {
  let text = ''
  for await (const part of answer.setEncoding('utf8')) text += String(part)
  return text
}

const bearer = (secret: string) => ({ authorization: `Bearer ${secret}` })
const linked = (secret: string) => ({ ...bearer(secret), [LINK_HEADER]: printLinkName(NAME) })

it('lets in who proves who it is, and tells all others the same (MD3)', async () => {
  const { ask, enrol, enrolment } = await setUp()
  const secret = await enrol()
  const request = { machineId: ID, bootId: BOOT }
  expect(await ask('wake', request, bearer(secret))).toMatchObject({ status: 200 })
  const refused = { status: 401, text: '{"code":"unauthenticated"}' }
  expect(await ask('enrol', enrolment({ identity: 'token of another' }))).toMatchObject(refused)
  expect(await ask('enrol', enrolment({ machineId: OTHER, identity: `token of ${OTHER}` }))).toMatchObject(refused)
  for (const headers of [{}, bearer('wrong'), bearer(`${secret}x`), { authorization: `Basic ${secret}` }])
    expect(await ask('wake', request, headers)).toMatchObject(refused)
  expect(await ask('park', { machineId: OTHER, bootId: BOOT }, bearer(secret))).toMatchObject(refused)
  expect(await ask('wake', { machineId: ID, bootId: 'boot-two-2' }, bearer(secret))).toMatchObject(refused)
})

it('answers POST alone, and what it knows', async () => {
  const { ask, enrol } = await setUp()
  const secret = await enrol()
  expect(await ask('park', '', bearer(secret), 'GET')).toMatchObject({ status: 404 })
  for (const verb of ['', 'enrol/x', 'lines/../enrol', 'keys']) expect((await ask(verb, '{}')).status).not.toBe(200)
})

it.each([
  ['enrol', ''],
  ['enrol', '{'],
  ['enrol', '[]'],
  ['enrol', '{"protocol":1}'],
  ['park', 'null'],
  ['wake', '{"machineId":"mch_1","bootId":"x"}'],
  ['hear?after=-1', '{}'],
  ['hear?after=1e99', '{}'],
  ['lines?from=0', ''],
  ['lines?from=x', ''],
  ['lines?from=1&heard=-1', ''],
  ['end', '{"reason":1}'],
  ['unfit', '{"reason":1}'],
])('refuses %s %s as malformed or as nobody’s', async (verb, body) => {
  const { ask, enrol } = await setUp()
  const secret = await enrol()
  expect([400, 410]).toContain((await ask(verb, body, linked(secret))).status)
})

it('refuses lines without a name, or with one that is none', async () => {
  const { ask, enrol } = await setUp()
  const secret = await enrol()
  for (const name of ['', 'a b c d', `${printLinkName(NAME)} x`, printLinkName(NAME).replace(' 3', ' -3')])
    expect(await ask('lines?from=1', '', { ...bearer(secret), [LINK_HEADER]: name })).toMatchObject({ status: 400 })
  expect(await ask('lines?from=1', '', bearer(secret))).toMatchObject({ status: 400 })
})

it('reads no more of a body than it may have, and closes the connection behind it (MD1)', async () => {
  const { ask, enrol, links, owner, store, clock } = await setUp()
  const secret = await enrol()
  const large = 'x'.repeat(LINK_BYTES_MAX + 1)
  for (const verb of ['enrol', 'park', 'wake', 'hear'])
    expect(await ask(verb, large, linked(secret))).toMatchObject({ status: 413, connection: 'close' })
  const row = await store.find(ID)
  if (row === undefined) throw new Error('there is no row')
  const hold = async (bootId: string): Promise<boolean> =>
    (await store.hold(ID, owner, bootId, clock.now())) !== undefined
  const opening = links.expect(row, async () => ({ type: 'skills', skills: [] }), hold, clock.now() + 9_000)
  await links.come(secret, NAME, image)
  await opening
  expect(await ask('lines?from=1', `${'x'.repeat(BATCH_BYTES_MAX)}\n`, linked(secret))).toMatchObject({ status: 413 })
  expect(await ask('lines?from=1', 'x\n', linked(secret))).toMatchObject({ status: 200, text: '{"acked":1}' })
})

it('looks at no body of a machine that has no job here (MD1)', async () => {
  const { ask, enrol } = await setUp()
  const secret = await enrol()
  expect(await ask('lines?from=1', 'x'.repeat(100_000), linked(secret))).toMatchObject({ status: 410 })
  expect(await ask('lines?from=1', 'x', linked('wrong'))).toMatchObject({ status: 410 })
})

it('cuts off a body that does not come (MD1)', async () => {
  const { port, clock } = await setUp()
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  const closed = new Promise((resolve) => socket.once('close', resolve))
  socket.write('POST /machine/v1/enrol HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{"proto')
  for (let turns = 0; clock.sleepers() === 0 && turns < 10_000; turns++)
    await new Promise((resolve) => setImmediate(resolve))
  await clock.advance(15_000)
  await closed
  expect(socket.bytesRead).toBe(0)
})

it('looks at so many strangers in all, and goes on with those it knows (MD2)', async () => {
  const { ask, enrol, enrolment, clock, proofs } = await setUp()
  const secret = await enrol()
  const request = { machineId: ID, bootId: BOOT }
  expect((await ask('wake', request, bearer(secret))).status).toBe(200)
  const statuses: number[] = []
  for (let i = 0; i < 400; i++) {
    const verb = i % 2 === 0 ? 'enrol' : 'wake'
    const body = verb === 'enrol' ? enrolment({ identity: 'x' }) : request
    statuses.push((await ask(verb, body, bearer(`nobody-${i}`))).status)
  }
  expect(statuses.filter((status) => status === 401)).toHaveLength(298)
  expect(statuses.slice(298).every((status) => status === 429)).toBe(true)
  expect(proofs()).toBeLessThanOrEqual(150)
  expect((await ask('wake', request, bearer(secret))).status).toBe(200)
  await clock.advance(1_000)
  expect((await ask('enrol', enrolment())).status).toBe(200)
})

it('answers one machine as often as it may ask, and no more (MD2)', async () => {
  const { ask, enrol, clock } = await setUp()
  const secret = await enrol()
  const wake = async () => (await ask('wake', { machineId: ID, bootId: BOOT }, bearer(secret))).status
  // As fast as it may for a while, which is no flood.
  for (let i = 0; i < 100; i++) {
    expect(await wake()).toBe(200)
    await clock.advance(WAKE_MS)
  }
  const flood: number[] = []
  for (let i = 0; i < 120; i++) flood.push(await wake())
  expect(flood.filter((status) => status === 200)).toHaveLength(80)
  expect(flood.at(-1)).toBe(429)
})
