/**
 * The counting server: outside of every machine, it hears each effect as it happens, and never dies. It is a skill on the
 * network (MCP over Streamable HTTP, with sessions), so that machines without one reach it through the control plane.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Effect {
  readonly tool: string
  /** The call's key; null for a call that has none. */
  readonly key: string | null
  /** Epoch ms, when it was heard. */
  readonly at: number
}

export interface Counter extends AsyncDisposable {
  readonly url: string
  readonly effects: readonly Effect[]
  of(key: string): readonly Effect[]
  /** Breaks off one of the calls that are under way, as a skill that dies in it; false when there is none. */
  breakOff(draw: (below: number) => number): boolean
}

interface Message {
  readonly id?: number | string
  readonly method?: string
  readonly params?: {
    readonly name?: string
    readonly requestId?: number | string
    readonly protocolVersion?: string
    readonly arguments?: { readonly before?: number; readonly after?: number }
    readonly _meta?: Readonly<Record<string, unknown>>
  }
}

/** A call under way; what it still waits for does not happen once nobody is there to hear of it. */
interface Open {
  readonly peer: string
  readonly id: number | string
  readonly stop: AbortController
  readonly response: ServerResponse
}

const inputSchema = { type: 'object', properties: { before: { type: 'number' }, after: { type: 'number' } } }
const tools = ['look', 'put', 'pay', 'note'].map((name) => ({ name, description: `Does ${name}.`, inputSchema }))

export async function openCounter(): Promise<Counter> {
  const effects: Effect[] = []
  const byKey = new Map<string, Effect[]>()
  const open = new Set<Open>()
  let peers = 0

  const count = (tool: string, key: string | null): void => {
    const effect = { tool, key, at: Date.now() }
    effects.push(effect)
    if (key !== null) byKey.set(key, [...(byKey.get(key) ?? []), effect])
  }

  const call = async (one: Open, { name = '', arguments: args = {}, _meta }: NonNullable<Message['params']>) => {
    const { signal } = one.stop
    const key = _meta?.['senmon.dev/call-key']
    await sleep(args.before ?? 0, undefined, { signal })
    count(name, typeof key === 'string' ? key : null)
    await sleep(args.after ?? 0, undefined, { signal })
    return { content: [{ type: 'text', text: `${name} done` }] }
  }

  const stopAll = (isMeant: (one: Open) => boolean): void => {
    for (const one of open) if (isMeant(one)) one.stop.abort()
  }

  const answer = async (peer: string, { id, method, params = {} }: Message, response: ServerResponse) => {
    const say = (body: object): void => {
      response.writeHead(200, { 'content-type': 'application/json', 'mcp-session-id': peer })
      response.end(JSON.stringify({ jsonrpc: '2.0', id, ...body }))
    }
    if (method === 'notifications/cancelled') stopAll((one) => one.peer === peer && one.id === params.requestId)
    if (id === undefined) return void response.writeHead(202).end()
    if (method === 'initialize') {
      const { protocolVersion = '2025-06-18' } = params
      const us = { name: 'witness', version: '1.0.0' }
      return say({ result: { protocolVersion, capabilities: { tools: {} }, serverInfo: us } })
    }
    if (method === 'tools/list') return say({ result: { tools } })
    if (method !== 'tools/call') return say({ error: { code: -32_601, message: `There is no ${method}.` } })
    const one: Open = { peer, id, stop: new AbortController(), response }
    open.add(one)
    response.on('close', () => one.stop.abort())
    try {
      const result = await call(one, params)
      open.delete(one)
      return say({ result })
    } catch {
      open.delete(one)
      return void response.destroy()
    }
  }

  const hear = (request: IncomingMessage, response: ServerResponse): void => {
    const given = request.headers['mcp-session-id']
    const peer = typeof given === 'string' ? given : `peer-${(peers += 1)}`
    if (request.method === 'DELETE') stopAll((one) => one.peer === peer)
    if (request.method !== 'POST') return void response.writeHead(request.method === 'DELETE' ? 204 : 405).end()
    let text = ''
    request.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    request.on('end', () => void answer(peer, JSON.parse(text) as Message, response))
  }

  const server = createServer(hear)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`,
    effects,
    of: (key) => byKey.get(key) ?? [],
    breakOff(draw) {
      const victim = [...open][draw(Math.max(1, open.size))]
      victim?.stop.abort()
      return victim !== undefined
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
