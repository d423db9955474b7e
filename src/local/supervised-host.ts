/** What the hosts on this computer have in common: slots, runtime, and one supervisor for each machine. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import type { Lock, LockedStdioSkill } from '../../schema/lock.ts'
import { SKILL_LIMITS, type MachinePlan, type SkillLaunch, type SkillLimits } from '../../schema/machine-plan.ts'
import type { Log } from '../log.ts'
import type { Machine } from '../pool/machine-host.ts'
import type { MachineLimit } from '../pool/machine-provider.ts'
import {
  nameOfServer,
  openCgroups,
  type Cgroup,
  type CgroupPart,
  type Cgroups,
  type Kept,
  type MachineLimits,
} from './cgroups.ts'
import { openRuntime, type Bundles, type Runtime } from './runtime.ts'
import { openSlots, type Slot } from './slots.ts'
import { openOwnSpawner, openSpawner, type Spawner } from './spawner.ts'
import { startSupervisedMachine, type ParkedMachine } from './supervised-machine.ts'
import { join } from 'node:path'

export interface LocalHostOptions {
  /** A directory with the skill's packages, complete; the same for the same `installHash`. */
  readonly install: (skill: LockedStdioSkill) => Promise<string>
  /**
   * Where slots and what they share live. As root every directory above it must be open to other uids.
   * Several servers may name the same.
   */
  readonly runtimeDirectory: string
  /** The Node binary that machines run. */
  readonly execPath: string
  readonly log: Log
  readonly clock: Clock
  /** What one machine may use, where there are cgroups; MACHINE_LIMITS by default. */
  readonly machineLimits?: Partial<MachineLimits>
  /** What one skill may use; SKILL_LIMITS by default. */
  readonly skillLimits?: SkillLimits
  /** Whether to make heaps for machines that are made while their job waits, beside everything else. */
  readonly heaps?: boolean
  /** Instead of the runner and supervisor of this repository, for tests. */
  readonly bundles?: Partial<Bundles>
}

/** A skill of a lock, with where its packages are. */
export interface PlacedSkill {
  readonly expertKey: string
  readonly skill: string
  readonly locked: LockedStdioSkill
  readonly directory: string
}

/** Room for a skill that uses all it may, with the runner and another one beside it. */
export const MACHINE_LIMITS: MachineLimits = { memoryBytes: 4 * 1024 * 1024 * 1024, tasks: 4096, cpus: null }

/** A machine that waits for its job, with the slot it is in. */
export interface Parked {
  readonly slot: Slot
  readonly machine: ParkedMachine
  readonly cgroup: Cgroup
}

/** How a host starts compartments; pure but for reading the runtime. */
export interface Launches {
  /** `isAwaited`: a job waits for it already. */
  runner(slot: Slot, runtime: Runtime, bundle: string, isAwaited: boolean): MachinePlan['runner']
  skill(slot: Slot, runtime: Runtime, placed: PlacedSkill): SkillLaunch['launch']
  /** Where input files are restored to. */
  input(slot: Slot): string
}

/** For so long a machine that no job waits for takes no processor from others; then it comes up like any other. */
const YIELD_MS = 1000

/** Where the program is that makes a process end with its parent. */
export const SETPRIV_PATHS = ['/usr/bin/setpriv', '/bin/setpriv', '/usr/local/bin/setpriv']
const PRLIMIT_PATHS = ['/usr/bin/prlimit', '/bin/prlimit', '/usr/local/bin/prlimit']
const FILE_BYTES_MAX = 256 * 1024 * 1024
/** For uids of our own only: the kernel counts every process of a uid, a person's desktop included. */
const PROCESSES_MAX = 2048

export class SupervisedHost {
  readonly runtime: Runtime
  readonly limits: readonly MachineLimit[]
  readonly #options: LocalHostOptions
  readonly #launches: Launches
  readonly #slots: ReturnType<typeof openSlots>
  readonly #cgroups: Cgroups
  readonly #spawner: Spawner
  /** Whether the kernel keeps each compartment to its memory. */
  readonly #hasParts: boolean
  readonly #machines = new Set<ParkedMachine>()
  /** Under way. */
  readonly #starts = new Set<Promise<ParkedMachine>>()
  readonly #expected = new WeakMap<Lock, Promise<readonly PlacedSkill[]>>()
  readonly #closing = new AbortController()
  readonly #heaps: Promise<void>
  #closed = false

