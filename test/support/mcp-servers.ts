/** MCP servers on ports of the loopback: both lines of the SDK, both protocols of HTTP, and what they were asked. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { getRequestListener } from '@hono/node-server'
import { Server as OldServer } from '@modelcontextprotocol/sdk/server/index.js'
import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { CallToolRequestSchema, ListToolsRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { createMcpHandler, inputRequired, McpServer, type CreateMcpHandlerOptions } from '@modelcontextprotocol/server'
import { z } from 'zod'
import type { JsonObject } from '../../schema/json.ts'
import { freePort } from './free-port.ts'

export interface AskedRequest {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
}

export interface HttpServer {
  readonly url: string
  readonly port: number
  /** Every request, in order. */
  readonly asked: AskedRequest[]
  close(): Promise<void>
}

/** A server that answers by `answer`; its URL ends with `path`. */
export async function startHttp(
  answer: (req: IncomingMessage, res: ServerResponse) => void,
  path = '/mcp',
): Promise<HttpServer> {
  const asked: AskedRequest[] = []
  const server: Server = createServer((req, res) => {
    asked.push({ method: req.method ?? '', path: req.url ?? '', headers: req.headers })
    answer(req, res)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  return {
    url: `http://127.0.0.1:${port}${path}`,
    port,
    asked,
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

export const NAME_FORM = { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] } as const

export type Tool = (
  args: Record<string, unknown>,
  req: IncomingMessage | undefined,
  signal: AbortSignal,
  /** Asks whoever is at the client for a name. */
  ask: (message: string) => Promise<unknown>,
) => Promise<string>

/** The tools of a test as a server of the older SDK. */
function oldServer(tools: Readonly<Record<string, Tool>>, req: IncomingMessage): OldServer {
  const server = new OldServer({ name: 'old', version: '1.0.0' }, { capabilities: { tools: {} } })
  server.setRequestHandler(ListToolsRequestSchema, async () => ({
    tools: Object.keys(tools).map((name) => ({ name, inputSchema: { type: 'object' as const } })),
  }))
  server.setRequestHandler(CallToolRequestSchema, async ({ params }, { signal, requestId }) => {
    const requestedSchema = NAME_FORM as never // its type knows no readonly lists
    const ask = (message: string) =>
      server.elicitInput({ message, requestedSchema }, { relatedRequestId: requestId } as never)
    const text = await tools[params.name]?.(params.arguments ?? {}, req, signal, ask)
    return { content: [{ type: 'text', text: text ?? 'no such tool' }] }
  })
  return server
}

/** The older SDK over Streamable HTTP, with sessions; `sessions` may be cleared to forget them. */
export async function startStreamable(
  tools: Readonly<Record<string, Tool>>,
): Promise<HttpServer & { readonly sessions: Map<string, StreamableHTTPServerTransport> }> {
  const sessions = new Map<string, StreamableHTTPServerTransport>()
  let count = 0
  const answer = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const id = req.headers['mcp-session-id']
    const known = typeof id === 'string' ? sessions.get(id) : undefined
    if (known !== undefined) return known.handleRequest(req, res)
    if (id !== undefined) return void res.writeHead(404).end('no such session')
    const transport: StreamableHTTPServerTransport = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => `session-${count++}`,
      onsessioninitialized: (given) => void sessions.set(given, transport),
      onsessionclosed: (given) => void sessions.delete(given),
    })
    await oldServer(tools, req).connect(transport as never)
    await transport.handleRequest(req, res)
  }
  return { ...(await startHttp((req, res) => void answer(req, res))), sessions }
}

/** The older SDK over the older protocol: an event stream and posts. */
export async function startSse(tools: Readonly<Record<string, Tool>>): Promise<HttpServer> {
  const open = new Map<string, SSEServerTransport>()
  const answer = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const url = new URL(req.url ?? '/', 'http://localhost')
    if (req.method === 'GET') {
      const transport = new SSEServerTransport('/messages', res)
      open.set(transport.sessionId, transport)
      return oldServer(tools, req).connect(transport)
    }
    const transport = open.get(url.searchParams.get('sessionId') ?? '')
    if (req.method !== 'POST' || transport === undefined) return void res.writeHead(405).end()
    await transport.handlePostMessage(req, res)
  }
  return startHttp((req, res) => void answer(req, res), '/sse')
}

