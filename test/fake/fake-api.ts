/** The API as the command line reaches it, in memory: answers of GraphQL, and streams that break where they are told to. */

export interface Connection {
  readonly after: number
}

export interface FakeApi {
  readonly fetchFn: typeof fetch
  readonly connections: readonly Connection[]
  readonly requests: readonly { readonly query: string; readonly variables: Record<string, unknown> }[]
}

export interface FakeEvent {
  readonly seq: number
  readonly type: string
  readonly data?: Record<string, unknown>
  readonly [member: string]: unknown
}

interface Script {
  /** The data for a query or mutation, or a whole Response. */
  answer(query: string, variables: Record<string, unknown>): unknown
  /** What a stream sends that begins after `after`; a string is the way it ends: `complete`, `break`. */
  stream?(after: number, connection: number): readonly (FakeEvent | 'complete' | 'break')[]
}

export function fakeApi(script: Script): FakeApi {
  const connections: Connection[] = []
  const requests: { query: string; variables: Record<string, unknown> }[] = []

  const fetchFn = (async (_url: string, init: RequestInit) => {
    const { query, variables } = JSON.parse(init.body as string) as {
      query: string
      variables: Record<string, unknown>
    }
    const accept = new Headers(init.headers).get('accept') ?? ''
    if (!accept.includes('text/event-stream')) {
      requests.push({ query, variables })
      const answer = script.answer(query, variables)
      return answer instanceof Response ? answer : Response.json({ data: answer })
    }
    const after = Number(variables['after'])
    connections.push({ after })
    const frames = script.stream?.(after, connections.length) ?? ['complete']
    return new Response(streamOf(frames), { headers: { 'content-type': 'text/event-stream' } })
  }) as typeof fetch

  return { fetchFn, connections, requests }
}

function streamOf(frames: readonly (FakeEvent | 'complete' | 'break')[]): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  const rest = [...frames]
  return new ReadableStream({
    pull(controller) {
      const frame = rest.shift()
      if (frame === 'break') controller.error(new TypeError('the connection is gone'))
      else if (frame === 'complete' || frame === undefined) {
        if (frame === 'complete') controller.enqueue(encoder.encode('event: complete\ndata: \n\n'))
        controller.close()
      } else {
        const event = {
          runId: null,
          expertKey: null,
          stepNumber: null,
          data: {},
          hash: '',
          at: new Date(0).toISOString(),
          ...frame,
        }
        controller.enqueue(encoder.encode(`event: next\ndata: ${JSON.stringify({ data: { events: event } })}\n\n`))
      }
    },
  })
}
