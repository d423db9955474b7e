/** The lock that a job pins: exactly which experts and skills it runs, by version and integrity. */
import { BASE } from '../../schema/base-tool.ts'
import type { Lock, LockedExpert, LockedSkill, LockedStdioSkill } from '../../schema/lock.ts'
import { builder } from './builder.ts'

const LockedSkillRef = builder
  .objectRef<{ readonly name: string; readonly skill: LockedSkill }>('LockedSkill')
  .implement({
    fields: (t) => ({
      name: t.exposeString('name'),
      type: t.string({ resolve: ({ skill }) => skill.type }),
      packages: t.field({
        type: 'JSON',
        description: 'Every package of the installation: name, version, integrity.',
        resolve: ({ skill }) =>
          skill.type === 'mcpStdioSkill'
            ? skill.packages.map(({ name, version, integrity }) => ({ name, version, integrity }))
            : [],
      }),
      command: t.string({
        nullable: true,
        description: 'The package that is started, at its version, and its arguments; null for any other skill.',
        resolve: ({ skill }) => (skill.type === 'mcpStdioSkill' ? printCommand(skill) : null),
      }),
      tools: t.field({
        type: 'JSON',
        nullable: true,
        description: 'The tools that the lock pins, as their server described them; null when they are not pinned.',
        resolve: ({ skill }) => (skill.type === 'interactiveSkill' ? null : (skill.tools ?? null)),
      }),
      unpinned: t.string({
        nullable: true,
        description: "Why the tools are not pinned; they are then listed at a job's start.",
        resolve: ({ skill }) => (skill.type === 'interactiveSkill' ? null : (skill.unpinned ?? null)),
      }),
      programs: t.string({
        description: 'What the compartment can run: `node` alone, or the programs of the `system`.',
        resolve: ({ skill }) => (skill.type === 'mcpStdioSkill' ? (skill.programs ?? 'node') : 'none'),
      }),
      endpoint: t.string({
        nullable: true,
        description: 'Where a skill on the network is; null for one that runs in the machine.',
        resolve: ({ skill }) => ('endpoint' in skill ? skill.endpoint : null),
      }),
      requiredEnv: t.stringList({
        resolve: ({ skill }) => (skill.type === 'interactiveSkill' ? [] : skill.requiredEnv),
      }),
      allowedDomains: t.stringList({
        resolve: ({ skill }) => (skill.type === 'mcpStdioSkill' ? skill.allowedDomains : []),
      }),
    }),
  })

const LockedExpertRef = builder.objectRef<LockedExpert>('LockedExpert').implement({
  fields: (t) => ({
    key: t.exposeString('key'),
    name: t.exposeString('name'),
    version: t.exposeString('version'),
    packageName: t.string({ resolve: (expert) => expert.package.name }),
    integrity: t.string({ resolve: (expert) => expert.package.integrity }),
    description: t.exposeString('description'),
    model: t.exposeString('model', { nullable: true }),
    maxSteps: t.exposeInt('maxSteps', { nullable: true, description: "A run's own limit." }),
    budget: t.field({
      type: 'JSON',
      nullable: true,
      description: "A run's own budget, which its delegates use as well.",
      resolve: ({ budget }) => (budget === undefined ? null : { ...budget }),
    }),
    delegates: t.field({ type: 'JSON', description: 'Alias to exact key.', resolve: ({ delegates }) => delegates }),
    base: t.stringList({
      description: 'The tools that it has without a skill.',
      resolve: ({ base }) => (base?.tools ?? []).map((name) => `${BASE}/${name}`),
    }),
    skills: t.field({
      type: [LockedSkillRef],
      resolve: ({ skills }) => Object.entries(skills).map(([name, skill]) => ({ name, skill })),
    }),
  }),
})

export const LockRef = builder.objectRef<Lock>('Lock').implement({
  description: 'Made when the expert was published; the job runs what it says and nothing else.',
  fields: (t) => ({
    coordinator: t.exposeString('coordinator'),
    experts: t.field({ type: [LockedExpertRef], resolve: ({ experts }) => Object.values(experts) }),
  }),
})

function printCommand({ packages, entry, args }: LockedStdioSkill): string {
  const started = packages.find(({ path }) => entry.startsWith(`${path}/`))
  return [started === undefined ? entry : `${started.name}@${started.version}`, ...args].join(' ')
}
