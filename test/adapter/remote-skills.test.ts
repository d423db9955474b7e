/** Skills on the network: real servers of both lines and both protocols, and servers that no one should trust. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import {
  elicitationQuestionOf,
  handedBackIn,
  type Elicitation,
  type ElicitationReply,
  type Elicited,
} from '../../schema/elicitation.ts'
import { LOOK_MS_MAX } from '../../runner/skill/greeting.ts'
import type { Resumption } from '../../schema/event.ts'
import { hashOf } from '../../schema/hash.ts'
import { isJsonObject, type JsonObject } from '../../schema/json.ts'
import { Networks } from '../../schema/network.ts'
import { rootRunId } from '../../schema/question.ts'
import { fakeClock } from '../fake/fake-clock.ts'
import { JOB } from '../run/team.ts'
import { until } from '../support/patience.ts'
import { HOUR_MS } from '../support/leap-clock.ts'
import { driveRemote } from '../support/remote-drive.ts'
import {
  NAME_FORM,
  startEverything,
  startHttp,
  startNewer,
  startSse,
  startStreamable,
  type HttpServer,
  type Tool,
  startRpc,
} from '../support/mcp-servers.ts'

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  await Promise.all(closers.splice(0).map((close) => close()))
})

function kept<Part extends { close(): Promise<void> }>(part: Part): Part {
  closers.push(() => part.close())
  return part
}

function drive(...given: Parameters<typeof driveRemote>) {
  const driven = driveRemote(...given)
  kept(driven.remote)
  return driven
}

const echo: Tool = async ({ text }) => `heard ${String(text)}`
const text = (said: string) => ({ content: [{ type: 'text', text: said }], isError: false })
const saying = (words: string) => expect.stringContaining(words) as string

describe('a skill on the network', () => {
  it('of the older line, over Streamable HTTP: a session, its headers, and its end', async () => {
    const server = kept(await startStreamable({ echo }))
    const headers = { Authorization: 'Bearer ${TOKEN}', 'X-Team': 'acme' }
    const far = drive({ endpoint: server.url, headers, requiredEnv: ['TOKEN'] }, { secrets: { TOKEN: 'sesame-1234' } })
    expect(await far.list()).toMatchObject([{ name: 'echo' }])
    expect(await far.call('echo', { text: 'hi' })).toMatchObject(text('heard hi'))
    expect(new Set(server.asked.map(({ headers }) => headers.authorization))).toEqual(new Set(['Bearer sesame-1234']))
    expect(new Set(server.asked.map((one) => one.headers['x-team']))).toEqual(new Set(['acme']))
    const last = server.asked.at(-1)
    expect(last?.headers).toMatchObject({ 'mcp-session-id': 'session-0', 'mcp-protocol-version': '2025-11-25' })
    expect(server.sessions.size).toBe(1)
    await far.remote.close()
    expect(server.sessions.size).toBe(0)
  })

  it.each(['mcpSseSkill', 'mcpHttpSkill'] as const)('of the older protocol, declared as %s', async (type) => {
    const server = kept(await startSse({ echo }))
    const headers = { Authorization: 'Bearer ${TOKEN}' }
    const far = drive(
      { type, endpoint: server.url, headers, requiredEnv: ['TOKEN'] },
      { secrets: { TOKEN: 'sesame-1234' } },
    )
    expect(await far.list()).toMatchObject([{ name: 'echo' }])
    expect(await far.call('echo', { text: 'hi' })).toMatchObject(text('heard hi'))
    expect(new Set(server.asked.map(({ headers }) => headers.authorization))).toEqual(new Set(['Bearer sesame-1234']))
  })

  it('of the newer line, with structured results', async () => {
    const far = drive({ endpoint: kept(await startNewer()).url })
    expect(await far.list()).toMatchObject([{ name: 'add', outputSchema: { type: 'object' } }, { name: 'greet' }])
    expect(await far.call('add', { a: 1, b: 2 })).toMatchObject({ structured: { sum: 3 }, isError: false })
  })

  const put = (asked: Elicitation, reply: ElicitationReply, resumption: Resumption | null = null): Elicited => {
    const part = { type: 'toolCall', callId: 'call_1_0', name: 'far/greet', args: {} } as const
    return { question: elicitationQuestionOf(JOB, rootRunId(JOB, 0), part, asked, 0), reply, resumption }
  }
  const asked = { message: 'Who?', requestedSchema: NAME_FORM }
  const ann = { action: 'accept', content: { name: 'Ann' } } as const

  it.each([
    ['Streamable HTTP', 'mcpHttpSkill', startStreamable],
    ['the older protocol', 'mcpSseSkill', startSse],
  ] as const)(
    'of the older line asks a human over %s, and is called again with the answer',
    async (_over, type, start) => {
      const greet: Tool = async (_args, _req, _signal, ask) => JSON.stringify(await ask('Who?'))
      const far = drive({ type, endpoint: kept(await start({ greet })).url })
      expect(await far.call('greet')).toEqual({ asks: [{ asked, handle: null }], waits: true })
      expect(await far.call('greet', {}, undefined, [put(asked, ann)])).toMatchObject(text(JSON.stringify(ann)))
      const late = { action: 'cancel' } as const
      expect(await far.call('greet', {}, undefined, [put(asked, late)])).toMatchObject(text(JSON.stringify(late)))
    },
  )

  it.each([{}, { legacy: 'reject' }] as const)(
    'of the newer line (%o) asks in its answer, and goes on',
    async (options) => {
      const far = drive({ endpoint: kept(await startNewer(options)).url })
      const handle = { key: 'name', state: 'as I was' }
      expect(await far.call('greet')).toEqual({ asks: [{ asked, handle }], waits: false })
      const known = [put(asked, ann, { ...handle, from: 0, of: 1 })]
      expect(await far.call('greet', {}, undefined, known)).toMatchObject(text(JSON.stringify([ann, 'as I was'])))
      expect(far.told.filter((line) => isJsonObject(line) && line['type'] === 'opened')).toHaveLength(1)
    },
  )

  it('of the newer line hears in headers the arguments that its tool marks for them (RS6)', async () => {
    const server = kept(await startNewer({}, { marks: true }))
    const far = drive({ endpoint: server.url })
    expect((await far.list()) as readonly { name: string }[]).toMatchObject([
      { name: 'add' },
      { name: 'look' },
      { name: 'greet' },
    ])
    for (const region of ['eu-west', ' 東京']) expect(await far.call('look', { region })).toMatchObject(text(region))
    const heard = server.asked.flatMap(({ headers }) => headers['mcp-param-region'] ?? [])
    expect(heard).toEqual(['eu-west', `=?base64?${Buffer.from(' 東京').toString('base64')}?=`])
  })

  it('of the newer line is not called where a tool marks what MCP forbids, and says which when it is picked (RS6)', async () => {
    const { url } = kept(await startNewer({}, { marks: true }))
    expect(await drive({ endpoint: url, pick: ['crowd', 'look'] }).list()).toMatchObject({
      code: 'tool_schema_invalid',
      message: expect.stringContaining('its tool crowd has x-mcp-header where no chain of properties leads'),
    })
    const schema = { type: 'object', properties: { region: { type: 'number', 'x-mcp-header': 'Region' } } }
    const tools = [{ name: 'look', description: 'Looks.', inputSchema: schema }]
    const far = drive({ endpoint: url, tools })
    far.open()
    const _meta = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28' }
    far.say({
      jsonrpc: '2.0',
      id: 7,
      method: 'tools/call',
      params: { name: 'look', arguments: { region: 'x' }, _meta },
    })
    await until(() => JSON.stringify(far.told).includes('"id":7'))
    expect(far.told).toContainEqual(
      expect.objectContaining({
        type: 'frame',
        frame: expect.objectContaining({
          id: 7,
          error: expect.objectContaining({ data: { code: 'tool_schema_invalid' } }),
        }),
      }),
    )
  })

  it('of the newer line gets back what the log says, or nothing', async () => {
    const leaves: unknown[] = []
    const refuseCall = async (leave: unknown) => void leaves.push(leave)
    const far = drive({ endpoint: kept(await startNewer()).url }, { refuseCall })
    const known = [put(asked, ann, { key: 'name', state: 'as I was', from: 0, of: 1 })]
    await far.call('greet', {}, undefined, known)
    const handedBack = handedBackIn({ inputResponses: { name: ann }, requestState: 'as I was' })
    expect(leaves).toMatchObject([{ toolName: 'far/greet', handedBack }])
  })

  it('that says nothing to the look of the newer line is greeted in the older', async () => {
    const server = kept(await startStreamable({ echo }))
    const silent = kept(
      await startHttp((req, res) => {
        if (req.method === 'GET') {
          res.writeHead(405).end()
          return
        }
        const chunks: Buffer[] = []
        req.on('data', (chunk: Buffer) => chunks.push(chunk))
        req.on('end', () => {
          const body = Buffer.concat(chunks)
          if (body.includes('server/discover')) return far.clock.leap(LOOK_MS_MAX)
          const headers = { ...req.headers, host: new URL(server.url).host } as object as Record<string, string>
          void fetch(server.url, {
            method: req.method ?? 'POST',
            headers,
            ...(body.length === 0 ? {} : { body }),
          }).then(async (answer) => {
            res.writeHead(answer.status, { ...Object.fromEntries(answer.headers), 'content-encoding': 'identity' })
            res.end(Buffer.from(await answer.arrayBuffer()))
          })
        })
      }),
    )
    const far = drive({ endpoint: silent.url })
    expect(await far.call('echo', { text: 'hi' })).toMatchObject(text('heard hi'))
  })

  it.each(['streamableHttp', 'sse'] as const)('is server-everything in its mode %s', async (mode) => {
    const server = kept(await startEverything(mode))
    const type = mode === 'sse' ? 'mcpSseSkill' : 'mcpHttpSkill'
    const far = drive({ type, endpoint: server.url })
    expect(await far.call('echo', { message: 'hi' })).toMatchObject(text('Echo: hi'))
    const image = await far.call('get-tiny-image')
    expect(image).toMatchObject({ content: [{ type: 'text' }, { type: 'image', mediaType: 'image/png' }, {}] })
    const uri = 'demo://resource/dynamic/text/1'
    expect(await far.call('readResource', { uri })).toMatchObject({ content: [{ text: saying('Resource 1') }] })
    // Progress comes through, so that the call may take longer than a silent one.
    const calling = far.call('trigger-long-running-operation', { duration: 1, steps: 5 })
    for (let told = 1; told <= 2; told++) {
      const isTold = () => far.told.filter((line) => JSON.stringify(line).includes('notifications/progress'))
      await until(() => isTold().length >= told)
      far.clock.leap(0.9 * HOUR_MS)
    }
    expect(await calling).toMatchObject({ isError: false })
  })

  it('hears that a call is canceled, and that the job no longer waits', async () => {
    const stopped: string[] = []
    const wait: Tool = ({ name }, _req, signal) =>
      new Promise((resolve) => {
        signal.addEventListener('abort', () => {
          stopped.push(String(name))
          resolve('stopped')
        })
      })
    const server = kept(await startStreamable({ wait, echo }))
    const far = drive({ endpoint: server.url })
    await far.call('echo', { text: 'warm' })
    const stop = new AbortController()
    const calling = far.call('wait', { name: 'first' }, stop.signal)
    const other = far.call('wait', { name: 'second' })
    await posts(server, 7)
    stop.abort(new Error('enough'))
    await expect(calling).rejects.toThrow('enough')
    await until(() => stopped.includes('first'))
    await far.remote.close()
    await until(() => stopped.includes('second'))
    void other
  })

  it('whose server forgets the session is opened anew for the next call', async () => {
    const server = kept(await startStreamable({ echo }))
    const far = drive({ endpoint: server.url })
    expect(await far.call('echo', { text: 'a' })).toMatchObject(text('heard a'))
    server.sessions.clear()
    expect(await far.call('echo', { text: 'b' })).toMatchObject({ code: 'skill_died', message: saying('HTTP 404') })
    expect(await far.call('echo', { text: 'c' })).toMatchObject(text('heard c'))
  })
})

/** A server by hand: answers messages by their method; what is not given is answered as a server of one tool would. */
async function puppet(
  given: Readonly<Record<string, (req: IncomingMessage, res: ServerResponse, message: Message) => void>>,
): Promise<HttpServer> {
  return kept(
    await startHttp((req, res) => {
      let body = ''
      req.setEncoding('utf8').on('data', (part: string) => (body += part))
      req.on('end', () => {
        const message = (body === '' ? { method: req.method } : JSON.parse(body)) as Message
        const act = given[message.method] ?? standard[message.method]
        if (act === undefined) res.writeHead(req.method === 'POST' ? 202 : 405).end()
        else act(req, res, message)
      })
    }),
  )
}

