/** Bundles over REST, both ways as a stream: neither is ever in memory as a whole. */
import type { IncomingMessage } from 'node:http'
import { Hono } from 'hono'
import { BUNDLE_MEDIA_TYPE, BUNDLE_SUFFIX } from '../../schema/bundle.ts'
import { isRefusal, PlatformError, refusalError } from '../../schema/error.ts'
import { getJob, route, type RestBindings, type RestContext } from './rest-request.ts'
import { printExpertJob } from './rest-shape.ts'

async function exportJob(c: RestContext): Promise<Response> {
  const { bundles, caller, signal } = c.env.call
  const { id } = await getJob(c)
  const files = c.req.query('files')
  if (files !== undefined && files !== 'true' && files !== 'false')
    throw new PlatformError('input_invalid', `files is "${files.slice(0, 100)}"; it must be true or false.`)
  const lines = await bundles.export(caller.application.id, id, { files: files !== 'false' })
  return new Response(streamLines(lines, signal), {
    headers: {
      'content-type': BUNDLE_MEDIA_TYPE,
      'content-disposition': `attachment; filename="${id}${BUNDLE_SUFFIX}"`,
      'x-content-type-options': 'nosniff',
      'cache-control': 'private, no-store',
    },
  })
}

/** A line is asked for only when the reader has room. What fails midway breaks the stream, which then has no end line. */
function streamLines(lines: AsyncGenerator<string, void, void>, signal: AbortSignal): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      signal.throwIfAborted()
      const next = await lines.next()
      if (next.done === true) controller.close()
      else controller.enqueue(encoder.encode(next.value))
    },
    async cancel() {
      await lines.return()
    },
  })
}

async function importJob(c: RestContext): Promise<Response> {
  const { bundles, caller } = c.env.call
  const { incoming } = c.env
  const [type] = (incoming.headers['content-type'] ?? '').split(';')
  if (type?.trim().toLowerCase() !== BUNDLE_MEDIA_TYPE)
    throw new PlatformError('media_type_unsupported', `A bundle must have the type ${BUNDLE_MEDIA_TYPE}.`)
  if ((incoming.headers['content-encoding'] ?? 'identity') !== 'identity')
    throw new PlatformError('media_type_unsupported', 'A body must not be compressed.')
  const job = await bundles.import(caller.application.id, chunksOf(incoming))
  if (isRefusal(job)) throw refusalError(job)
  return c.json({ data: { expertJob: printExpertJob(job) } }, 201)
}

/** Leaves the connection open when the reader stops early: the answer goes out on it. */
async function* chunksOf(incoming: IncomingMessage): AsyncGenerator<Uint8Array, void, void> {
  try {
    for await (const chunk of incoming.iterator({ destroyOnReturn: false })) yield chunk as Buffer
  } catch (cause) {
    throw new PlatformError('input_invalid', 'The body ended before it was whole.', { cause })
  }
}

/** The route that exports below a job, and the one that imports. */
export function openBundleRoutes(): Hono<{ Bindings: RestBindings }> {
  const app = new Hono<{ Bindings: RestBindings }>()
  app.get('/:id/bundle', route(exportJob))
  app.post('/import', route(importJob))
  return app
}
