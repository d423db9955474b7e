/** The client of the Machines API, against a server that answers what a test says. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { Secret } from '../../schema/secret.ts'
import { openTurns } from '../../src/pool/turns.ts'
import { openMachinesClient, type MachinesClient } from '../../src/fly/machines-client.ts'
import { fakeClock, type FakeClock } from '../fake/fake-clock.ts'
import { silentLog } from '../support/sandbox.ts'

type Answer = (incoming: IncomingMessage, outgoing: ServerResponse, body: string) => void
const MACHINE = { id: '1857156b526dd8', name: 'senmon-mch-1', state: 'created', instance_id: '01H', new_field: 1 }
const ORDER = {
  name: 'senmon-mch-1',
  launchId: 'mch_1',
  config: { image: 'i' },
  regions: ['iad', 'ord'],
  isLaunched: true,
}

const servers: Server[] = []
const clients: MachinesClient[] = []
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()))
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    server.close()
  }
})

async function setUp(answer: Answer) {
  const seen: {
    readonly call: string
    readonly body: string
    readonly authorization: string | undefined
    readonly at: number
  }[] = []
  const server = createServer((incoming, outgoing) => {
    let body = ''
    incoming.setEncoding('utf8').on('data', (text: string) => (body += text))
    incoming.on('end', () => {
      const { authorization } = incoming.headers
      seen.push({ call: `${incoming.method} ${incoming.url}`, body, authorization, at: clock.now() })
      answer(incoming, outgoing, body)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  servers.push(server)
  const clock = fakeClock()
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const client = openMachinesClient({
    baseUrl,
    token: new Secret('fm2_x'),
    turns: openTurns(clock),
    clock,
    log: silentLog,
  })
  clients.push(client)
  return { client, clock, seen }
}

function send(outgoing: ServerResponse, code: number, body: unknown): void {
  outgoing.writeHead(code, { 'content-type': 'application/json', 'fly-request-id': 'req-1' })
  outgoing.end(JSON.stringify(body))
}

/** Lets driven time pass until the call is over; its value, or what it threw. */
async function settled<Value>(clock: FakeClock, call: Promise<Value>): Promise<Value | { readonly threw: unknown }> {
  const results: (Value | { readonly threw: unknown })[] = []
  call.then(
    (value) => results.push(value),
    (threw: unknown) => results.push({ threw }),
  )
  for (let quiet = 0; results.length === 0; quiet++) {
    await new Promise((resolve) => setImmediate(resolve))
    // Real sockets take real time: driven time passes only when nothing else happens.
    if (quiet % 200 === 199) await clock.advance(1_000)
  }
  return results[0] as Value | { readonly threw: unknown } // it is there
}

