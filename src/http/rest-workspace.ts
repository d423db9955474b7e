/** A job's files over REST: read by item id, never by a path of the host. */
import { Hono } from 'hono'
import { PlatformError } from '../../schema/error.ts'
import type { JobSummary } from '../job/job-summary.ts'
import { parseItemId, type WorkspaceItem } from '../workspace/workspaces.ts'
import { getJob, pageSchema, parse, route, type RestBindings, type RestContext } from './rest-request.ts'
import { printItem } from './rest-shape.ts'

async function getWorkspace(c: RestContext): Promise<Response> {
  const { workspaces, secrets, caller } = c.env.call
  const job = await getJob(c)
  const items = await workspaces.list(job, { under: null, first: 1000, after: null })
  const names = await secrets.list(caller.application.id)
  return c.json({
    data: {
      workspaceInstance: {
        type: 'workspaceInstance',
        id: job.id,
        expertJobId: job.id,
        applicationId: job.applicationId,
        treeHash: job.treeHash,
        inputTreeHash: job.inputTreeHash,
        items: items.map((item) => printItem(item, job)),
        countItems: items.length,
        envVariables: [],
        envSecrets: names.map(({ name }) => name),
        createdAt: new Date(job.createdAt).toISOString(),
        updatedAt: new Date(job.updatedAt).toISOString(),
      },
    },
  })
}

async function listItems(c: RestContext): Promise<Response> {
  const { workspaces } = c.env.call
  const { take, skip } = parse(pageSchema, c.req.query())
  const job = await getJob(c)
  const under = c.req.query('path') ?? null
  const found = await workspaces.list(job, { under, first: skip + take + 1, after: null })
  return c.json({
    data: { workspaceItems: found.slice(skip, skip + take).map((item) => printItem(item, job)) },
    meta: { total: found.length, take, skip },
  })
}

async function findItems(c: RestContext): Promise<Response> {
  const job = await getJob(c)
  const item = await c.env.call.workspaces.find(job, c.req.query('path') ?? '')
  return c.json({ data: { workspaceItems: item === undefined ? [] : [printItem(item, job)] } })
}

async function getItem(c: RestContext, job: JobSummary): Promise<WorkspaceItem> {
  const id = c.req.param('itemId') ?? ''
  const path = parseItemId(id)
  const item = path === undefined ? undefined : await c.env.call.workspaces.find(job, path)
  if (item === undefined)
    throw new PlatformError('item_not_found', `The workspace of ${job.id} has no item ${id.slice(0, 200)}.`)
  return item
}

async function download(c: RestContext): Promise<Response> {
  const job = await getJob(c)
  const item = await getItem(c, job)
  const bytes = await c.env.call.workspaces.read(item)
  const name = item.path.split('/').at(-1) ?? 'file'
  // What an expert wrote must never run as a page of this origin, whatever its name or content says.
  return new Response(Uint8Array.from(bytes), {
    headers: {
      'content-type': 'application/octet-stream',
      'content-disposition': `attachment; filename="${name.replaceAll(/[^\w.-]/g, '_')}"; filename*=UTF-8''${encode(name)}`,
      'content-security-policy': "default-src 'none'; sandbox",
      'x-content-type-options': 'nosniff',
      'cache-control': 'private, no-store',
    },
  })
}

const encode = (name: string) =>
  encodeURIComponent(name.toWellFormed()).replaceAll(
    /['()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  )

async function showItem(c: RestContext): Promise<Response> {
  const job = await getJob(c)
  return c.json({ data: { workspaceItem: printItem(await getItem(c, job), job) } })
}

/** The routes under a job's `workspace_instance`. */
export function openWorkspaceRoutes(): Hono<{ Bindings: RestBindings }> {
  const app = new Hono<{ Bindings: RestBindings }>()
  app.get('/:id/workspace_instance', route(getWorkspace))
  app.get('/:id/workspace_instance/items', route(listItems))
  app.get('/:id/workspace_instance/items/find', route(findItems))
  app.get('/:id/workspace_instance/items/:itemId', route(showItem))
  app.get('/:id/workspace_instance/items/:itemId/download', route(download))
  return app
}
