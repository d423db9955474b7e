/** Published skills: packages that an expert's file may name. */
import type { PublishedSkill } from '../expert/skill-source.ts'
import { builder } from './builder.ts'

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

builder.queryFields((t) => ({
  skill: t.field({
    type: SkillRef,
    nullable: true,
    description: 'By `name`, `name@version`, `name@range` or `name@tag`.',
    args: { key: t.arg.string({ required: true }) },
    resolve: async (_root, { key }, { skills }) => (await skills.find(key)) ?? null,
  }),
}))
