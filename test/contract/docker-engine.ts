/** What our client hears from a Docker engine, whether a real one or the fake: each answer that the provider builds on. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Json, JsonObject } from '../../schema/json.ts'
import { openEngine, type Engine, type EngineAddress } from '../../src/docker/engine.ts'
import { endOf, observe } from '../../src/docker/engine-answer.ts'
import { faultOf } from '../../src/docker/engine-fault.ts'
import { refusalOf } from '../../src/docker/engine.ts'
import { seccompProfile } from '../../src/docker/seccomp-profile.ts'
import { StreamFrames } from '../../src/docker/stream-frames.ts'
import { IMAGE } from '../../schema/machine-image.ts'
import { realClock } from '../support/sandbox.ts'

const LABEL = 'dev.senmon.test'
/** Writes what it reads, on both streams, until its input ends. */
const ECHO = `process.stdin.on('data', (text) => { process.stdout.write(text); process.stderr.write(text) })`

export function dockerEngineContract(
  open: () => Promise<{ address: EngineAddress; image: string; close(): Promise<void> }>,
): void {
  describe('an engine of containers', () => {
    let engine: Engine
    let opened: Awaited<ReturnType<typeof open>>
    const made: string[] = []
    beforeAll(async () => {
      opened = await open()
      engine = openEngine(opened.address, realClock)
    })
    afterEach(async () => {
      for (const id of made.splice(0)) await engine.call('DELETE', `/containers/${id}?force=1&v=1`)
    })
    afterAll(async () => {
      engine.close()
      await opened.close()
    })

    const orderOf = (name: string, script: string, more: JsonObject = {}): JsonObject => ({
      Image: opened.image,
      Entrypoint: [IMAGE.node],
      Cmd: ['--eval', script],
      Env: [],
      User: '60600:60600',
      OpenStdin: true,
      StdinOnce: true,
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
      Labels: { [LABEL]: name },
      HostConfig: {
        NetworkMode: 'none',
        ReadonlyRootfs: true,
        CapDrop: ['ALL'],
        SecurityOpt: ['no-new-privileges', `seccomp=${JSON.stringify(seccompProfile())}`],
        LogConfig: { Type: 'none', Config: {} },
        Tmpfs: { [IMAGE.home]: 'rw,size=16m' },
        ...more,
      },
    })
    async function create(name: string, script = ECHO): Promise<string> {
      const { status, body } = await engine.call(
        'POST',
        `/containers/create?name=senmon-test-${name}`,
        orderOf(name, script),
      )
      expect(status).toBe(201)
      const { Id } = body as { Id: string }
      made.push(Id)
      return Id
    }
    const post = async (id: string, verb: string) => await engine.call('POST', `/containers/${id}/${verb}`)
    const stateOf = async (id: string) =>
      observe(null, (await engine.call('GET', `/containers/${id}/json`)).body as JsonObject).state
    const fault = (answer: Awaited<ReturnType<Engine['call']>>) => faultOf(refusalOf(answer))

    it('says which version it speaks, on which system, and knows its image', async () => {
      expect(await engine.greet()).toMatchObject({ apiVersion: expect.stringMatching(/^1\.\d+$/), system: 'linux' })
      const { status, body } = await engine.call('GET', `/images/${opened.image}/json`)
      expect([status, body]).toMatchObject([200, { Id: expect.stringMatching(/^sha256:/), Os: 'linux' }])
    })

    it('carries what is written both ways, each stream by itself', async () => {
      const id = await create('echo')
      const stream = await engine.attach(id)
      expect((await post(id, 'start')).status).toBe(204)
      const heard = { out: '', err: '' }
      const frames = new StreamFrames()
      const both = Promise.withResolvers<void>()
      stream.on('data', (chunk: Buffer) => {
        for (const piece of frames.push(chunk)) heard[piece.stream] += Buffer.from(piece.bytes).toString()
        if (heard.out === 'hello\n' && heard.err === 'hello\n') both.resolve()
      })
      stream.write('hello\n')
      await both.promise
      stream.destroy()
    })

    it('ends a container whose only stream has gone, and says how it ended', async () => {
      const id = await create('once')
      const stream = await engine.attach(id)
      await post(id, 'start')
      stream.destroy()
      const waited = await post(id, 'wait?condition=not-running')
      const inspected = await engine.call('GET', `/containers/${id}/json`)
      expect(endOf(waited.body, inspected.body)).toEqual({ exitCode: 0, oom: false })
      expect(await stateOf(id)).toBe('failed')
    })

    it('ends a stream with its container', async () => {
      const id = await create('exit', 'process.exit(75)')
      const stream = await engine.attach(id)
      await post(id, 'start')
      stream.resume()
      await new Promise((ended) => stream.once('close', ended))
      const waited = await post(id, 'wait?condition=not-running')
      expect(endOf(waited.body, undefined)).toMatchObject({ exitCode: 75 })
    })

    it('suspends and resumes, and says when there is nothing to', async () => {
      const id = await create('paused')
      const stream = await engine.attach(id)
      stream.resume()
      expect(await stateOf(id)).toBe('creating')
      expect(fault(await post(id, 'pause'))).toBe('state')
      await post(id, 'start')
      expect((await post(id, 'start')).status).toBe(304)
      expect((await post(id, 'pause')).status).toBe(204)
      expect(await stateOf(id)).toBe('suspended')
      const again = await post(id, 'pause')
      expect([fault(again), refusalOf(again).message]).toEqual(['state', expect.stringMatching(/already paused/)])
      expect(fault(await post(id, 'start'))).toBe('state')
      expect((await post(id, 'unpause')).status).toBe(204)
      expect(await stateOf(id)).toBe('running')
      expect(fault(await post(id, 'unpause'))).toBe('state')
      stream.destroy()
    })

    it('removes a suspended one by force, and does not know it afterwards', async () => {
      const id = await create('removed')
      const stream = await engine.attach(id)
      stream.resume()
      await post(id, 'start')
      await post(id, 'pause')
      const waiting = post(id, 'wait?condition=not-running')
      expect((await engine.call('DELETE', `/containers/${id}?force=1&v=1`)).status).toBe(204)
      expect(endOf((await waiting).body, undefined)).toMatchObject({ exitCode: 137 })
      for (const path of [`/containers/${id}/json`, `/containers/${id}?force=1`] as const) {
        const answer = await engine.call(path.endsWith('json') ? 'GET' : 'DELETE', path)
        expect(fault(answer)).toBe('gone')
      }
      await expect(engine.attach(id)).rejects.toMatchObject({ fault: 'state' })
    })

    it('refuses a name that is taken, an image that it lacks, and a runtime that it has not', async () => {
      await create('taken')
      const order = async (name: string, body: Json) =>
        await engine.call('POST', `/containers/create?name=${name}`, body)
      expect((await order('senmon-test-taken', orderOf('taken', ECHO))).status).toBe(409)
      const absent = await order('senmon-test-absent', { ...orderOf('absent', ECHO), Image: 'senmon-machine:absent' })
      expect([absent.status, fault(absent)]).toEqual([404, 'refused'])
      const runtime = await order('senmon-test-runtime', orderOf('runtime', ECHO, { Runtime: 'absent' }))
      expect([runtime.status, fault(runtime)]).toEqual([400, 'refused'])
    })

    it('lists by label', async () => {
      const id = await create('listed')
      const list = async (label: string) => {
        const { body } = await engine.call(
          'GET',
          `/containers/json?all=1&filters=${encodeURIComponent(JSON.stringify({ label: [label] }))}`,
        )
        return (body as JsonObject[]).map((one) => one['Id'])
      }
      expect(await list(`${LABEL}=listed`)).toEqual([id])
      expect(await list(LABEL)).toContain(id)
      expect(await list(`${LABEL}=other`)).toEqual([])
    })

    it('tells what happens to containers of a label, as long as it is listened to', async () => {
      const told: Json[] = []
      const enough = new AbortController()
      const died = Promise.withResolvers<void>()
      const over = engine.events(
        `${LABEL}=told`,
        (event) => {
          told.push((event as JsonObject)['Action'] ?? null)
          if (told.at(-1) === 'die') died.resolve()
        },
        enough.signal,
      )
      await engine.greet()
      const id = await create('told', 'process.exit(0)')
      const stream = await engine.attach(id)
      stream.resume()
      await post(id, 'start')
      await died.promise
      // The engine may take the order before it listens.
      expect(told.slice(-2)).toEqual(['start', 'die'])
      enough.abort()
      await over
    })
  })
}