interface Message {
  readonly id?: number
  readonly method: string
  readonly params?: { readonly name?: string }
}

function answer(res: ServerResponse, message: Message, result: object): void {
  res.writeHead(200, { 'content-type': 'application/json' })
  res.end(JSON.stringify({ jsonrpc: '2.0', id: message.id, result }))
}

const standard: Readonly<Record<string, (req: IncomingMessage, res: ServerResponse, message: Message) => void>> = {
  // As servers of the older line do: one that says nothing to it is waited for.
  'server/discover': (_req, res, { id }) => {
    res.writeHead(200, { 'content-type': 'application/json' })
    res.end(JSON.stringify({ jsonrpc: '2.0', id, error: { code: -32_601, message: 'Method not found' } }))
  },
  initialize: (_req, res, message) =>
    answer(res, message, {
      protocolVersion: '2025-06-18',
      capabilities: { tools: {} },
      serverInfo: { name: 'p', version: '1' },
    }),
  'tools/list': (_req, res, message) =>
    answer(res, message, { tools: [{ name: 'go', inputSchema: { type: 'object' } }] }),
}

describe('a server that misbehaves', () => {
  it.each([
    ['is not there', 'skill_start_failed', 'ECONNREFUSED', undefined],
    ['refuses the key', 'skill_start_failed', 'HTTP 401', 401],
    ['fails', 'skill_start_failed', 'HTTP 503', 503],
  ])('and %s is told of as %s', async (_what, code, words, status) => {
    const server = await puppet({ initialize: (_req, res) => void res.writeHead(status ?? 200).end('down') })
    if (status === undefined) await closers.pop()?.()
    expect(await drive({ endpoint: server.url }).call('go')).toMatchObject({ code, message: saying(words) })
  })

  it('and answers with a page is told of, and one that hangs is ended at its deadline', async () => {
    const page = await puppet({
      initialize: (_req, res) => void res.writeHead(200, { 'content-type': 'text/html' }).end('<h1>Hello</h1>'),
    })
    expect(await drive({ endpoint: page.url }).call('go')).toMatchObject({
      code: 'skill_start_failed',
      message: saying('text/html'),
    })
    const hanging = await puppet({ initialize: () => {} })
    const far = drive({ endpoint: hanging.url })
    const calling = far.call('go')
    await until(() => hanging.asked.length > 1)
    far.clock.leap(HOUR_MS)
    expect(await calling).toMatchObject({ code: 'skill_hung', message: saying('did not start within') })
  })

  it('and hangs in a call, or breaks off an answer, ends that call alone, and says so once (RC1)', async () => {
    let calls = 0
    const server = await puppet({
      'tools/call': (_req, res, message) => {
        calls += 1
        if (calls === 1) return
        if (calls === 2) {
          res.writeHead(200, { 'content-type': 'text/event-stream' }).write(': hello\n\n')
          res.end()
        } else answer(res, message, { content: [{ type: 'text', text: 'third' }] })
      },
    })
    const far = drive({ endpoint: server.url })
    const calling = far.call('go')
    await until(() => calls === 1)
    far.clock.leap(HOUR_MS)
    expect(await calling).toMatchObject({ code: 'skill_hung' })
    expect(await far.call('go')).toMatchObject({ code: 'skill_died', message: saying('ended an answer') })
    expect(await far.call('go')).toMatchObject(text('third'))
  })

  it('and refuses one call is heard, and goes on', async () => {
    let calls = 0
    const server = await puppet({
      'tools/call': (_req, res, message) => {
        calls += 1
        if (calls === 1) res.writeHead(429, { 'content-type': 'text/plain' }).end('slow down')
        else answer(res, message, { content: [{ type: 'text', text: 'second' }] })
      },
    })
    const far = drive({ endpoint: server.url })
    expect(await far.call('go')).toMatchObject({ isError: true, content: [{ text: saying('HTTP 429') }] })
    expect(await far.call('go')).toMatchObject(text('second'))
    expect(server.asked.filter(({ method }) => method === 'POST')).toHaveLength(6)
  })

  it('and says too much in one answer, or too often, is ended (RC3, GF4)', async () => {
    const flood = (chunk: string, type: string) => (_req: IncomingMessage, res: ServerResponse) => {
      res.writeHead(200, { 'content-type': type })
      const more = (): void => {
        while (!res.destroyed && res.write(chunk));
        if (!res.destroyed) res.once('drain', more)
      }
      more()
    }
    const event = `data: ${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/message', params: { level: 'info', data: 1 } })}\n\n`
    for (const act of [
      flood('x'.repeat(65_536), 'application/json'),
      flood(`data: ${'x'.repeat(65_536)}\n`, 'text/event-stream'),
      flood(event, 'text/event-stream'),
    ]) {
      const server = await puppet({ 'tools/call': act })
      // No time passes, so that it is too often however slowly it comes.
      const far = drive({ endpoint: server.url }, { clock: fakeClock() })
      expect(await far.call('go')).toMatchObject({ code: 'limit_exceeded' })
    }
  })

  it('and repeats the secret that it got says ***, in answers and in failures (RC2, RS2)', async () => {
    const secret = 'sesame-opens-1234'
    const leak = (req: IncomingMessage): string => String(req.headers['x-api-key'])
    const server = await puppet({
      'tools/call': (req, res, message) => {
        const said = { content: [{ type: 'text', text: `key ${leak(req)}` }], _meta: { [leak(req)]: 1 } }
        if (message.params?.name === 'fail') res.writeHead(500).end(`bad key ${leak(req)}`)
        else answer(res, message, said)
      },
    })
    const headers = { 'X-Api-Key': '${KEY}' }
    const far = drive({ endpoint: server.url, headers, requiredEnv: ['KEY'] }, { secrets: { KEY: secret } })
    expect(await far.call('go')).toMatchObject(text('key ***'))
    expect(await far.call('fail')).toMatchObject({ code: 'skill_died', message: saying('bad key ***') })
    expect(server.asked.map((one) => one.headers['x-api-key'])).toContain(secret)
    expect(JSON.stringify(far.told)).not.toContain(secret)
  })
})