  constructor(
    options: LocalHostOptions,
    runtime: Runtime,
    launches: Launches,
    cgroups: Cgroups,
    spawner: Spawner,
    hasParts: boolean,
  ) {
    this.#options = options
    this.#spawner = spawner
    this.runtime = runtime
    this.#launches = launches
    this.#cgroups = cgroups
    this.#hasParts = hasParts
    this.limits = limitsOf({ ...MACHINE_LIMITS, ...options.machineLimits }, isJoinable() ? cgroups.kept : UNLIMITED)
    this.#slots = openSlots(join(runtime.directory, 'slots'))
    this.#heaps = options.heaps === true ? this.#makeHeaps() : Promise.resolve()
  }

  /** A machine with every stdio skill of the lock installed. Throws `machine_failed`. */
  async open(lock: Lock): Promise<Machine> {
    const [parked, placed] = await Promise.all([this.park(), this.place(lock)])
    return this.fill(parked, placed)
  }

  /** One that waits for a job, with the runner of `bundle`. Throws `machine_failed`. */
  async park(bundle: string = this.runtime.bundles.runner, isAwaited = false): Promise<Parked> {
    const slot = await this.#slots.claim()
    if (this.#closed) {
      slot.release()
      throw new PlatformError('machine_failed', 'The host of machines is closed.')
    }
    const plan: MachinePlan = {
      workspace: slot.workspace,
      input: this.#launches.input(slot),
      runner: this.#launches.runner(slot, this.runtime, bundle, isAwaited),
      primes: !isAwaited,
      skillLimits: this.#options.skillLimits ?? SKILL_LIMITS,
    }
    const cgroup = this.#limit(slot)
    if (!isAwaited) cgroup.yield(true)
    const starting = startSupervisedMachine({
      slot,
      plan,
      node: this.runtime.node,
      supervisor: this.runtime.bundles.supervisor,
      heap: isAwaited ? this.runtime.heapOf(this.runtime.bundles.supervisor) : undefined,
      cgroup,
      ...launcherOf(slot, cgroup),
      spawner: this.#spawner,
      clock: this.#options.clock,
    })
    const started = starting.then((machine) => {
      this.#machines.add(machine)
      void machine.ended.then(() => this.#machines.delete(machine))
      return machine
    })
    this.#starts.add(started)
    const machine = await started
      .catch((error: unknown) => {
        cgroup.remove()
        slot.release()
        throw error
      })
      .finally(() => this.#starts.delete(started))
    if (!isAwaited) void this.#yieldUntilPrimed(machine, cgroup)
    return { slot, machine, cgroup }
  }

  async #yieldUntilPrimed(machine: ParkedMachine, cgroup: Cgroup): Promise<void> {
    const primed = new AbortController()
    await Promise.race([machine.primed, this.#options.clock.sleep(YIELD_MS, primed.signal).catch(() => {})])
    primed.abort(new Error('it is primed, or has ended'))
    cgroup.yield(false)
  }

  /** Machines that are made before begin as those of the pool do. */
  async #makeHeaps(): Promise<void> {
    try {
      await this.runtime.makeHeaps(this.#closing.signal)
    } catch (error) {
      if (!this.#closed) this.#options.log.warn('Machines begin without heaps, which takes longer.', { error })
    }
  }

  #limit(slot: Slot): Cgroup {
    try {
      return this.#cgroups.make(`${slot.number}`, { ...MACHINE_LIMITS, ...this.#options.machineLimits }, slot.uid)
    } catch (cause) {
      slot.release()
      throw new PlatformError('machine_failed', 'The limits of a machine could not be set.', { cause })
    }
  }

  /** Gives a parked machine the skills of its job. */
  fill({ slot, machine, cgroup }: Parked, placed: readonly PlacedSkill[]): Machine {
    cgroup.yield(false)
    machine.provide(placed.map((one, i) => this.#launchOf(slot, one, this.#partOf(cgroup, i + 1))))
    const cold = { resume: 'cold', machineId: null, phases: null } as const
    return {
      obtained: cold,
      processes: () => machine.processes(),
      send: (line) => machine.send(line),
      get unreadBytes() {
        return machine.unreadBytes
      },
      lines: machine.lines,
      ended: machine.ended,
      destroy: () => machine.destroy(),
    }
  }

  #partOf(cgroup: Cgroup, number: number): CgroupPart | undefined {
    const { memoryBytes } = this.#options.skillLimits ?? SKILL_LIMITS
    return this.#hasParts ? cgroup.part(number, memoryBytes) : undefined
  }

  #launchOf(slot: Slot, placed: PlacedSkill, part: CgroupPart | undefined): SkillLaunch {
    const { expertKey, skill, locked } = placed
    const launch = this.#launches.skill(slot, this.runtime, placed)
    const requiredEnv = locked.requiredEnv.filter((name) => name !== 'PATH' && name !== 'SENMON_WORKSPACE')
    if (part === undefined) return { expertKey, skill, requiredEnv, launch }
    const [file = '', ...args] = [...part.joining, launch.file, ...launch.args]
    return { expertKey, skill, requiredEnv, launch: { ...launch, file, args }, memoryEnds: part.memoryEnds }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#closing.abort(new Error('the host is closing'))
    await this.#heaps
    await Promise.allSettled(this.#starts)
    await Promise.all([...this.#machines].map((machine) => machine.destroy()))
    await this.#spawner.close()
    await this.#cgroups.close()
  }

  /** Begins to place the skills of a lock for the next who asks. */
  expect(lock: Lock): void {
    const placing = this.#place(lock)
    // Whoever asks hears of it.
    placing.catch(() => {})
    this.#expected.set(lock, placing)
  }

  /** Where the skills of a lock are, as they were expected, or as they are now. Throws `machine_failed`. */
  async place(lock: Lock): Promise<readonly PlacedSkill[]> {
    const expected = this.#expected.get(lock)
    this.#expected.delete(lock)
    return await (expected ?? this.#place(lock))
  }

  /** Where the skills of a lock are; installs what is not there yet. Throws `machine_failed`. */
  async #place(lock: Lock): Promise<readonly PlacedSkill[]> {
    const directories = new Map<string, Promise<string>>()
    const install = (skill: LockedStdioSkill) => {
      const known = directories.get(skill.installHash) ?? this.#options.install(skill)
      directories.set(skill.installHash, known)
      return known
    }
    const wanted = Object.values(lock.experts).flatMap((expert) =>
      Object.entries(expert.skills).flatMap(([skill, locked]) =>
        locked.type === 'mcpStdioSkill' ? [{ expertKey: expert.key, skill, locked }] : [],
      ),
    )
    try {
      return await Promise.all(
        wanted.map(async (one) => ({
          ...one,
          directory: this.runtime.share(await install(one.locked), one.locked.installHash),
        })),
      )
    } catch (cause) {
      throw new PlatformError('machine_failed', `A skill of ${lock.coordinator} could not be installed.`, { cause })
    }
  }
}

/** Hosts that this process has opened: each has cgroups of its own. */
let hosts = 0

/** Opens the runtime, the slots and the cgroups of a host, and logs what limits its machines. */
export async function openSupervisedHost(options: LocalHostOptions, launches: Launches): Promise<SupervisedHost> {
  const { runtimeDirectory, execPath, bundles, clock, log } = options
  const runtime = await openRuntime({
    directory: runtimeDirectory,
    execPath,
    clock,
    ...(bundles === undefined ? {} : { bundles }),
  })
  const cgroups = await openCgroups(`${nameOfServer(process.pid)}-${(hosts += 1)}`, clock)
  const { memory, pids, cpu, freeze } = isJoinable() ? cgroups.kept : UNLIMITED
  const hasParts = isJoinable() && joinsPart(cgroups)
  log.info('What limits machines on this computer, by cgroups of which version; null for nothing.', {
    memory,
    pids,
    cpu,
    freeze,
    skill: hasParts ? memory : null,
  })
  const spawner =
    process.platform === 'linux'
      ? openSpawner({ directory: runtime.directory, node: execPath, before: [...mortal(), ...limiting()] })
      : openOwnSpawner()
  return new SupervisedHost(options, runtime, launches, cgroups, spawner, hasParts)
}

/** What operators are told: a limit that nothing keeps is said to be none. */
export function limitsOf({ memoryBytes, tasks, cpus }: MachineLimits, kept: Kept): readonly MachineLimit[] {
  const by = (kind: 'memory' | 'pids' | 'cpu') => (kept[kind] === null ? null : `cgroup ${kept[kind]}`)
  return [
    { name: 'memoryBytes', value: memoryBytes, keptBy: by('memory') },
    { name: 'tasks', value: tasks, keptBy: by('pids') },
    ...(cpus === null ? [] : [{ name: 'cpus', value: cpus, keptBy: by('cpu') } as const]),
  ]
}

const UNLIMITED: Kept = { memory: null, pids: null, cpu: null, freeze: null }

/** Has what follows die with whoever starts it, even while it is stopped in its tracks. */
function mortal(): readonly string[] {
  const setpriv = find(SETPRIV_PATHS)
  return setpriv === undefined ? [] : [setpriv, '--pdeathsig', 'KILL', '--']
}

/** Limits what it starts, and all that this starts in turn. No process of root's is counted among a uid's. */
function limiting(): readonly string[] {
  const prlimit = find(PRLIMIT_PATHS)
  const processes = process.getuid?.() === 0 ? [`--nproc=${PROCESSES_MAX}`] : []
  return prlimit === undefined
    ? []
    : [prlimit, '--core=0', '--nofile=4096', `--fsize=${FILE_BYTES_MAX}`, ...processes, '--']
}

function find(paths: readonly string[]): string | undefined {
  return paths.find((path) => existsSync(path))
}

/** Whether a process that has become a machine's uid gets into a part of its machine. */
function joinsPart(cgroups: Cgroups): boolean {
  const uid = process.getuid?.() === 0 ? UID_OF_TRIAL : undefined
  const trial = cgroups.make('trial', MACHINE_LIMITS, uid)
  const part = trial.part(1, SKILL_LIMITS.memoryBytes)
  const [setpriv = ''] = [find(SETPRIV_PATHS)]
  const becomes = uid === undefined ? [] : [setpriv, '--reuid', `${uid}`, '--regid', `${uid}`, '--clear-groups', '--']
  const [file, ...args] = [...trial.joining, ...becomes, ...(part?.joining ?? []), '/bin/true']
  const isIn = part !== undefined && spawnSync(file, args, { env: {}, timeout: 10_000 }).status === 0
  trial.remove()
  return isIn
}

/** No slot has it. */
const UID_OF_TRIAL = 199_999

/** Root joins a cgroup before it becomes the slot's uid, which takes a program. */
function isJoinable(): boolean {
  return process.getuid?.() !== 0 || find(SETPRIV_PATHS) !== undefined
}

/**
 * What stands before Node: its cgroup, whom it runs as, and its death with this process even while it is stopped in its
 * tracks. Without the programs for it a machine is never stopped. What limits each process comes from the spawner (`limiting`).
 */
function launcherOf(
  slot: Slot,
  cgroup: Cgroup,
): { readonly launcher: readonly string[]; readonly spawnUid: number | undefined; readonly isMortal: boolean } {
  const setpriv = find(SETPRIV_PATHS)
  const joining = isJoinable() ? cgroup.joining : []
  const becomes = joining.length > 0 && slot.uid !== undefined
  const user = becomes ? ['--reuid', `${slot.uid}`, '--regid', `${slot.uid}`, '--clear-groups'] : []
  const mortal = setpriv === undefined ? [] : [setpriv, ...user, '--pdeathsig', 'KILL', '--']
  return {
    launcher: [...joining, ...mortal],
    spawnUid: becomes ? undefined : slot.uid,
    isMortal: setpriv !== undefined,
  }
}
