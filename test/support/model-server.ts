/** A provider of models that does what a test says: one script a request, and a count of what came and went. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export type Script = (response: ServerResponse, request: IncomingMessage) => void

export interface ModelServer extends AsyncDisposable {
  readonly url: string
  /** Scripts for the next requests, in order; the last one is for all that follow. */
  readonly play: (...scripts: readonly Script[]) => void
  readonly requests: () => number
  /** Resolves when the client has closed a connection whose answer was not finished. */
  readonly hungUp: Promise<void>
}

export async function openModelServer(): Promise<ModelServer> {
  let scripts: readonly Script[] = []
  let requests = 0
  const hungUp = Promise.withResolvers<void>()
  const server = createServer((request, response) => {
    const script = scripts[Math.min(requests, scripts.length - 1)]
    requests += 1
    response.on('close', () => {
      if (!response.writableFinished) hungUp.resolve()
    })
    request.resume().on('end', () => script?.(response, request))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    play: (...next) => {
      scripts = next
    },
    requests: () => requests,
    hungUp: hungUp.promise,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

export function status(code: number, body: unknown, headers: Readonly<Record<string, string>> = {}): Script {
  return (response) => {
    response.writeHead(code, { 'content-type': 'application/json', ...headers })
    response.end(typeof body === 'string' ? body : JSON.stringify(body))
  }
}

/** Server-sent events; `then` says how the stream goes on after them. */
export function stream(events: readonly unknown[], then: 'end' | 'silence' | 'cut' = 'end'): Script {
  return (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const text = events
      .map((event) => `data: ${typeof event === 'string' ? event : JSON.stringify(event)}\n\n`)
      .join('')
    response.write(text, () => {
      if (then === 'end') response.end()
      if (then === 'cut') response.destroy()
    })
  }
}

/** Chunks of chat completions that say `texts`, one each; `reason` null leaves the end out. */
export function chatChunks(texts: readonly string[], reason: string | null = 'stop'): readonly unknown[] {
  const chunk = (delta: object, finish_reason: string | null) => ({
    id: 'c1',
    object: 'chat.completion.chunk',
    created: 1,
    model: 'm',
    choices: [{ index: 0, delta, finish_reason }],
  })
  const said = texts.map((content) => chunk({ role: 'assistant', content }, null))
  return reason === null ? said : [...said, chunk({}, reason), '[DONE]']
}