describe('a call', () => {
  it('says the token, and reads what is new leniently', async () => {
    const { client, clock, seen } = await setUp((_in, out) => send(out, 200, { ...MACHINE, state: 'hibernating' }))
    expect(await settled(clock, client.look('a', 'm1'))).toMatchObject({ id: MACHINE.id, state: 'hibernating' })
    expect(seen).toMatchObject([{ call: 'GET /v1/apps/a/machines/m1', body: '', authorization: 'Bearer fm2_x' }])
  })

  it('that is refused says Fly’s request id and never the token (FC2)', async () => {
    const { client, clock } = await setUp((_in, out) =>
      send(out, 412, { error: 'machine still active, refusing to start' }),
    )
    const { threw } = (await settled(clock, client.start('a', 'm1'))) as { threw: Error }
    expect(threw).toMatchObject({ code: 'machine_provider_failed', fault: 'state' })
    expect(threw.message).toContain('request req-1')
    expect(JSON.stringify(threw) + threw.message).not.toContain('fm2_x')
  })

  it('that is not answered ends at its deadline, and nobody knows what became of it (FC2)', async () => {
    const { client, clock } = await setUp(() => {})
    expect(await settled(clock, client.stop('a', 'm1'))).toMatchObject({ threw: { fault: 'ambiguous' } })
  })

  it.each([
    ['breaks off', (_in: IncomingMessage, out: ServerResponse) => void out.destroy(), 'ambiguous'],
    ['is no JSON', (_in: IncomingMessage, out: ServerResponse) => void out.end('<html>'), 'ambiguous'],
    ['is no machine', (_in: IncomingMessage, out: ServerResponse) => send(out, 200, { ok: true }), 'ambiguous'],
  ])('whose answer %s throws a ProviderError (FC2)', async (_what, answer, fault) => {
    const { client, clock } = await setUp(answer)
    expect(await settled(clock, client.look('a', 'm1'))).toMatchObject({ threw: { fault } })
  })

  it('waits for its turn, and is refused when that is far (FC1)', async () => {
    const { client, clock, seen } = await setUp((_in, out) => send(out, 200, {}))
    const calls = await settled(clock, Promise.allSettled(Array.from({ length: 8 }, () => client.start('a', 'm1'))))
    expect(
      (calls as readonly PromiseSettledResult<void>[]).map(({ status }) => status).filter((one) => one === 'rejected')
        .length,
    ).toBe(3)
    const [first] = seen
    expect(seen.map(({ at }) => at > (first?.at ?? 0))).toEqual([false, false, false, true, true])
  })

  it('is not made for a while when the app did not answer five times (FC4)', async () => {
    const { client, clock, seen } = await setUp((_in, out) => send(out, 502, {}))
    for (let i = 0; i < 5; i++) await settled(clock, client.start('a', `m${i}`))
    expect(await settled(clock, client.start('a', 'm9'))).toMatchObject({ threw: { fault: 'throttled' } })
    expect(seen).toHaveLength(5)
    await clock.advance(5_000)
    await settled(clock, client.start('a', 'm10'))
    expect(seen).toHaveLength(6)
  })

  it('that was not sent says nothing of an app that does not answer (FC4)', async () => {
    const { client, clock, seen } = await setUp((_in, out) => send(out, 502, {}))
    const refused = { threw: { fault: 'state' } }
    for (let i = 0; i < 5; i++) {
      await settled(clock, client.start('a', `m${i}`))
      expect(
        await settled(
          clock,
          client.stop('a', 'm0', async () => false),
        ),
      ).toMatchObject(i < 4 ? refused : { threw: { fault: 'throttled' } })
    }
    expect(seen).toHaveLength(5)
    await clock.advance(5_000)
    expect(
      await settled(
        clock,
        client.stop('a', 'm1', async () => false),
      ),
    ).toMatchObject(refused)
    // It is still to be tried, by one.
    await settled(clock, client.start('a', 'm11'))
    expect(await settled(clock, client.start('a', 'm12'))).toMatchObject({ threw: { fault: 'throttled' } })
    expect(seen).toHaveLength(6)
  })

  it('whose reason cannot be looked at is not made, and may be later', async () => {
    const { client, clock, seen } = await setUp((_in, out) => send(out, 200, {}))
    const away = () => Promise.reject(new Error('the database is away'))
    expect(await settled(clock, client.destroy('a', 'm1', away))).toMatchObject({ threw: { fault: 'throttled' } })
    expect(seen).toEqual([])
  })

  it('to destroy what is not there has destroyed it', async () => {
    const { client, clock } = await setUp((_in, out) => send(out, 404, { error: 'machine not found' }))
    expect(await settled(clock, client.destroy('a', 'm1'))).toBeUndefined()
  })
})

describe('an order', () => {
  it('names the machine and its launch, asks for no secret, and takes the first region with room (FC4)', async () => {
    const { client, clock, seen } = await setUp((_in, out, body) =>
      body.includes('"iad"')
        ? send(out, 409, { error: 'could not reserve resource for machine' })
        : send(out, 200, MACHINE),
    )
    expect(await settled(clock, client.create('a', ORDER))).toMatchObject({ id: MACHINE.id })
    await settled(clock, client.create('a', { ...ORDER, name: 'other' }))
    const bodies = seen.map(({ body }) => JSON.parse(body) as Record<string, unknown>)
    expect(bodies.map((body) => body['region'])).toEqual(['iad', 'ord', 'ord'])
    expect(bodies[0]).toMatchObject({ name: ORDER.name, skip_secrets: true })
  })

  it('whose answer was lost is found by its launch, and not made twice (FC3)', async () => {
    let orders = 0
    const { client, clock } = await setUp((incoming, out) => {
      if (incoming.method === 'GET')
        return send(out, 200, [{ ...MACHINE, config: { metadata: { launch_id: 'mch_1' } } }])
      orders += 1
      return out.destroy()
    })
    expect(await settled(clock, client.create('a', ORDER))).toMatchObject({ id: MACHINE.id })
    expect(orders).toBe(1)
  })

  it('that nobody finds is made again when it is asked for again, after another look (FC3)', async () => {
    const calls: string[] = []
    const { client, clock } = await setUp((incoming, out) => {
      calls.push(incoming.method ?? '')
      if (incoming.method === 'GET') return send(out, 200, [])
      return calls.filter((one) => one === 'POST').length === 1 ? out.destroy() : send(out, 200, MACHINE)
    })
    expect(await settled(clock, client.create('a', ORDER))).toMatchObject({ threw: { fault: 'ambiguous' } })
    expect(await settled(clock, client.create('a', ORDER))).toMatchObject({ id: MACHINE.id })
    expect(calls).toEqual(['POST', 'GET', 'GET', 'GET', 'GET', 'POST'])
  })

  it('whose name is taken is that machine (FC3)', async () => {
    const { client, clock } = await setUp((incoming, out) =>
      incoming.method === 'GET'
        ? send(out, 200, [MACHINE])
        : send(out, 422, { error: 'Validation failed: Name has already been taken', status: 'name_taken' }),
    )
    expect(await settled(clock, client.create('a', ORDER))).toMatchObject({ id: MACHINE.id })
  })
})
