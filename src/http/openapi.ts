/** The OpenAPI description of the REST routes, its bodies printed from the very schemas that parse them. */
import { z } from 'zod'
import { BUNDLE_MEDIA_TYPE } from '../../schema/bundle.ts'
import { continueSchema, createSchema, forkSchema } from './rest-request.ts'

const error = {
  type: 'object',
  required: ['code', 'error', 'reason'],
  properties: {
    code: { type: 'integer', description: 'The HTTP status.' },
    error: { type: 'string', description: 'The fact, as a code that never changes.' },
    reason: { type: 'string', description: 'One sentence.' },
  },
}

type Route = readonly [
  method: 'get' | 'post',
  path: string,
  summary: string,
  body?: z.ZodType | undefined,
  produces?: string,
  /** The type of a body that is no JSON. */
  consumes?: string,
]

const ROUTES: readonly Route[] = [
  ['post', '/expert_jobs', 'Create a job', createSchema],
  ['get', '/expert_jobs', 'List jobs, newest first'],
  ['get', '/expert_jobs/{id}', 'Show a job'],
  ['post', '/expert_jobs/{id}/continue', 'Continue a job: a query, an answer, a raised limit', continueSchema],
  ['post', '/expert_jobs/{id}/cancel', 'Cancel a job'],
  ['post', '/expert_jobs/{id}/fork', 'Fork a job: a new one goes on from a checkpoint', forkSchema],
  ['get', '/expert_jobs/{id}/bundle', 'Export a job as a bundle', undefined, BUNDLE_MEDIA_TYPE],
  ['post', '/expert_jobs/import', 'Import a bundle', undefined, 'application/json', BUNDLE_MEDIA_TYPE],
  ['get', '/expert_jobs/{id}/checkpoints', 'List checkpoints, oldest first'],
  ['get', '/expert_jobs/{id}/checkpoints/stream', 'Stream checkpoints', undefined, 'text/event-stream'],
  ['get', '/expert_jobs/{id}/checkpoints/{checkpointId}', 'Show a checkpoint'],
  ['get', '/expert_jobs/{id}/workspace_instance', "Show a job's workspace"],
  ['get', '/expert_jobs/{id}/workspace_instance/items', 'List files and directories'],
  ['get', '/expert_jobs/{id}/workspace_instance/items/find', 'Find an item by path'],
  ['get', '/expert_jobs/{id}/workspace_instance/items/{itemId}', 'Show an item'],
  [
    'get',
    '/expert_jobs/{id}/workspace_instance/items/{itemId}/download',
    'Download a file',
    undefined,
    'application/octet-stream',
  ],
]

const QUERIES: Readonly<Record<string, readonly string[]>> = {
  '/expert_jobs': ['take', 'skip', 'filter'],
  '/expert_jobs/{id}/bundle': ['files'],
  '/expert_jobs/{id}/checkpoints': ['take', 'skip'],
  '/expert_jobs/{id}/checkpoints/stream': ['after'],
  '/expert_jobs/{id}/workspace_instance/items': ['take', 'skip', 'path'],
  '/expert_jobs/{id}/workspace_instance/items/find': ['path'],
}

/** OpenAPI 3.1; the same routes answer under `/api/studio/v1`. */
export function printOpenApi(): object {
  const paths: Record<string, Record<string, object>> = {}
  for (const route of ROUTES) paths[route[1]] = { ...paths[route[1]], [route[0]]: operationOf(route) }
  return {
    openapi: '3.1.0',
    info: { title: 'Senmon: jobs over REST', version: '1' },
    servers: [{ url: '/' }, { url: '/api/studio/v1' }],
    security: [{ key: [] }],
    paths,
    components: { securitySchemes: { key: { type: 'http', scheme: 'bearer' } }, schemas: { Error: error } },
  }
}

function operationOf([method, path, summary, body, produces = 'application/json', consumes]: Route): object {
  const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }))
  const inQuery = method === 'get' ? (QUERIES[path] ?? []) : []
  return {
    summary,
    parameters: [...inPath, ...inQuery.map((name) => ({ name, in: 'query', schema: { type: 'string' } }))],
    ...(body === undefined
      ? {}
      : {
          requestBody: {
            required: true,
            content: { 'application/json': { schema: z.toJSONSchema(body, { io: 'input', unrepresentable: 'any' }) } },
          },
        }),
    ...(consumes === undefined
      ? {}
      : { requestBody: { required: true, content: { [consumes]: { schema: { type: 'string' } } } } }),
    responses: {
      [(path === '/expert_jobs' || consumes !== undefined) && method === 'post' ? '201' : '200']: {
        description: summary,
        content: { [produces]: { schema: produces === 'application/json' ? { type: 'object' } : { type: 'string' } } },
      },
      default: {
        description: 'Why not',
        content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
      },
    },
  }
}
