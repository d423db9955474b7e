/**
 * Machines as containers of a Docker engine, on Linux or behind Docker Desktop: nothing of this computer is mounted
 * into them, so that the engine may be anywhere. Compartments inside are the same sandboxes as without Docker.
 * They end with this process, and only it can reach them; what dead processes left is removed when one opens.
 */
import type { Clock } from '../../schema/clock.ts'
import { PROTOCOL_VERSION } from '../../schema/control.ts'
import { PlatformError } from '../../schema/error.ts'
import { sha256 } from '../../schema/hash.ts'
import { parseId, type MachineId } from '../../schema/id.ts'
import { isJsonObject, type Json, type JsonObject } from '../../schema/json.ts'
import type { LockedStdioSkill } from '../../schema/lock.ts'
import { IMAGE, type ImageFacts } from '../../schema/machine-image.ts'
import type { Launch } from '../../schema/machine-plan.ts'
import type { Log } from '../log.ts'
import { inTime } from '../pool/in-time.ts'
import type { ProbeResult } from '../pool/machine-host.ts'
import {
  ProviderError,
  type MachineNews,
  type MachineProvider,
  type Observation,
  type ProviderTraits,
} from '../pool/machine-provider.ts'
import { imagePlan, imageRunner } from '../sandbox/machine-image.ts'
import { openImageSkills } from '../skill/image-skills.ts'
import { openAttachedMachine, type AttachedMachine, type ContainerEnd } from './attached-machine.ts'
import { CONTAINER_LIMITS, containerBody, containerName, LABEL, type ContainerLimits } from './container.ts'
import { API_OLDEST, isOlder, refusalOf, type Engine } from './engine.ts'
import { explainSilence, refusalError } from './engine-fault.ts'
import { describeEngine, describeImage, endOf, observe, type EngineDescription } from './engine-answer.ts'
import { probeContainer } from './docker-probe.ts'

export interface DockerProviderOptions {
  readonly engine: Engine
  /** The image's name or digest. */
  readonly image: string
  readonly runtime: string | null
  /** Names this process among all that may use the engine. */
  readonly place: string
  /** True only for a place of this computer whose process is certainly gone. */
  readonly isDead: (place: string) => Promise<boolean>
  /** A directory with the skill's packages, complete; the same for the same `installHash`. */
  readonly install: (skill: LockedStdioSkill) => Promise<string>
  readonly limits?: ContainerLimits
  /** Instead of the image's runner, for tests. */
  readonly runner?: (image: ImageFacts) => Launch
  readonly clock: Clock
  readonly log: Log
}

const TRAITS: ProviderTraits = {
  suspends: true,
  cleansByStop: false,
  endsWithJob: false,
  reach: 'process',
  typical: { createMs: 200, bootMs: 300, suspendMs: 15, resumeMs: 15, stopMs: 100 },
}
/** Between two tries to hear the engine's news. */
const LISTEN_MS = 1000

interface Kept {
  readonly containerId: string
  readonly machine: AttachedMachine
  /** Something in it was ended for want of memory. */
  oom: boolean
  isOver: boolean
}

/** What is known of the engine once it has answered. */
interface Ground {
  readonly imageId: string
  readonly image: ImageFacts
  readonly engine: EngineDescription
  readonly generation: string
}

/**
 * Looks at the engine and the image, and removes what dead processes left. Never throws: where there is no engine, the
 * probe says so and every order is refused.
 */
