/** What every host of machines keeps, whatever it isolates; titles cite PROTOCOL.md. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { descendants, findProcess, listProcesses } from '../../src/local/processes.ts'
import type { MachineHost } from '../../src/pool/machine-host.ts'
import { CALL_KEY } from '../../schema/effect.ts'
import { hashOf, sha256 } from '../../schema/hash.ts'
import type { JsonObject } from '../../schema/json.ts'
import { rootRunId } from '../../schema/question.ts'
import { Content, JOB_ID, lockOf, MachineDrive, TESTER } from '../support/machine-drive.ts'
import type { OpenHost } from '../support/sandbox.ts'

const skills = {
  probe: { package: 'probe' },
  second: { package: 'probe' },
  keyed: { package: 'probe', requiredEnv: ['API_KEY', 'OTHER_KEY'] },
  ...Object.fromEntries(
    ['exit', 'die', 'garbage', 'array', 'deep', 'binary', 'big', 'endless', 'flood', 'forge', 'loud', 'deaf'].map(
      (deed) => [deed, { package: 'hostile', args: [deed] }],
    ),
  ),
}
const lock = lockOf(skills)
const guarded = lockOf(skills, [{ tool: 'second/run', args: { code: '*danger*' }, edits: false }])
const careful = lockOf({ ...skills, probe: { package: 'probe', effects: { run: 'once' } } })
const poke = { jsonrpc: '2.0', method: 'notifications/poke' }

type Part = 'lines' | 'breaches' | 'skills' | 'workspace' | 'ends'

/** `parts` leaves the others out, for a host that has them from one that keeps the whole. */
export function machineHostContract(
  name: MachineHost['name'],
  open: () => Promise<Pick<OpenHost, 'host' | 'close' | 'processes'>>,
  parts: readonly Part[] = ['lines', 'breaches', 'skills', 'workspace', 'ends'],
): void {
  const part = (title: Part, register: () => void): void => {
    if (parts.includes(title)) describe(title, register)
  }
  describe(`a host of machines: ${name}`, () => {
    let opened: Pick<OpenHost, 'host' | 'close' | 'processes'>
    const drives: MachineDrive[] = []
    beforeAll(async () => {
      opened = await open()
    })
    afterEach(async () => {
      await Promise.all(drives.splice(0).map((drive) => drive.destroy()))
    })
    afterAll(async () => {
      await opened.close()
    })

    async function machine(content?: Content): Promise<MachineDrive> {
      const drive = new MachineDrive(await opened.host.open({ jobId: JOB_ID, fence: 1 }, lock), content)
      drives.push(drive)
      return drive
    }
    async function started(): Promise<MachineDrive> {
      const drive = await machine()
      drive.start(lock)
      return drive
    }
    async function withSkill(skill: string): Promise<MachineDrive> {
      const drive = await started()
      expect(await drive.open(skill)).toMatchObject({ type: 'opened', skill })
      return drive
    }

    part('lines', () => {
      it('says ready first, with a boot id of its own (P3.1)', async () => {
        const [one, two] = [await machine(), await machine()]
        const ready = [await one.untilSaid('ready'), await two.untilSaid('ready')]
        expect(one.said[0]).toMatchObject({ type: 'ready', protocol: 1 })
        expect(ready[0]?.bootId).not.toBe(ready[1]?.bootId)
      })

      it('hands the runner every line in its order (P3.3)', async () => {
        const content = new Content()
        const drive = await machine(content)
        drive.start(lock, { treeHash: content.tree({ 'a.txt': 'a' }), historyCount: 0 })
        await drive.untilHeard((line) => line['type'] === 'go')
        expect(drive.heard.map((line) => line['type'])).toEqual(['start', 'go'])
      })

      it('renumbers the requests of the runner and gives it the replies (P4.2)', async () => {
        const drive = await started()
        const params = {
          runId: 'run_00000000000000000000',
          expertKey: TESTER,
          stepNumber: 1,
          promptHash: sha256(''),
          messageCount: 1,
        }
        drive.say({ type: 'request', id: 1, method: 'generate', params })
        const request = await drive.untilSaid('request', (line) => line.method === 'generate')
        drive.say({ type: 'request', id: 1, method: 'generate', params: { ...params, stepNumber: 2 } })
        const second = await drive.untilSaid('request', (line) => line.method === 'generate' && line !== request)
        expect(second.id).not.toBe(request.id)
        drive.send({ type: 'reply', id: request.id, ok: true, value: { parts: [] } })
        const reply = await drive.untilHeard((line) => line['type'] === 'reply')
        expect(reply).toEqual({ type: 'reply', id: 1, ok: true, value: { parts: [] } })
      })

      it('drops a reply that nobody waits for (P4.4)', async () => {
        const drive = await started()
        drive.send({ type: 'reply', id: 77, ok: true, value: 1 })
        drive.say({ type: 'log', source: 'x', text: 'after' })
        await drive.untilSaid('log', (line) => line.text === 'after')
        expect(drive.heard.some((line) => line['type'] === 'reply')).toBe(false)
      })

      it('ends with 0 after done and relays nothing that follows it (P3.6)', async () => {
        const drive = await started()
        drive.say(`{"type":"done","reason":"rested"}\n{"type":"log","source":"x","text":"late"}\n`)
        await drive.untilSaid('done')
        expect(await drive.ended()).toMatchObject({ reason: 'done' })
        expect(drive.said.at(-1)).toEqual({ type: 'done', reason: 'rested' })
      })

      it('relays cancel, and ends a runner that does not answer it (P8.1)', async () => {
        const drive = await started()
        drive.send({ type: 'cancel', reason: 'the user' })
        await drive.untilHeard((line) => line['type'] === 'cancel')
        expect(await drive.untilSaid('done')).toEqual({ type: 'done', reason: 'canceled' })
        expect(await drive.ended()).toMatchObject({ reason: 'done' })
      })

      it('says how a runner ended that did not say done (P8.3)', async () => {
        const drive = await started()
        drive.exitRunner(9)
        const { reason, stderrTail } = await drive.ended()
        expect(reason).toBe('runner_ended')
        expect(stderrTail).toContain('exit code 9')
      })
    })

    part('breaches', () => {
      it.each([
        ['what only the supervisor may say', { type: 'workspace', treeHash: sha256('') }],
        ['content', { type: 'blob', hash: sha256(''), offset: 0, last: true, base64: '' }],
        [
          'a request for secrets',
          { type: 'request', id: 1, method: 'secrets', params: { expertKey: TESTER, skill: 'keyed' } },
        ],
        [
          'a fact of the job',
          { type: 'event', event: { type: 'jobFinished', runId: null, expertKey: null, stepNumber: null, data: {} } },
        ],
        [
          'a generation',
          { type: 'event', event: { type: 'generated', runId: null, expertKey: null, stepNumber: null, data: {} } },
        ],
        ['no JSON', 'hello\n'],
        ['deep JSON', `${'['.repeat(100)}${']'.repeat(100)}\n`],
      ])('drops and counts a runner that says %s (P1.3, P2.3)', async (_what, line) => {
        const drive = await started()
        drive.say(line)
        drive.say({ type: 'log', source: 'x', text: 'after' })
        await drive.untilSaid('log', (one) => one.text === 'after')
        expect(drive.said.filter((one) => one.type !== 'event').map((one) => one.type)).toEqual([
          'ready',
          'alive',
          'log',
          'log',
        ])
        expect(drive.said.find((one) => one.type === 'log')?.text).toContain('(1 of 10)')
      })

      it('ignores members that it does not know (P1.4)', async () => {
        const drive = await started()
        drive.say({ type: 'log', source: 'x', text: 'known', colour: 'red' })
        const line = await drive.untilSaid('log', (one) => one.text === 'known')
        expect(line).toEqual({ type: 'log', source: 'runner', text: 'known' })
      })

      it('ends the machine at the tenth (P2.5, S1)', async () => {
        const drive = await started()
        for (let i = 0; i < 9; i++) drive.say('nonsense\n')
        drive.say({ type: 'log', source: 'x', text: 'alive' })
        await drive.untilSaid('log', (line) => line.text === 'alive')
        drive.say('nonsense\n')
        expect(await drive.ended()).toMatchObject({ reason: 'protocol_breach' })
      })

      it('ends the machine at a line above the cap (P1.2)', async () => {
        const drive = await started()
        for (let i = 0; i < 9; i++) drive.say('x'.repeat(1024 * 1024))
        expect(await drive.ended()).toMatchObject({ reason: 'protocol_breach' })
      })
    })

    part('skills', () => {
      it('relays frames both ways (P7.1, P7.4)', async () => {
        const drive = await withSkill('probe')
        expect(await drive.run('probe', 'return 6 * 7')).toBe(42)
      })

      it('opens nothing that the lock does not hold (SK1, P7.1)', async () => {
        const drive = await started()
        for (const skill of ['absent', '__proto__', 'constructor']) {
          expect(await drive.open(skill)).toMatchObject({ type: 'closed', code: 'skill_not_found' })
        }
      })

      it('gives a skill exactly its secrets, PATH and SENMON_WORKSPACE (P7.2, P7.3, SK2)', async () => {
        const drive = await started()
        Object.assign(drive.secrets, { API_KEY: 'canary-1', OTHER_KEY: 'canary two\n=', MORE: 'canary-3' })
        await drive.open('probe')
        expect(drive.said.some((line) => line.type === 'request')).toBe(false)
        await drive.open('keyed')
        const environment = (await drive.run('keyed', 'return process.env')) as Record<string, string>
        expect(Object.keys(environment).toSorted()).toEqual(['API_KEY', 'OTHER_KEY', 'PATH', 'SENMON_WORKSPACE'])
        expect(environment).toMatchObject({ API_KEY: 'canary-1', OTHER_KEY: 'canary two\n=' })
        const without = (await drive.run('probe', 'return process.env')) as Record<string, string>
        expect(Object.keys(without).toSorted()).toEqual(['PATH', 'SENMON_WORKSPACE'])
        expect(JSON.stringify(drive.heard.filter((line) => line['type'] === 'reply'))).not.toContain('canary')
      })

      it('closes a skill whose secrets are missing (P7.2)', async () => {
        const drive = await started()
        expect(await drive.open('keyed')).toMatchObject({ type: 'closed', code: 'secret_missing' })
      })

      it('ends a skill with all its processes when the runner closes it (P7.7)', async () => {
        const drive = await withSkill('probe')
        drive.say({ type: 'close', expertKey: TESTER, skill: 'probe' })
        expect(await drive.closed('probe')).toMatchObject({ code: 'canceled_by_user' })
        expect(await drive.open('probe')).toMatchObject({ type: 'opened' })
      })

      it('passes a call that a rule covers only by leave, which is for these arguments and once (P7.10, SK5)', async () => {
        const drive = await machine()
        drive.start(guarded)
        for (const skill of ['probe', 'second']) expect(await drive.open(skill)).toMatchObject({ type: 'opened' })
        const [danger, worse] = [`return 'danger'`, `return 'danger!'`]
        await expect(drive.run('second', danger)).rejects.toThrow('second/run may not be called')
        expect(drive.said.findLast((line) => line.type === 'request')).toMatchObject({
          method: 'permit',
          params: { expertKey: TESTER, toolName: 'second/run', argsHash: hashOf({ code: danger }) },
        })
        drive.permits.push({ expertKey: TESTER, toolName: 'second/run', argsHash: hashOf({ code: danger }) })
        await expect(drive.run('second', worse)).rejects.toThrow('may not be called')
        expect(await drive.run('second', danger)).toBe('danger')
        await expect(drive.run('second', danger)).rejects.toThrow('may not be called')
        const asked = drive.said.filter((line) => line.type === 'request').length
        expect(await drive.run('second', 'return 1')).toBe(1)
        expect(await drive.run('probe', danger)).toBe('danger')
        expect(drive.said.filter((line) => line.type === 'request')).toHaveLength(asked)
      })

      it('passes no call of a guarded expert that hides what it calls (P7.10, SK5)', async () => {
        const drive = await machine()
        drive.start(guarded)
        await drive.open('second')
        const code = `globalThis.count = (globalThis.count ?? 0) + 1; return 'danger'`
        const params = { name: 'run', arguments: { code } }
        drive.permits.push(
          ...[1, 2, 3].map(() => ({ expertKey: TESTER, toolName: 'second/run', argsHash: hashOf({ code }) })),
        )
        const call = { jsonrpc: '2.0', method: 'tools/call', params }
        drive.frame('second', call)
        drive.frame('second', { ...call, id: null })
        drive.frame('second', { ...call, id: 'a', params: { ...params, arguments: [code] } })
        // A page of a list that no answer has named.
        drive.frame('second', { ...call, id: 'p', method: 'resources/list', params: { cursor: 'x' } } as never)
        drive.frame('second', { ...call, id: 'b', params: { ...params, name: ['run'] } })
        drive.say({ type: 'frame', expertKey: TESTER, skill: 'second', frame: [{ ...call, id: 'c' }] })
        await drive.untilHeard((line) => JSON.stringify(line).includes('"id":"b"'))
        const paged = await drive.untilHeard((line) => JSON.stringify(line).includes('"id":"p"'))
        expect(JSON.stringify(paged)).toContain('does not say plainly')
        expect(await drive.run('second', 'return globalThis.count ?? 0')).toBe(0)
        expect(drive.said.filter((line) => line.type === 'request')).toEqual([])
      })

      it('passes a call that may be made once only by leave, which names the call (P7.11, SK5)', async () => {
        const drive = await machine()
        drive.start(careful)
        await drive.open('probe')
        const code = `globalThis.count = (globalThis.count ?? 0) + 1; return globalThis.count`
        const argsHash = hashOf({ code })
        const call = (id: string, meta: object) => {
          const params = { name: 'run', arguments: { code }, ...meta }
          drive.frame('probe', { jsonrpc: '2.0', id, method: 'tools/call', params } as never)
          return drive.untilHeard((line) => JSON.stringify(line).includes(`"id":"${id}"`))
        }
        const permit = { expertKey: TESTER, toolName: 'probe/run', argsHash }
        const key = sha256('one call')
        drive.permits.push(permit, { ...permit, callKey: key })
        expect(JSON.stringify(await call('a', {}))).toContain('does not say plainly')
        expect(JSON.stringify(await call('b', { _meta: { [CALL_KEY]: 'short' } }))).toContain('does not say plainly')
        const other = await call('c', { _meta: { [CALL_KEY]: sha256('another call') } })
        expect(JSON.stringify(other)).toContain('may not be called')
        expect(JSON.stringify(await call('d', { _meta: { [CALL_KEY]: key } }))).toContain('"text":"1"')
        expect(JSON.stringify(await call('e', { _meta: { [CALL_KEY]: key } }))).toContain('may not be called')
      })

      it('passes what concerns a skill on the network up and down, and nothing else of it (P7.12, SK6)', async () => {
        const drive = await machine()
        const far = { type: 'mcpHttpSkill', endpoint: 'https://far.example.com/mcp', requiredEnv: ['API_KEY'] }
        // The rules of the expert are the control plane's to keep here.
        drive.start(lockOf({ far: { package: 'probe', ...(far as object) } }, [{ tool: '*', args: {}, edits: false }]))
        const name = { expertKey: TESTER, skill: 'far' }
        const call = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'run', arguments: {} } }
        drive.say({ type: 'open', ...name })
        expect(await drive.untilSaid('open')).toEqual({ type: 'open', ...name })
        drive.send({ type: 'opened', ...name })
        expect(await drive.untilHeard((line) => line['type'] === 'opened')).toEqual({ type: 'opened', ...name })
        drive.frame('far', call)
        expect(await drive.untilSaid('frame')).toEqual({ type: 'frame', ...name, frame: call })
        const answer = { jsonrpc: '2.0', id: 1, result: { content: [] } }
        drive.send({ type: 'frame', ...name, frame: answer })
        expect(await drive.untilHeard((line) => line['type'] === 'frame')).toMatchObject({ frame: answer })
        // A long answer becomes a file of the workspace, a lie about that does not, and order stays.
        const content = [{ type: 'text', text: 'x'.repeat(40_000) }]
        const _meta = { 'senmon.dev/kept': '.senmon/results/0000000000000000.txt' }
        drive.send({ type: 'frame', ...name, frame: { ...answer, id: 2, result: { content } } })
        drive.send({ type: 'frame', ...name, frame: { ...answer, id: 3, result: { content: [], _meta } } })
        const framed = (line: JsonObject, id: number) => JSON.stringify(line['frame'] ?? null).includes(`"id":${id}`)
        const third = await drive.untilHeard((line) => framed(line, 3))
        expect(JSON.stringify(third)).not.toContain('senmon.dev/kept')
        const second = drive.heard.findIndex((line) => framed(line, 2))
        expect(second).toBeGreaterThan(-1)
        expect(second).toBeLessThan(drive.heard.indexOf(third))
        expect(JSON.stringify(drive.heard[second])).toMatch(/"senmon.dev\/kept":"\.senmon\/results\/[0-9a-f]{16}\.txt"/)
        await drive.untilSaid('workspace')
        drive.say({ type: 'close', ...name })
        expect(await drive.untilSaid('close')).toEqual({ type: 'close', ...name })
        drive.send({ type: 'closed', ...name, code: 'canceled_by_user', message: 'closed' })
        expect(await drive.closed('far')).toMatchObject({ code: 'canceled_by_user' })
        expect(drive.said.filter((line) => line.type === 'request')).toEqual([])
      })

      it('passes on how far a call has come (P7.14)', async () => {
        const drive = await started()
        const line = { type: 'progress', runId: rootRunId(JOB_ID, 0), callId: 'call_1_0', text: '3/10' } as const
        drive.say(line)
        expect(await drive.untilSaid('progress')).toEqual(line)
      })

      it('says nothing of a skill to the control plane that runs in the machine (P7.12)', async () => {
        const drive = await withSkill('probe')
        expect(await drive.run('probe', 'return 1')).toBe(1)
        const types = new Set(drive.said.map((line) => line.type))
        for (const type of ['open', 'frame', 'close'] as const) expect(types).not.toContain(type)
      })

      it('answers a frame for a skill that is not open with closed (P7.8)', async () => {
        const drive = await started()
        drive.frame('probe', poke)
        expect(await drive.closed('probe')).toMatchObject({ code: 'skill_died' })
      })

      it('says what a skill wrote that did not start (P7.6)', async () => {
        const drive = await started()
        await drive.open('exit')
        const { code, message } = await drive.closed('exit')
        expect(code).toBe('skill_start_failed')
        expect(message).toContain('I do not start')
      })

      it('says what a skill wrote that died (P7.6)', async () => {
        const drive = await withSkill('die')
        drive.frame('die', poke)
        const { code, message } = await drive.closed('die')
        expect(code).toBe('skill_died')
        expect(message).toMatch(/exit code 3.*I fall/s)
      })

      it.each(['garbage', 'array', 'deep', 'binary', 'big', 'endless'])(
        'ends a skill that writes something else than MCP: %s (P7.5)',
        async (deed) => {
          const drive = await withSkill(deed)
          drive.frame(deed, poke)
          expect(await drive.closed(deed)).toMatchObject({ code: 'skill_garbage' })
        },
      )

      it('ends a skill that floods (P7.5)', async () => {
        const drive = await withSkill('flood')
        drive.frame('flood', poke)
        expect(await drive.closed('flood')).toMatchObject({ code: 'limit_exceeded' })
      })

      it('never takes what a skill writes for a line of the machine (P2.4)', async () => {
        const drive = await withSkill('forge')
        drive.frame('forge', poke)
        const heard = await drive.untilHeard((line) => line['type'] === 'frame')
        expect(heard['frame']).toEqual({ type: 'done', reason: 'finished' })
        expect(drive.said.some((line) => line.type === 'done')).toBe(false)
      })

      it('passes stderr on up to a bound, and goes on (P7.9)', async () => {
        const drive = await withSkill('loud')
        drive.frame('loud', poke)
        await drive.untilHeard((line) => line['type'] === 'frame')
        await drive.open('probe')
        expect(await drive.run('probe', 'return 1')).toBe(1)
        // Its stderr is another pipe than its frames: what it wrote before may come after.
        await drive.untilSaid('log', (line) => line.text.includes('says no more'))
        const chars = drive.said.reduce((sum, line) => sum + (line.type === 'log' ? line.text.length : 0), 0)
        expect(chars).toBeGreaterThan(100_000)
        expect(chars).toBeLessThan(300_000)
      })

      it('is not held up by a skill that does not read; it is ended (SK4)', async () => {
        const drive = await withSkill('deaf')
        await drive.open('probe')
        const frame = { jsonrpc: '2.0', method: 'notifications/big', params: { text: 'x'.repeat(1024 * 1024) } }
        for (let i = 0; i < 20; i++) drive.frame('deaf', frame)
        expect(await drive.run('probe', 'return 1')).toBe(1)
        expect(await drive.closed('deaf')).toMatchObject({ code: 'limit_exceeded' })
      })
    })

    part('workspace', () => {
      const write = (path: string, text: string) =>
        `const { writeFile, mkdir } = await load('node:fs/promises')
         const { dirname } = await load('node:path')
         await mkdir(dirname(${JSON.stringify(path)}), { recursive: true })
         await writeFile(${JSON.stringify(path)}, ${JSON.stringify(text)})`

      it('has the runner begin while it restores, and starts no skill before all is there (P3.3, S3)', async () => {
        const content = new Content()
        const drive = await machine(content)
        drive.withhold()
        drive.start(lock, { treeHash: content.tree({ 'a.txt': 'alpha' }) })
        await drive.untilHeard((line) => line['type'] === 'go')
        drive.say({ type: 'open', expertKey: TESTER, skill: 'probe' })
        // Its words to operators come by another way than its lines, which wait now.
        for (let turn = 0; turn < 20; turn++) {
          drive.complain(`turn ${turn}`)
          await drive.untilSaid('log', (line) => line.text === `turn ${turn}`)
        }
        expect(drive.heard.map((line) => line['type'])).toEqual(['start', 'go'])
        drive.give()
        await drive.untilHeard((line) => line['type'] === 'opened')
        expect(await drive.run('probe', `return (await load('node:fs')).readFileSync('a.txt', 'utf8')`)).toBe('alpha')
      })

      it('restores trees whole, and sends none of it back (P3.3, P5.1, P5.2, P5.3, P5.4, S3)', async () => {
        const content = new Content()
        const drive = await machine(content)
        const big = 'x'.repeat(3 * 1024 * 1024)
        drive.start(lock, {
          treeHash: content.tree({ 'a.txt': 'alpha', empty: '', deep: { er: { 'b.txt': big } } }),
          inputTreeHash: content.tree({ 'spec.md': 'the spec', dir: { 'c.txt': 'c' } }),
        })
        await drive.open('probe')
        const seen = await drive.run(
          'probe',
          `const { readFileSync: read } = await load('node:fs')
           return [read('a.txt', 'utf8'), read('empty', 'utf8'), read('deep/er/b.txt').length,
             read('input/spec.md', 'utf8'), read('input/dir/c.txt', 'utf8')]`,
        )
        expect(seen).toEqual(['alpha', '', big.length, 'the spec', 'c'])
        await drive.run('probe', write('new.txt', 'n'))
        const sent = drive.said.flatMap((line) => (line.type === 'blob' ? [line.hash] : []))
        expect(sent).toContain(sha256('n'))
        expect(sent).not.toContain(sha256(big))
        expect(sent).not.toContain(sha256('alpha'))
      })

      it('says the new tree before the runner sees the answer (SK3, P6.1, P6.2)', async () => {
        const drive = await withSkill('probe')
        await drive.run('probe', write('src/a.txt', 'alpha'))
        const order = drive.said.flatMap((line) => {
          if (line.type === 'workspace') return ['workspace']
          return JSON.stringify(line).includes('\\"frame\\"') ? ['answer'] : []
        })
        expect(order).toEqual(['workspace', 'answer'])
        const line = await drive.untilSaid('workspace')
        expect(drive.content.read(line.treeHash)).toEqual({ 'src/a.txt': 'alpha' })
      })

      it('says nothing when nothing has changed (P6.2)', async () => {
        const drive = await withSkill('probe')
        await drive.run('probe', write('a.txt', 'alpha'))
        await drive.run('probe', 'return 1')
        await drive.run('probe', write('a.txt', 'alpha'))
        expect(drive.said.filter((line) => line.type === 'workspace')).toHaveLength(1)
      })

      it('is one for all skills, and another machine goes on with it (P6.1)', async () => {
        const first = await withSkill('probe')
        await first.open('second')
        await first.run('probe', write('a.txt', 'from probe'))
        expect(await first.run('second', `return (await load('node:fs')).readFileSync('a.txt', 'utf8')`)).toBe(
          'from probe',
        )
        const { treeHash } = await first.untilSaid('workspace')
        const next = await machine(first.content)
        next.start(lock, { treeHash })
        await next.open('probe')
        expect(await next.run('probe', `return (await load('node:fs')).readFileSync('a.txt', 'utf8')`)).toBe(
          'from probe',
        )
      })

      it('leaves out what is no plain file, says so, and does not hang on it (P6.3)', async () => {
        const drive = await withSkill('probe')
        await drive.run(
          'probe',
          `const fs = await load('node:fs')
           const { createServer } = await load('node:net')
           fs.writeFileSync('plain', 'p'); fs.writeFileSync('twin', 't'); fs.linkSync('twin', 'other-twin')
           fs.symlinkSync('/etc/passwd', 'link'); fs.symlinkSync('/', 'root'); fs.symlinkSync('.', 'self')
           fs.writeFileSync('bad\\nname', 'b'); fs.writeFileSync(Buffer.from([0x66, 0xff]), 'latin')
           await new Promise((done) => createServer().listen('socket', done))`,
        )
        const { treeHash } = await drive.untilSaid('workspace')
        expect(drive.content.read(treeHash)).toEqual({ plain: 'p' })
        const logs = drive.said.flatMap((line) => (line.type === 'log' ? [line.text] : []))
        for (const name of ['link', 'root', 'self', 'socket', 'twin', 'bad'])
          expect(logs.some((text) => text.includes(name) && text.includes('left out'))).toBe(true)
      })

      it('answers a call with an error when the workspace grew above its limits, and recovers (P6.4)', async () => {
        const drive = await withSkill('probe')
        const grow = `const fs = await load('node:fs'); fs.writeFileSync('huge', ''); fs.truncateSync('huge', 70 * 1024 * 1024)`
        await expect(drive.run('probe', grow)).rejects.toThrow(/too large: huge has 73400320 bytes/)
        expect(drive.said.some((line) => line.type === 'workspace')).toBe(false)
        await drive.run('probe', `(await load('node:fs')).unlinkSync('huge')`)
        expect(drive.said.some((line) => line.type === 'workspace')).toBe(true)
      })

      /** Where the last answer of the probe says that it is kept. */
      const keptIn = (drive: MachineDrive): unknown =>
        (
          drive.heard.findLast((line) => line['type'] === 'frame' && line['skill'] === 'probe')?.['frame'] as {
            result?: { _meta?: Record<string, unknown> }
          }
        )?.result?._meta?.['senmon.dev/kept']

      it('keeps a long answer as a file, which stands in the tree before the answer passes (P6.6)', async () => {
        const drive = await withSkill('probe')
        const text = 'word '.repeat(10_000)
        expect(await drive.run('probe', `return ${JSON.stringify(text)}`)).toBe(text)
        const { treeHash } = await drive.untilSaid('workspace')
        const path = String(keptIn(drive))
        expect(path).toMatch(/^\.senmon\/results\/[0-9a-f]{16}\.txt$/)
        expect(drive.content.read(treeHash)).toEqual({ [path]: JSON.stringify(text) })
        // Said again, it is the same file, whatever became of it meanwhile.
        const spoil = `const fs = await load('node:fs'); fs.unlinkSync('${path}'); fs.symlinkSync('/etc/passwd', '${path}')`
        await drive.run('probe', `${spoil}; return 'x'`)
        expect(keptIn(drive)).toBeUndefined()
        await drive.run('probe', `return ${JSON.stringify(text)}`)
        expect(keptIn(drive)).toBe(path)
        expect(await drive.run('probe', `return (await load('node:fs')).readFileSync('${path}', 'utf8').length`)).toBe(
          text.length + 2,
        )
      })

      it.each(['.senmon', '.senmon/results'])(
        'follows no link in the place of %s, and the answer passes whole (P6.6)',
        async (place) => {
          const drive = await withSkill('probe')
          const plant = `const fs = await load('node:fs'); fs.mkdirSync('elsewhere'); if ('${place}' !== '.senmon') fs.mkdirSync('.senmon');
            fs.symlinkSync(process.cwd() + '/elsewhere', '${place}')`
          const text = await drive.run('probe', `${plant}; return 'x'.repeat(40000)`)
          expect(text).toHaveLength(40_000)
          expect(keptIn(drive)).toBeUndefined()
          expect(await drive.run('probe', `return (await load('node:fs')).readdirSync('elsewhere')`)).toEqual([])
          await drive.untilSaid('log', (line) => line.text.includes('A result is not kept'))
        },
      )

      it('keeps no answer for which the workspace has no room (P6.4, P6.6)', async () => {
        const drive = await withSkill('probe')
        const fill = `const fs = await load('node:fs'); for (let i = 0; i < 19_998; i++) fs.writeFileSync('f' + i, '')`
        const text = await drive.run('probe', `${fill}; return 'x'.repeat(40000)`)
        expect(text).toHaveLength(40_000)
        expect(keptIn(drive)).toBeUndefined()
      })

      it.each([
        ['climbs', { entries: [{ type: 'directory', name: '..', hash: sha256('') }] }],
        ['is absolute', { entries: [{ type: 'directory', name: '/etc', hash: sha256('') }] }],
        ['is the mount point', { entries: [{ type: 'directory', name: 'input', hash: sha256('') }] }],
        ['comes twice', { entries: [1, 2].map(() => ({ type: 'directory', name: 'a', hash: sha256('') })) }],
      ])('refuses a tree with a name that %s (P6.5)', async (_what, tree) => {
        const content = new Content()
        const drive = await machine(content)
        drive.start(lock, { treeHash: content.put(JSON.stringify(tree)) })
        drive.say({ type: 'open', expertKey: TESTER, skill: 'probe' })
        expect(await drive.ended()).toMatchObject({ reason: 'workspace_invalid' })
        expect(drive.heard.some((line) => line['type'] === 'opened')).toBe(false)
      })

      it('refuses content that does not hash to its name (P5.2, P6.5)', async () => {
        const content = new Content()
        const drive = await machine(content)
        const treeHash = content.tree({ 'a.txt': 'alpha' })
        content.bytes.set(sha256('alpha'), Buffer.from('ALPHA'))
        drive.start(lock, { treeHash })
        const { reason, stderrTail } = await drive.ended()
        expect(reason).toBe('workspace_invalid')
        expect(stderrTail).toContain('does not hash to its name')
      })
    })

    part('ends', () => {
      it('leaves no process when it is destroyed, whatever it was doing (S2)', async () => {
        const alive = opened.processes ?? (async () => descendants(process.pid, listProcesses()))
        const before = new Set(listProcesses().map((one) => one.pid))
        const drive = await withSkill('probe')
        await drive.open('second')
        await drive.run(
          'probe',
          `const { spawn } = await load('node:child_process')
           spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { detached: true, stdio: 'ignore' })`,
        )
        const mine = (await alive()).filter((one) => !before.has(one.pid))
        expect(mine.length).toBeGreaterThan(4)
        await drive.destroy()
        const left = mine.filter(({ pid, startedAt }) => {
          const now = findProcess(pid)
          return now !== undefined && now.startedAt === startedAt && !now.zombie
        })
        expect(left).toEqual([])
      })

      it('can be destroyed twice', async () => {
        const drive = await started()
        await Promise.all([drive.destroy(), drive.destroy()])
        expect(await drive.ended()).toMatchObject({ reason: 'destroyed' })
      })
    })
  })
}