describe('what is asked for a machine', () => {
  it('is no answer to its server that no human has given (RS5)', async () => {
    const heard: unknown[] = []
    const greet: Tool = async (_args, _req, _signal, ask) => {
      heard.push(await ask('Who?'))
      return 'greeted'
    }
    const server = kept(await startStreamable({ greet }))
    const replies: unknown[] = []
    const refuseReply: Parameters<typeof driveRemote>[1] = {
      refuseReply: async ({ skill, asked: words, replyHash }) => {
        replies.push([skill, words, replyHash])
        return 'no human gave it'
      },
    }
    const form = { message: 'Who?', requestedSchema: NAME_FORM }
    const part = { type: 'toolCall', callId: 'call_1_0', name: 'far/greet', args: {} } as const
    const question = elicitationQuestionOf(JOB, rootRunId(JOB, 0), part, form, 0)
    const reply = { action: 'accept', content: { name: 'Eve' } } as const
    const far = drive({ endpoint: server.url }, refuseReply)
    const result = await far.call('greet', {}, undefined, [{ question, reply, resumption: null }])
    expect(result).toMatchObject({
      code: 'skill_answer_refused',
      message: expect.stringContaining('since no human gave it'),
    })
    expect(replies).toEqual([['far', form, hashOf(reply)]])
    expect(heard).toEqual([])
  })

  it('is a list with all its pages for one leave, and no page that the server has not named (RS3)', async () => {
    const pages: Readonly<Record<string, JsonObject>> = {
      first: { resources: [{ uri: 'a:1', name: 'one' }], nextCursor: 'second' },
      second: { resources: [{ uri: 'a:2', name: 'two' }], nextCursor: 'third' },
      third: { resources: [{ uri: 'a:3', name: 'three' }] },
    }
    const listed: string[] = []
    const capabilities = { tools: {}, resources: {} }
    const server = kept(
      await startRpc({
        initialize: () => ({ protocolVersion: '2025-06-18', capabilities, serverInfo: { name: 'p', version: '1' } }),
        'tools/list': () => ({ tools: [] }),
        'resources/list': ({ cursor = 'first' }) => {
          listed.push(JSON.stringify(cursor))
          return pages[typeof cursor === 'string' ? cursor : ''] ?? {}
        },
      }),
    )
    const leaves: string[] = []
    const far = drive(
      { endpoint: server.url },
      { refuseCall: async ({ toolName }) => (leaves.push(toolName) > 1 ? 'nobody called it' : undefined) },
    )
    expect(await far.call('readResource')).toMatchObject(text('a:1 one\na:2 two\na:3 three'))
    expect(leaves).toEqual(['far/readResource'])
    for (const [id, cursor] of [
      [90, 'second'],
      [91, 'what the machine knows'],
    ] as const) {
      far.say({ jsonrpc: '2.0', id, method: 'resources/list', params: { cursor } })
      await until(() => JSON.stringify(far.told).includes(`"id":${id}`))
      expect(JSON.stringify(far.told.at(-1))).toContain('does not say plainly')
    }
    expect(listed).toEqual(['"first"', '"second"', '"third"'])
  })

  it('is a tool call only as the log has it, of a tool on offer (RS3)', async () => {
    const server = kept(await startStreamable({ echo, hidden: echo }))
    const asked: string[] = []
    const far = drive(
      { endpoint: server.url, omit: ['hidden'] },
      {
        refuseCall: async ({ toolName, argsHash }) => {
          asked.push(`${toolName} ${argsHash.slice(0, 4)}`)
          return asked.length === 1 ? undefined : 'nobody called it'
        },
      },
    )
    expect(await far.call('echo', { text: 'a' })).toMatchObject(text('heard a'))
    expect(await far.call('echo', { text: 'a' })).toMatchObject({
      isError: true,
      content: [{ text: 'nobody called it' }],
    })
    expect(await far.call('hidden')).toMatchObject({ isError: true, content: [{ text: saying('is not on offer') }] })
    expect(asked).toHaveLength(2)
    const before = server.asked.length
    for (const [frame, words] of [
      [{ jsonrpc: '2.0', id: 90, method: 'logging/setLevel', params: { level: 'debug' } }, 'is not passed on'],
      [{ jsonrpc: '2.0', id: 91, method: 'tools/call', params: { name: ['echo'] } }, 'does not say plainly'],
      [
        { jsonrpc: '2.0', id: 92, method: 'tools/call', params: { name: 'echo', arguments: [] } },
        'does not say plainly',
      ],
      [{ jsonrpc: '2.0', id: 93, method: 'tools/call' }, 'does not say plainly'],
      [{ jsonrpc: '2.0', id: 94, method: ['tools/call'] }, 'is not passed on'],
    ] as const) {
      far.say(frame as never)
      await until(() => JSON.stringify(far.told).includes(`"id":${frame.id}`))
      expect(JSON.stringify(far.told.at(-1))).toContain(words)
    }
    // A call without an id has nobody to be refused to.
    far.say({ jsonrpc: '2.0', method: 'tools/call', params: { name: 'echo', arguments: { text: 'quiet' } } })
    far.say({ jsonrpc: '2.0', id: 95, method: 'no/such' })
    await until(() => JSON.stringify(far.told).includes('"id":95'))
    expect(server.asked.length).toBe(before)
  })

  it('is nothing without the secret, for a skill that is none, or that was not opened (RS1, RS2)', async () => {
    const server = kept(await startStreamable({ echo }))
    const headers = { Authorization: 'Bearer ${TOKEN}' }
    const far = drive({ endpoint: server.url, headers, requiredEnv: ['TOKEN'] })
    expect(await far.call('echo')).toMatchObject({ code: 'secret_missing', message: saying('needs TOKEN') })
    const broken = drive({ endpoint: server.url, headers, requiredEnv: ['TOKEN'] }, { secrets: { TOKEN: 'a\r\nb: c' } })
    expect(await broken.call('echo')).toMatchObject({ code: 'secret_missing' })
    far.remote.take({ type: 'open', expertKey: 'tester@1.0.0', skill: 'constructor' })
    expect(far.told.at(-1)).toMatchObject({ type: 'closed', code: 'skill_not_found' })
    far.remote.take({ type: 'frame', expertKey: 'other', skill: 'far', frame: {} })
    expect(far.told.at(-1)).toMatchObject({ type: 'closed', code: 'skill_died' })
    expect(server.asked).toEqual([])
  })

  it('is gone with the machine (RS4)', async () => {
    const server = kept(await startStreamable({ echo }))
    const far = drive({ endpoint: server.url })
    await far.call('echo')
    await far.remote.close()
    const { length } = far.told
    far.open()
    far.say({ jsonrpc: '2.0', id: 1, method: 'ping' })
    await new Promise((next) => setImmediate(next))
    expect(far.told).toHaveLength(length)
  })
})

