/**
 * What a skill offers, from a machine that is started for nothing else: a lock with that one skill, no secret, and the
 * end as soon as its tools are known. What the machine says is parsed like any machine's, and believed no further.
 */
import type { Chance, Clock } from '../../schema/clock.ts'
import { chain, genesisHash } from '../../schema/event.ts'
import { printExpertKey } from '../../schema/expert-key.ts'
import { hashOf } from '../../schema/hash.ts'
import { makeId } from '../../schema/id.ts'
import type { Lock, LockedExpert } from '../../schema/lock.ts'
import type { ToolDefinition } from '../../schema/message.ts'
import type { Networks } from '../../schema/network.ts'
import type { ServedSkill } from '../../schema/tool-pin.ts'
import type { Log } from '../log.ts'
import { RemoteSkills } from '../skill/remote-skills.ts'
import type { Machine, MachineHost } from '../pool/machine-host.ts'

export type Listing = readonly ToolDefinition[] | { readonly unlisted: string }

export interface ToolListings {
  /** All its tools, `pick` and `omit` aside; or why they are not known, as half a sentence. Never rejects. */
  list(skill: ServedSkill): Promise<Listing>
}

export interface ToolListingsDependencies {
  readonly host: Pick<MachineHost, 'open'>
  /** The operator's own networks. */
  readonly networks: Networks
  readonly clock: Clock
  readonly chance: Chance
  readonly log: Log
  readonly limits: {
    /** Machines at once. */
    readonly concurrent: number
    /** From the start of the machine to the list. */
    readonly listMs: number
  }
}

export const listingLimits: ToolListingsDependencies['limits'] = { concurrent: 2, listMs: 15_000 }

const KEY = printExpertKey('lister', '1.0.0')
const SKILL = 'skill'
const REASON_CHARS_MAX = 400

export function openToolListings(dependencies: ToolListingsDependencies): ToolListings {
  const { log, limits } = dependencies
  const waiting: (() => void)[] = []
  let running = 0

  async function turn(): Promise<void> {
    if (running >= limits.concurrent) await new Promise<void>((go) => waiting.push(go))
    else running += 1
  }

  function pass(): void {
    const next = waiting.shift()
    if (next === undefined) running -= 1
    else next()
  }

  return {
    async list(skill) {
      await turn()
      try {
        return await listIn(dependencies, skill)
      } catch (error) {
        log.warn('A skill could not be asked for its tools.', { error })
        return { unlisted: reasonOf(error instanceof Error ? error.message : String(error)) }
      } finally {
        pass()
      }
    },
  }
}

async function listIn({ host, networks, clock, chance, limits }: ToolListingsDependencies, skill: ServedSkill) {
  if (skill.type !== 'mcpStdioSkill' && skill.requiredEnv.length > 0)
    return { unlisted: 'its server wants a secret, and a publication uses none' }
  const jobId = makeId('job', clock.now(), chance.bytes(16))
  const lock = lockFor(skill)
  const machine = await host.open({ jobId, fence: 1 }, lock)
  const remote = new RemoteSkills({
    lock,
    clock,
    networks,
    secretOf: async () => undefined,
    refuseCall: async () => 'nothing is called for a listing',
    refuseReply: async () => 'no human is asked at publish',
    tell: (line) => machine.send(line),
    unreadBytes: () => machine.unreadBytes,
  })
  const enough = new AbortController()
  try {
    const late = clock.sleep(limits.listMs, enough.signal).then(
      () => ({ unlisted: `it did not tell its tools within ${limits.listMs} ms` }),
      () => ({ unlisted: 'nobody waited for it' }),
    )
    begin(machine, jobId, lock, clock.now())
    return await Promise.race([late, heard(machine, remote)])
  } finally {
    enough.abort()
    await remote.close()
    await machine.destroy()
  }
}

/** An expert that has this skill and nothing to do; without what the skill requires, which it must not get here. */
function lockFor({ tools: _tools, unpinned: _unpinned, required: _required, ...skill }: ServedSkill): Lock {
  const asked = { ...skill, pick: null, omit: [], rule: null, requiredEnv: [], lazyInit: false } as const
  const expert: LockedExpert = {
    key: KEY,
    name: 'lister',
    version: '1.0.0',
    package: { name: 'lister', version: '1.0.0', integrity: 'sha512-' },
    description: '',
    instruction: '',
    model: null,
    maxSteps: null,
    delegates: {},
    skills: { [SKILL]: asked },
  }
  return { version: 1, coordinator: KEY, experts: { [KEY]: expert } }
}

function begin(machine: Machine, jobId: ReturnType<typeof makeId<'job'>>, lock: Lock, at: number): void {
  const created = {
    v: 1,
    type: 'jobCreated',
    data: {
      expertKey: KEY,
      query: '',
      userId: null,
      model: null,
      maxSteps: null,
      lockHash: hashOf(lock),
      inputTreeHash: null,
    },
    runId: null,
    expertKey: null,
    stepNumber: null,
  } as const
  const history = chain(jobId, 0, genesisHash(jobId), at, [created])
  const start = { jobId, fence: 1, lock, model: null, treeHash: null, inputTreeHash: null }
  machine.send({ type: 'start', protocol: 1, ...start, historyCount: history.length })
  for (const event of history) machine.send({ type: 'recorded', event })
  machine.send({ type: 'go' })
}

/** Reads until the machine says what the skill offers, or that it fell; every request of it is refused. */
async function heard(machine: Machine, remote: RemoteSkills): Promise<Listing> {
  for await (const line of machine.lines) {
    if (line.type === 'request') {
      const error = { code: 'permission_denied', message: 'Nothing is to be had here.' }
      machine.send({ type: 'reply', id: line.id, ok: false, error })
    }
    if (line.type === 'open' || line.type === 'close' || line.type === 'frame') remote.take(line)
    if (line.type !== 'event') continue
    if (line.event.type === 'toolsListed') return line.event.data.tools
    if (line.event.type === 'skillFailed') return { unlisted: reasonOf(line.event.data.message) }
  }
  const { reason } = await machine.ended
  return { unlisted: `its machine ended (${reasonOf(reason)})` }
}

/** The words of a program, as half a sentence: on one line, and not for ever. */
function reasonOf(text: string): string {
  const line = text
    .replaceAll(`Skill ${SKILL} of ${KEY}`, 'it')
    .replaceAll(`Skill ${SKILL}`, 'it')
    .replace(/^it: Its /, 'its ')
    .replace(/[\s\u0000-\u001f\u007f-\u009f]+/g, ' ')
    .trim()
    .replace(/\.$/, '')
  return line.length > REASON_CHARS_MAX ? `${line.slice(0, REASON_CHARS_MAX)}…` : line
}
