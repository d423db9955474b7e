/** Published skills: packages that an expert's file may name. */
import type { PublishedSkill } from '../expert/skill-source.ts'
import { builder, firstSchema, PAGE_DEFAULT } from './builder.ts'
import { pageOf, pageRef } from './page.ts'

const SkillRef = builder.objectRef<PublishedSkill>('Skill').implement({
  description: 'A published package that experts may name as a skill; at a version it never changes.',
  fields: (t) => ({
    key: t.exposeString('key'),
    name: t.exposeString('name'),
    version: t.exposeString('version'),
    description: t.exposeString('description'),
    integrity: t.exposeString('integrity'),
    owner: t.exposeString('owner'),
    versions: t.stringList({ description: 'Newest first.', resolve: ({ versions }) => versions }),
    deprecated: t.exposeString('deprecated', { nullable: true, description: "The owner's word why not to use it." }),
    publishedAt: t.expose('publishedAt', { type: 'DateTime' }),
  }),
})

const SkillConnection = pageRef('Skill', SkillRef)

builder.queryFields((t) => ({
  skill: t.field({
    type: SkillRef,
    nullable: true,
    description: 'By `name`, `name@version`, `name@range` or `name@tag`.',
    args: { key: t.arg.string({ required: true }) },
    resolve: async (_root, { key }, { skills }) => (await skills.find(key)) ?? null,
  }),
  skills: t.field({
    type: SkillConnection,
    description:
      'Packages that say of themselves that they are skills (the keyword senmon-skill, or an mcpName), at their latest version, by name; `search` matches name and description.',
    args: {
      search: t.arg.string(),
      first: t.arg.int({ defaultValue: PAGE_DEFAULT, validate: firstSchema }),
      after: t.arg.string(),
    },
    complexity: ({ first }) => ({ field: 1, multiplier: first ?? PAGE_DEFAULT }),
    resolve: async (_root, { search, first, after }, { skills }) => {
      const size = first ?? PAGE_DEFAULT
      return pageOf(await skills.list(search ?? null, size + 1, after ?? null), size, ({ name }) => name)
    },
  }),
}))