/** A server of the older line that answers in plain JSON what it is given, and that it knows no other method. */
export async function startRpc(
  methods: Readonly<Record<string, (params: JsonObject) => JsonObject>>,
): Promise<HttpServer> {
  return startHttp((req, res) => {
    const chunks: Buffer[] = []
    req.on('data', (chunk: Buffer) => chunks.push(chunk))
    req.on('end', () => {
      const said = Buffer.concat(chunks).toString()
      const asked = req.method === 'POST' ? (JSON.parse(said) as Asked) : undefined
      const answer = asked === undefined ? undefined : methods[asked.method]?.(asked.params ?? {})
      const error = { code: -32_601, message: 'Method not found' }
      const status = asked === undefined ? 405 : asked.id === undefined ? 202 : 200
      const body = { jsonrpc: '2.0', id: asked?.id ?? null, ...(answer === undefined ? { error } : { result: answer }) }
      res.writeHead(status, { 'content-type': 'application/json' })
      res.end(status === 200 ? JSON.stringify(body) : '')
    })
  })
}

interface Asked {
  readonly id?: number
  readonly method: string
  readonly params?: JsonObject
}

/** The newer SDK, as its own handler serves HTTP; with tools that mark arguments for headers, if asked. */
export async function startNewer(
  options: CreateMcpHandlerOptions = {},
  more: { readonly marks?: boolean } = {},
): Promise<HttpServer> {
  const served = createMcpHandler(() => {
    const server = new McpServer({ name: 'new', version: '1.0.0' })
    const output = z.object({ sum: z.number() })
    server.registerTool(
      'add',
      { description: 'Adds.', inputSchema: z.object({ a: z.number(), b: z.number() }), outputSchema: output },
      async ({ a, b }) => ({ content: [{ type: 'text', text: String(a + b) }], structuredContent: { sum: a + b } }),
    )
    if (more.marks === true) registerMarked(server)
    server.registerTool('greet', { description: 'Asks.', inputSchema: z.object({}) }, async (_args, ctx) => {
      const { name } = ctx.mcpReq.inputResponses ?? {}
      if (name !== undefined)
        return { content: [{ type: 'text', text: JSON.stringify([name, ctx.mcpReq.requestState()]) }] }
      const asked = inputRequired.elicit({ message: 'Who?', requestedSchema: NAME_FORM as never })
      return inputRequired({ inputRequests: { name: asked }, requestState: 'as I was' })
    })
    return server
  }, options)
  const listener = getRequestListener((request) => served.fetch(request))
  return startHttp((req, res) => void listener(req, res))
}

/** One tool that can be called, and one that marks what MCP forbids. */
function registerMarked(server: McpServer): void {
  const region = z.string().meta({ 'x-mcp-header': 'Region' })
  server.registerTool('look', { description: 'Looks.', inputSchema: z.object({ region }) }, async (args) => ({
    content: [{ type: 'text', text: args.region }],
  }))
  const many = z.array(z.string().meta({ 'x-mcp-header': 'Many' }))
  server.registerTool('crowd', { description: 'Cannot be called.', inputSchema: z.object({ many }) }, async () => ({
    content: [],
  }))
}

/** The reference server in a process of its own, in one of its modes of HTTP. */
export async function startEverything(
  mode: 'streamableHttp' | 'sse',
): Promise<{ url: string; close(): Promise<void> }> {
  const manifest = createRequire(import.meta.url).resolve('@modelcontextprotocol/server-everything/package.json')
  const port = await freePort()
  const child = spawn(process.execPath, [join(manifest, '../dist/index.js'), mode], {
    env: { PATH: process.env['PATH'], PORT: String(port) },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  await new Promise<void>((ready, fail) => {
    child.stderr.setEncoding('utf8').on('data', (text: string) => (/port \d+/.test(text) ? ready() : undefined))
    child.once('exit', (code) => fail(new Error(`server-everything ended with ${code}`)))
  })
  return {
    url: `http://127.0.0.1:${port}${mode === 'sse' ? '/sse' : '/mcp'}`,
    async close() {
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
  }
}