describe('an address', () => {
  const none = { networks: new Networks([]) }

  it('of this computer, of a private network or of a cloud is not reached, however it is written (GF3)', async () => {
    const server = kept(await startStreamable({ echo }))
    const { port } = server
    for (const host of [
      '127.0.0.1',
      '127.1',
      '0x7f.1',
      '2130706433',
      '[::1]',
      '[::ffff:127.0.0.1]',
      '[::ffff:7f00:1]',
      '[64:ff9b::7f00:1]',
      '[2002:7f00:1::]',
      '0.0.0.0',
      '[::]',
      'localhost',
      '169.254.169.254',
      '10.0.0.1',
      '100.100.100.200',
      '[fe80::1]',
      '[fd00:ec2::254]',
    ])
      for (const scheme of ['http', 'https'])
        expect(
          await drive({ endpoint: `${scheme}://${host}:${port}/mcp` }, none).call('echo'),
          `${scheme}://${host}`,
        ).toMatchObject({ code: 'skill_address_refused' })
    expect(server.asked).toEqual([])
  })

  it('that a name stands for is looked at each time that it is connected to (GF2)', async () => {
    const server = kept(await startStreamable({ echo }))
    const answers = ['93.184.215.14', '127.0.0.1']
    const looked: string[] = []
    const lookup = async (hostname: string) => {
      looked.push(hostname)
      return [{ address: answers[looked.length - 1] ?? '10.0.0.1', family: 4 }]
    }
    const endpoint = `https://rebind.example.com:${server.port}/mcp`
    const far = drive({ endpoint }, { ...none, lookup })
    const calling = far.call('echo')
    await until(() => looked.length > 0)
    // Whoever answers there, or nobody: it was let go there.
    far.clock.leap(HOUR_MS)
    const first = await calling
    expect('code' in first && first.code).not.toBe('skill_address_refused')
    const second = drive({ endpoint }, { ...none, lookup })
    expect(await second.call('echo')).toMatchObject({ code: 'skill_address_refused', message: saying('127.0.0.1') })
    const mixed = async () => [
      { address: '93.184.215.14', family: 4 },
      { address: '10.0.0.1', family: 4 },
    ]
    expect(await drive({ endpoint }, { ...none, lookup: mixed }).call('echo')).toMatchObject({
      code: 'skill_address_refused',
    })
    expect(server.asked).toEqual([])
  })

  it('that the operator allows is reached by its name, too', async () => {
    const server = kept(await startStreamable({ echo }))
    const lookup = async () => [{ address: '127.0.0.1', family: 4 }]
    const far = drive({ endpoint: `http://mcp.internal:${server.port}/mcp` }, { lookup })
    expect(await far.call('echo', { text: 'x' })).toMatchObject(text('heard x'))
  })

  it('that is another of the same origin is gone to', async () => {
    const server = await puppet({
      initialize: (req, res, message) => {
        if (req.url === '/mcp') res.writeHead(307, { location: '/mcp/' }).end()
        else standard['initialize']?.(req, res, message)
      },
    })
    expect(await drive({ endpoint: server.url }).list()).toMatchObject([{ name: 'go' }])
    expect(server.asked.map(({ path }) => path)).toContain('/mcp/')
  })

  it('that a server sends its client on to is not gone to, with the key or without (GF1)', async () => {
    const elsewhere = kept(await startStreamable({ echo }))
    for (const status of [301, 302, 303, 307, 308]) {
      const server = await puppet({
        initialize: (_req, res) => void res.writeHead(status, { location: elsewhere.url }).end(),
      })
      expect(await drive({ endpoint: server.url }).call('echo')).toMatchObject({ code: 'skill_start_failed' })
    }
    const stream = await puppet({
      GET: (_req, res) => {
        res.writeHead(200, { 'content-type': 'text/event-stream' })
        res.write(`event: endpoint\ndata: ${elsewhere.url}\n\n`)
      },
    })
    expect(await drive({ type: 'mcpSseSkill', endpoint: stream.url }).call('echo')).toMatchObject({
      code: 'skill_start_failed',
    })
    expect(elsewhere.asked).toEqual([])
  })
})

async function posts(server: HttpServer, count: number): Promise<void> {
  await until(() => server.asked.filter(({ method }) => method === 'POST').length >= count)
}