export async function openDockerProvider(options: DockerProviderOptions): Promise<MachineProvider> {
  const { engine, place, clock, log } = options
  const limits = options.limits ?? CONTAINER_LIMITS
  const skills = openImageSkills(options.install)
  const kept = new Map<MachineId, Kept>()
  const orders = new Map<MachineId, Promise<Kept>>()
  const listeners = new Set<(news: MachineNews) => void>()
  const closing = new AbortController()
  const tell = (news: MachineNews): void => listeners.forEach((listener) => listener(news))

  const ground = await survey(options)
  if (ground.ok) {
    await sweep().catch((error: unknown) => log.warn('Containers of dead processes may be left.', { error }))
    void listen()
  }

  /** Throws `ProviderError` where there is nothing to make machines of. */
  function demandGround(): Ground {
    if (!ground.ok) throw new ProviderError('refused', `${ground.reason} ${ground.fix}`)
    return ground.value
  }

  async function act(what: string, method: 'POST' | 'DELETE', path: string, body?: Json): Promise<Json> {
    const answer = await engine.call(method, path, body)
    if (answer.status >= 400) throw refusalError(what, refusalOf(answer))
    return answer.body
  }

  async function remove(container: string): Promise<void> {
    const answer = await engine.call('DELETE', `/containers/${container}?force=1&v=1`)
    // Gone, or on its way to be.
    if (answer.status >= 400 && answer.status !== 404 && answer.status !== 409)
      throw refusalError(`remove ${container}`, refusalOf(answer))
  }

  /** How it ended, once it has; then it is removed. */
  async function bury(container: string): Promise<ContainerEnd | null> {
    const waited = await engine.call('POST', `/containers/${container}/wait?condition=not-running`)
    if (waited.status === 404) return null
    const left = await inspect(container)
    if (left !== undefined) await remove(container)
    return endOf(waited.body, left)
  }

  async function inspect(nameOrId: string): Promise<JsonObject | undefined> {
    const answer = await engine.call('GET', `/containers/${nameOrId}/json`)
    if (answer.status === 404) return undefined
    if (answer.status >= 400 || !isJsonObject(answer.body)) throw refusalError(`look at ${nameOrId}`, refusalOf(answer))
    return answer.body
  }

  async function containers(label: string): Promise<readonly JsonObject[]> {
    const filters = encodeURIComponent(JSON.stringify({ label: [label] }))
    const answer = await engine.call('GET', `/containers/json?all=1&filters=${filters}`)
    if (answer.status >= 400 || !Array.isArray(answer.body)) throw refusalError('list containers', refusalOf(answer))
    return answer.body.filter(isJsonObject)
  }

  async function sweep(): Promise<void> {
    for (const one of await containers(LABEL.machine)) {
      const labels = isJsonObject(one['Labels']) ? one['Labels'] : {}
      const theirs = labels[LABEL.place]
      if (typeof theirs !== 'string' || typeof one['Id'] !== 'string' || theirs === place) continue
      if (!(await options.isDead(theirs))) continue
      await remove(one['Id'])
      log.info('Removed a container that a dead process left.', { container: one['Id'] })
    }
  }

  /** Hears of memory that ran out; a machine's end shows by its stream. */
  async function listen(): Promise<void> {
    while (!closing.signal.aborted) {
      await engine.events(`${LABEL.place}=${place}`, hear, closing.signal).catch(() => {})
      await clock.sleep(LISTEN_MS, closing.signal).catch(() => {})
    }
  }

  function hear(event: Json): void {
    if (!isJsonObject(event) || event['Action'] !== 'oom' || !isJsonObject(event['Actor'])) return
    const { ID } = event['Actor']
    for (const one of kept.values()) if (one.containerId === ID) one.oom = true
  }

  /** Makes a container and starts it; on any failure nothing is left of it that could be found. */
  async function boot(
    machine: Pick<Parameters<MachineProvider['create']>[0], 'id' | 'pool'>,
    runner: Launch,
  ): Promise<Kept> {
    const { imageId, image, engine: description, generation } = demandGround()
    const name = containerName(machine.id)
    const body = containerBody({
      machineId: machine.id,
      pool: machine.pool,
      place,
      generation,
      imageId,
      runtime: options.runtime,
      hasAppArmor: description.hasAppArmor,
      limits,
      plan: imagePlan(image, runner),
    })
    const order = () => engine.call('POST', `/containers/create?name=${name}`, body)
    let answer = await order()
    if (answer.status === 409) {
      // An order of ours whose answer was lost, and with it the way to its stream.
      await remove(name)
      answer = await order()
    }
    if (answer.status !== 201 || !isJsonObject(answer.body) || typeof answer.body['Id'] !== 'string')
      throw refusalError(`make the container ${name}`, refusalOf(answer))
    const containerId = answer.body['Id']
    try {
      const stream = await engine.attach(containerId)
      const one: Kept = {
        containerId,
        machine: openAttachedMachine({
          stream,
          skills,
          remove: () => remove(containerId),
          bury: async () => {
            const end = await bury(containerId)
            return end === null ? null : { ...end, oom: end.oom || one.oom }
          },
        }),
        oom: false,
        isOver: false,
      }
      kept.set(machine.id, one)
      void one.machine.ended.then(() => {
        one.isOver = true
        kept.delete(machine.id)
      })
      await act(`start the container ${name}`, 'POST', `/containers/${containerId}/start`)
      return one
    } catch (error) {
      await remove(containerId).catch(() => {})
      throw error
    }
  }

  async function make(machine: Parameters<MachineProvider['create']>[0]): Promise<Kept> {
    const { id } = machine
    try {
      const one = await boot(machine, (options.runner ?? imageRunner)(demandGround().image))
      void one.machine.primed.then((bootId) => bootId !== undefined && tell({ type: 'up', machineId: id, bootId }))
      void one.machine.ended.then((end) => {
        orders.delete(id)
        tell({ type: 'ended', machineId: id, ...end })
      })
      return one
    } catch (error) {
      kept.delete(id)
      orders.delete(id)
      throw error
    }
  }

  function find(id: MachineId): Kept {
    const one = kept.get(id)
    if (one === undefined) throw new ProviderError('gone', `The machine ${id} is gone.`)
    return one
  }

  return {
    name: 'docker',
    traits: TRAITS,
    limits: (['memoryBytes', 'tasks', 'cpus'] as const).map((name) => ({
      name,
      value: limits[name],
      keptBy: 'docker',
    })),
    generation: ground.ok ? ground.value.generation : 'none',
    places: [place],
    async probe() {
      if (!ground.ok) return ground
      return await probeContainer({ clock, image: ground.value.image, boot, protocol: PROTOCOL_VERSION })
    },
    async create(machine) {
      const order = orders.get(machine.id) ?? make(machine)
      orders.set(machine.id, order)
      return { providerId: (await order).containerId }
    },
    async find({ id }) {
      const found = await inspect(containerName(id))
      return found === undefined ? undefined : observe(id, found)
    },
    async look({ id }) {
      const found = await inspect(containerName(id))
      return found === undefined
        ? { machineId: id, providerId: containerName(id), state: 'gone', generation: null, createdAt: null }
        : observe(id, found)
    },
    async list() {
      return (await containers(`${LABEL.place}=${place}`)).flatMap((one): readonly Observation[] => {
        const labels = isJsonObject(one['Labels']) ? one['Labels'] : {}
        return [observe(parseId('mch', labels[LABEL.machine]) ?? null, one)]
      })
    },
    async start({ id }) {
      const { containerId } = find(id)
      const found = await inspect(containerId)
      if (found === undefined) throw new ProviderError('gone', `The container of ${id} is gone.`)
      const { state } = observe(id, found)
      if (state === 'running') return
      if (state !== 'suspended') throw new ProviderError('state', `The container of ${id} is ${state}.`)
      await act(`resume ${id}`, 'POST', `/containers/${containerId}/unpause`)
    },
    async suspend({ id }) {
      const { containerId } = find(id)
      const answer = await engine.call('POST', `/containers/${containerId}/pause`)
      const refusal = refusalOf(answer)
      if (answer.status >= 400 && !/already paused/i.test(refusal.message)) throw refusalError(`suspend ${id}`, refusal)
    },
    async stop({ id }) {
      throw new ProviderError(
        'refused',
        `The container of ${id} has no clean state to go back to: it is to be destroyed.`,
      )
    },
    async destroy({ id }) {
      await kept.get(id)?.machine.destroy()
      // Whether it was ours or not: it is gone only when the engine knows it no more.
      await remove(containerName(id))
    },
    async connect({ id }, lock, hold, deadline) {
      const one = find(id)
      const { machine } = one
      const [bootId, provision] = await Promise.all([
        inTime(machine.primed, deadline - clock.now(), clock),
        skills.of(demandGround().image, lock),
      ])
      if (bootId === undefined) {
        const end = one.isOver ? await machine.ended : { reason: 'it was not up in time', stderrTail: '' }
        throw new PlatformError('machine_failed', `The machine ${id} did not start: ${end.reason}. ${end.stderrTail}`)
      }
      if (!(await hold(bootId))) throw new PlatformError('fence_stale', `The machine ${id} is another's.`)
      machine.provide(provision)
      return {
        ...machine,
        obtained: { resume: 'cold', machineId: null, phases: null },
        get unreadBytes() {
          return machine.unreadBytes
        },
      }
    },
    watch(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    async close() {
      closing.abort(new Error('the provider is closing'))
      await Promise.allSettled([...kept.values()].map(({ machine }) => machine.destroy()))
      engine.close()
    },
  }
}

/** What there is to make machines of, or why there is nothing. */
async function survey({
  engine,
  image,
  runtime,
  limits,
}: DockerProviderOptions): Promise<{ readonly ok: true; readonly value: Ground } | (ProbeResult & { ok: false })> {
  const no = (reason: string, fix: string) => ({ ok: false as const, reason, fix })
  try {
    const { apiVersion, system } = await engine.greet()
    if (isOlder(apiVersion, API_OLDEST))
      return no(
        `The Docker engine speaks API ${apiVersion}; ${API_OLDEST} is needed.`,
        'Update Docker to 20.10 or newer.',
      )
    if (system !== 'linux')
      return no(`The Docker engine runs ${system} containers.`, 'Switch Docker Desktop to Linux containers.')
    const description = describeEngine((await engine.call('GET', '/info')).body)
    if (typeof description === 'string')
      return no(description, 'Use an engine that can do it, or SENMON_MACHINES=local.')
    if (runtime !== null && !description.runtimes.includes(runtime))
      return no(
        `The Docker engine has no runtime ${runtime}; it has ${description.runtimes.join(', ')}.`,
        'Install it and name it in daemon.json (gVisor: `runsc install`), or unset SENMON_DOCKER_RUNTIME.',
      )
    const found = await engine.call('GET', `/images/${image}/json`)
    const described = found.status === 200 ? describeImage(found.body) : undefined
    if (described === undefined)
      return no(
        `The Docker engine has no image ${image} of machines.`,
        `Build it: \`docker build --file runner/image/Dockerfile --tag ${image} .\``,
      )
    const facts = { ...IMAGE, arch: described.arch }
    const generation = sha256(
      JSON.stringify([described.id, runtime, limits ?? CONTAINER_LIMITS, imageRunner(facts)]),
    ).slice(0, 16)
    return { ok: true, value: { imageId: described.id, image: facts, engine: description, generation } }
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error
    const cause = error.cause instanceof Error ? error.cause : error
    const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined
    const silence = explainSilence(engine.place, code, cause.message)
    return silence.ok ? no(error.message, 'See that it runs.') : silence
  }
}
