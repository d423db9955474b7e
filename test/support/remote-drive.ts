/** The runner's own skill client before the control plane's remote skills, without a machine between them. */
import { openSkills, type OpenSkills } from '../../runner/skill/skills.ts'
import type { Clock } from '../../schema/clock.ts'
import type { RunnerLine } from '../../schema/control.ts'
import type { Elicited } from '../../schema/elicitation.ts'
import type { Json } from '../../schema/json.ts'
import type { LockedRemoteSkill } from '../../schema/lock.ts'
import { Networks, parseNetwork } from '../../schema/network.ts'
import { rootRunId } from '../../schema/question.ts'
import { Secret } from '../../schema/secret.ts'
import { RemoteSkills, type RemoteSkillsOptions } from '../../src/skill/remote-skills.ts'
import { lockedExpert, lockOf } from '../fake/fake-expert-source.ts'
import { JOB } from '../run/team.ts'
import { HOUR_MS, leapClock } from './leap-clock.ts'

export const LOOPBACK = new Networks([parseNetwork('127.0.0.0/8') ?? []].flat())
const never = new AbortController().signal

/** No deadline comes but by `clock.leap`. */
export function driveRemote(
  skill: Partial<LockedRemoteSkill> & { readonly endpoint: string },
  more: {
    readonly secrets?: Readonly<Record<string, string>>
    /** In the place of the real time that can leap. */
    readonly clock?: Clock
  } & Partial<Pick<RemoteSkillsOptions, 'refuseCall' | 'refuseReply' | 'networks' | 'lookup' | 'unreadBytes'>> = {},
) {
  const locked: LockedRemoteSkill = {
    type: 'mcpHttpSkill',
    headers: {},
    pick: null,
    omit: [],
    rule: null,
    requiredEnv: [],
    lazyInit: true,
    ...skill,
  }
  const lock = lockOf(lockedExpert('tester', { skills: { far: locked } }))
  const told: Json[] = []
  let skills: OpenSkills | undefined
  const { secrets = {}, clock: other, ...given } = more
  const leap = leapClock()
  const clock = other ?? leap
  const remote = new RemoteSkills({
    lock,
    clock,
    networks: LOOPBACK,
    secretOf: async (name) => (secrets[name] === undefined ? undefined : new Secret(secrets[name])),
    refuseCall: async () => undefined,
    refuseReply: async () => undefined,
    tell(line) {
      told.push(JSON.parse(JSON.stringify(line)) as Json)
      skills?.receive(line)
    },
    unreadBytes: () => 0,
    ...given,
  })
  const say = (line: RunnerLine): void => {
    if (line.type === 'open' || line.type === 'close' || line.type === 'frame') remote.take(line)
  }
  skills = openSkills({
    jobId: JOB,
    lock,
    send: say,
    clock,
    deadlines: { initializeMs: HOUR_MS, callMs: HOUR_MS },
    recorded: () => undefined,
  })
  const client = skills
  const expertKey = lock.coordinator
  const name = { expertKey, skill: 'far' }
  let calls = 0
  return {
    clock: leap,
    told,
    remote,
    say: (frame: Json) => remote.take({ type: 'frame', ...name, frame }),
    open: () => remote.take({ type: 'open', ...name }),
    list: () => client.list(expertKey, 'far', never),
    call(tool: string, args: Json = {}, signal = never, elicited: readonly Elicited[] = []) {
      const part = { type: 'toolCall', callId: `call_1_${calls++}`, name: `far/${tool}`, args } as const
      return client.call(expertKey, 'far', tool, { ...part, runId: rootRunId(JOB, 0) }, signal, elicited)
    },
  }
}
