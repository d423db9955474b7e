/** The files of a job: its read-only input and what its experts made. */
import { parseId } from '../../schema/id.ts'
import type { JobSummary } from '../job/job-summary.ts'
import type { WorkspaceItem } from '../workspace/workspaces.ts'
import { builder, firstSchema } from './builder.ts'

/** A file above this is downloaded, not put into a JSON answer. */
const TEXT_BYTES_MAX = 1024 * 1024

const ItemTypeRef = builder.enumType('WorkspaceItemType', { values: ['file', 'directory'] as const })
const ItemOwnerRef = builder.enumType('WorkspaceItemOwner', { values: ['user', 'expert'] as const })

const ItemRef = builder.objectRef<WorkspaceItem>('WorkspaceItem').implement({
  fields: (t) => ({
    id: t.exposeID('id'),
    path: t.exposeString('path'),
    type: t.expose('type', { type: ItemTypeRef }),
    owner: t.expose('owner', { type: ItemOwnerRef, description: 'user: read-only input; expert: made by the job.' }),
    hash: t.exposeString('hash', { description: 'SHA-256 of the content.' }),
    sizeBytes: t.exposeInt('sizeBytes', { nullable: true }),
    executable: t.exposeBoolean('executable'),
    text: t.string({
      nullable: true,
      description: 'The content, when it is UTF-8 of at most 1 MiB; null for anything else.',
      complexity: 10,
      resolve: async (item, _args, { workspaces }) => {
        if (item.sizeBytes === null || item.sizeBytes > TEXT_BYTES_MAX) return null
        return decode(await workspaces.read(item))
      },
    }),
  }),
})

function decode(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    // Not text: the caller downloads it instead.
    return null
  }
}

export const WorkspaceRef = builder.objectRef<JobSummary>('Workspace').implement({
  description: 'The tree of files that a job works in, as it is now.',
  fields: (t) => ({
    jobId: t.exposeID('id'),
    treeHash: t.exposeString('treeHash', { nullable: true }),
    inputTreeHash: t.exposeString('inputTreeHash', { nullable: true }),
    items: t.field({
      type: [ItemRef],
      description: 'In path order, directories before what they hold; `after` is the path of the last one seen.',
      args: {
        path: t.arg.string({ description: 'Only what is under this directory.' }),
        first: t.arg.int({ defaultValue: 100, validate: firstSchema }),
        after: t.arg.string(),
      },
      complexity: ({ first }) => ({ field: 1, multiplier: first ?? 100 }),
      resolve: (job, { path, first, after }, { workspaces }) =>
        workspaces.list(job, { under: path ?? null, first: first ?? 100, after: after ?? null }),
    }),
    item: t.field({
      type: ItemRef,
      nullable: true,
      args: { path: t.arg.string({ required: true }) },
      resolve: async (job, { path }, { workspaces }) => (await workspaces.find(job, path)) ?? null,
    }),
  }),
})

builder.queryField('workspace', (t) =>
  t.field({
    type: WorkspaceRef,
    nullable: true,
    args: { jobId: t.arg.id({ required: true }) },
    resolve: async (_root, args, { jobs, caller }) => {
      const jobId = parseId('job', args.jobId)
      return jobId === undefined ? null : ((await jobs.find(caller.application.id, jobId)) ?? null)
    },
  }),
)
