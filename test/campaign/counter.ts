/** The counting server: outside of every machine, it hears each effect as it happens, and never dies. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

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
}

export async function openCounter(): Promise<Counter> {
  const effects: Effect[] = []
  const byKey = new Map<string, Effect[]>()
  const server = createServer((request, response) => {
    let text = ''
    request.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    request.on('end', () => {
      const { tool, key } = JSON.parse(text) as { tool: string; key: string | null }
      const effect = { tool, key, at: Date.now() }
      effects.push(effect)
      if (key !== null) byKey.set(key, [...(byKey.get(key) ?? []), effect])
      response.end('counted')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    effects,
    of: (key) => byKey.get(key) ?? [],
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
