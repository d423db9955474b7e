/** Published experts. What is private to an expert, its instruction, is not here. */
import { isRefusal } from '../../schema/error.ts'
import type { PublishedExpert } from '../expert/expert-source.ts'
import { builder, firstSchema, PAGE_DEFAULT } from './builder.ts'
import { LockRef } from './lock.ts'
import { pageOf, pageRef } from './page.ts'

const ExpertRef = builder.objectRef<PublishedExpert>('Expert').implement({
  description: 'A published, versioned definition; at a version it never changes.',
  fields: (t) => ({
    key: t.exposeString('key'),
    name: t.exposeString('name'),
    version: t.exposeString('version'),
    description: t.exposeString('description'),
    packageName: t.exposeString('packageName'),
    integrity: t.exposeString('integrity'),
    owner: t.exposeString('owner'),
    model: t.exposeString('model', { nullable: true }),
    delegates: t.stringList({ resolve: ({ delegates }) => delegates }),
    skills: t.stringList({ resolve: ({ skills }) => skills }),
    tags: t.stringList({ resolve: ({ tags }) => tags }),
    versions: t.stringList({ description: 'Newest first.', resolve: ({ versions }) => versions }),
    lock: t.field({
      type: LockRef,
      nullable: true,
      description: 'What a job of it would run.',
      resolve: async ({ key }, _args, { experts }) => {
        const lock = await experts.resolve(key)
        return isRefusal(lock) ? null : lock
      },
    }),
    publishedAt: t.expose('publishedAt', { type: 'DateTime' }),
  }),
})

const ExpertConnection = pageRef('Expert', ExpertRef)

builder.queryFields((t) => ({
  expert: t.field({
    type: ExpertRef,
    nullable: true,
    description: 'By `name`, `name@version` or `name@tag`.',
    args: { key: t.arg.string({ required: true }) },
    resolve: async (_root, { key }, { experts }) => (await experts.find(key)) ?? null,
  }),
  experts: t.field({
    type: ExpertConnection,
    description: 'By name; `search` matches name and description.',
    args: {
      search: t.arg.string(),
      first: t.arg.int({ defaultValue: PAGE_DEFAULT, validate: firstSchema }),
      after: t.arg.string(),
    },
    complexity: ({ first }) => ({ field: 1, multiplier: first ?? PAGE_DEFAULT }),
    resolve: async (_root, { search, first, after }, { experts }) => {
      const size = first ?? PAGE_DEFAULT
      return pageOf(await experts.list(search ?? null, size + 1, after ?? null), size, ({ name }) => name)
    },
  }),
}))
