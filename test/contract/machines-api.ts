/**
 * What the pool relies on of the Machines API, over plain HTTP: passed by the simulator always, and by Fly itself when
 * there is a token for it. It speaks no client of ours, so that it proves the simulator and not the client. Each case's
 * exchanges are kept, for a look at where the two differ.
 */
import { request } from 'undici'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { isJsonObject, type Json } from '../../schema/json.ts'

export interface MachinesApi {
  /** Without `/v1`. */
  readonly url: string
  readonly token: string
  /** An app that is there, for machines of these cases alone. */
  readonly app: string
  /** Runs on for ever, and ends on SIGTERM. */
  readonly image: string
  readonly region: string
  /** Letters that no earlier run has named its machines by. */
  readonly run: string
  /** Lets time pass for the platform where it does not by itself. */
  readonly pass?: () => Promise<void>
  /** Between two calls for one machine, so that no limit is met. */
  readonly rest: () => Promise<void>
  readonly close: () => Promise<void>
}

export interface Exchange {
  readonly method: string
  readonly path: string
  readonly sent: Json
  readonly status: number
  readonly said: Json
}

export function machinesApiContract(
  name: string,
  open: () => Promise<MachinesApi>,
  keep: (title: string, exchanges: readonly Exchange[]) => Promise<void>,
): void {
  describe(`the Machines API: ${name}`, () => {
    let api: MachinesApi
    let count = 0
    let exchanges: Exchange[] = []
    const made: string[] = []
    beforeAll(async () => {
      api = await open()
    })
    afterEach(async ({ task }) => {
      await keep(task.name, exchanges)
      for (const id of made.splice(0)) await call('DELETE', `/${id}?force=true`)
      exchanges = []
    })
    afterAll(async () => {
      await api.close()
    })

    /** `path` follows the machines of the app. */
    async function call(method: 'GET' | 'POST' | 'DELETE', path: string, sent?: Json, headers: object = {}) {
      await api.rest()
      const answer = await request(`${api.url}/v1/apps/${api.app}/machines${path}`, {
        method,
        headers: { authorization: `Bearer ${api.token}`, 'content-type': 'application/json', ...headers },
        body: sent === undefined ? null : JSON.stringify(sent),
      })
      const text = await answer.body.text()
      // What an API says is read as it is: cases look at what they need of it.
      const said = (text === '' ? null : JSON.parse(text)) as Json
      exchanges.push({ method, path, sent: sent ?? null, status: answer.statusCode, said })
      return { status: answer.statusCode, said }
    }
    const config = () => ({
      image: api.image,
      guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
      restart: { policy: 'no' },
      stop_config: { signal: 'SIGTERM', timeout: '5s' },
      metadata: { launch_id: `${api.run}-${count}` },
    })
    async function create(more: Readonly<Record<string, Json>> = {}) {
      const body = { name: `contract-${api.run}-${++count}`, region: api.region, config: config(), ...more }
      const { status, said } = await call('POST', '', body)
      expect(status).toBe(200)
      const [id, version] = [member(said, 'id'), member(said, 'instance_id')]
      made.push(id)
      return { id, version, said, name: body.name }
    }
    /** Asks again while the answer is that it is too early; a wait is cut at a minute. */
    async function wait(id: string, state: string, version: string): Promise<void> {
      for (let tries = 0; tries < 5; tries++) {
        await api.pass?.()
        const { status } = await call('GET', `/${id}/wait?state=${state}&instance_id=${version}&timeout=60`)
        if (status === 200) return
        expect(status).toBe(408)
      }
      throw new Error(`${id} is not ${state}`)
    }
    async function started(more?: Readonly<Record<string, Json>>) {
      const machine = await create(more)
      await wait(machine.id, 'started', machine.version)
      return machine
    }

    it('makes a machine, in created, that is read by its id and found by its metadata', async () => {
      const { id, said, name } = await started()
      expect(said).toMatchObject({
        name,
        state: 'created',
        region: api.region,
        private_ip: expect.stringMatching(/^fdaa:/),
      })
      expect(id).toMatch(/^[0-9a-f]{14}$/)
      const launch = `${api.run}-${count}`
      expect(await call('GET', `/${id}`)).toMatchObject({ status: 200, said: { id, name, state: 'started' } })
      expect((await call('GET', `?metadata.launch_id=${launch}`)).said).toMatchObject([{ id }])
    })

    it('suspends a machine and lets it go on', async () => {
      const { id, version } = await started()
      expect(await call('POST', `/${id}/suspend`)).toMatchObject({ status: 200, said: { ok: true } })
      await wait(id, 'suspended', version)
      expect(await call('POST', `/${id}/start`)).toMatchObject({ status: 200, said: { previous_state: 'suspended' } })
      await wait(id, 'started', version)
    })

    it('stops a machine, again without a word, and takes an object for it', async () => {
      const { id, version } = await started()
      expect((await call('POST', `/${id}/stop`, [])).status).toBe(400)
      expect(await call('POST', `/${id}/stop`, {})).toMatchObject({ status: 200, said: { ok: true } })
      await wait(id, 'stopped', version)
      expect((await call('POST', `/${id}/stop`, {})).status).toBe(200)
      expect((await call('POST', `/${id}/suspend`)).status).toBe(412)
    })

    it('destroys no machine that runs unless it is forced, and then forgets it', async () => {
      const { id, version } = await started()
      expect((await call('DELETE', `/${id}`)).status).toBe(412)
      expect(await call('DELETE', `/${id}?force=true`)).toMatchObject({ status: 200, said: { ok: true } })
      await api.pass?.()
      const { status } = await call('GET', `/${id}/wait?state=destroyed&instance_id=${version}&timeout=60`)
      expect([200, 404]).toContain(status)
    })

    it('says by when a wait was too short, and which waits it does not take', async () => {
      const { id, version } = await started()
      const { status, said } = await call('GET', `/${id}/wait?state=stopped&instance_id=${version}&timeout=1`)
      expect(status).toBe(408)
      expect(member(said, 'error')).toMatch(/failed to reach desired state, stopped, currently started/)
      expect((await call('GET', `/${id}/wait?state=started&timeout=61`)).status).toBe(400)
      expect((await call('GET', `/${id}/wait?state=stopped&timeout=1`)).status).toBe(400)
    })

    it('lets only the holder of a lease change a machine', async () => {
      const { id } = await started()
      const { status, said } = await call('POST', `/${id}/lease?ttl=30`)
      expect(status).toBe(201)
      const nonce = member(isJsonObject(said) ? (said['data'] ?? said) : said, 'nonce')
      const refused = await call('POST', `/${id}/stop`, {})
      expect(refused.status).toBe(409)
      expect(member(refused.said, 'error')).toMatch(/lease currently held by .*, expires at \d{4}-\d\d-\d\dT/)
      const header = { 'fly-machine-lease-nonce': nonce }
      expect((await call('DELETE', `/${id}/lease`, undefined, header)).status).toBe(200)
      expect((await call('POST', `/${id}/stop`, {})).status).toBe(200)
    })

    it('changes metadata without a new version', async () => {
      const { id, version } = await started()
      expect((await call('POST', `/${id}/metadata/gen`, { value: 'two' })).status).toBe(204)
      expect((await call('GET', `/${id}/metadata`)).said).toMatchObject({ gen: 'two' })
      expect((await call('GET', `/${id}`)).said).toMatchObject({ instance_id: version })
    })

    it('knows no machine that is not there, and no caller without a token', async () => {
      expect((await call('GET', '/00000000000000')).status).toBe(404)
      expect((await call('GET', '', undefined, { authorization: 'Bearer wrong' })).status).toBe(401)
    })

    it('makes no second machine of a name', async () => {
      const { name } = await create()
      const twin = await call('POST', '', { name, region: api.region, config: config() })
      expect([409, 412, 422]).toContain(twin.status)
      expect(member(twin.said, 'error')).toContain(name)
    })
  })
}

function member(said: Json, name: string): string {
  const value = isJsonObject(said) ? said[name] : undefined
  return typeof value === 'string' ? value : ''
}
