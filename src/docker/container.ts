/** What a container is made of: the whole body of its order, from the machine and the engine's description. Pure. */
import { sha256 } from '../../schema/hash.ts'
import type { MachineId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import { cacheEnvironment, CONTAINER_UIDS, IMAGE, imagePaths } from '../../schema/machine-image.ts'
import type { MachinePlan } from '../../schema/machine-plan.ts'
import { SUPERVISOR_OPTIONS } from '../../schema/node-options.ts'
import { seccompProfile } from './seccomp-profile.ts'

export const LABEL = {
  machine: 'dev.senmon.machine',
  pool: 'dev.senmon.pool',
  place: 'dev.senmon.place',
  generation: 'dev.senmon.generation',
} as const

/** What one machine may use, all of it together. */
export interface ContainerLimits {
  readonly memoryBytes: number
  /** Processes and threads. */
  readonly tasks: number
  readonly cpus: number
}

const MIB = 1024 * 1024
const PATHS = imagePaths(IMAGE)

export const CONTAINER_LIMITS: ContainerLimits = { memoryBytes: 4096 * MIB, tasks: 2048, cpus: 2 }

/** Files of a machine live in memory, end with it, and count toward its memory. */
const TMPFS: readonly { readonly path: string; readonly mib: number; readonly files: number }[] = [
  { path: IMAGE.home, mib: 16, files: 1000 },
  { path: PATHS.workspace, mib: 512, files: 50_000 },
  { path: PATHS.input, mib: 320, files: 50_000 },
  { path: PATHS.packages, mib: 1024, files: 200_000 },
]

export interface ContainerOrder {
  readonly machineId: MachineId
  readonly pool: string
  readonly place: string
  readonly generation: string
  /** The image by its digest: a name may mean another one tomorrow. */
  readonly imageId: string
  /** The engine's runtime for it, such as `runsc`; null for the engine's own. */
  readonly runtime: string | null
  /** Its own profile knows no mounts inside of a container; ours of system calls takes its place. */
  readonly hasAppArmor: boolean
  readonly limits: ContainerLimits
  readonly plan: MachinePlan
}

/** The engine's name for it: whoever lost the answer to an order finds it by that. */
export function containerName(machineId: MachineId): string {
  return `senmon-${machineId}`
}

/** Whom the supervisor of this machine runs as: the kernel counts some things by uid, and few machines share one. */
export function uidOf(machineId: MachineId): number {
  return CONTAINER_UIDS.first + (Number.parseInt(sha256(machineId).slice(0, 8), 16) % CONTAINER_UIDS.count)
}

/** The body of `POST /containers/create`. */
export function containerBody(order: ContainerOrder): Json {
  const { limits } = order
  const uid = uidOf(order.machineId)
  const limit = (name: string, most: number) => ({ Name: name, Soft: most, Hard: most })
  return {
    Image: order.imageId,
    Entrypoint: [IMAGE.node],
    Cmd: [...SUPERVISOR_OPTIONS, PATHS.bundle('supervisor'), JSON.stringify(order.plan)],
    Env: Object.entries(cacheEnvironment(PATHS.cache('supervisor'))).map(([name, value]) => `${name}=${value}`),
    User: `${uid}:${uid}`,
    WorkingDir: '/',
    Hostname: 'senmon',
    NetworkDisabled: true,
    OpenStdin: true,
    // When this process is gone, so is its end of the stream, and the supervisor ends by itself (P8.2).
    StdinOnce: true,
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
    Tty: false,
    Healthcheck: { Test: ['NONE'] },
    Labels: {
      [LABEL.machine]: order.machineId,
      [LABEL.pool]: order.pool,
      [LABEL.place]: order.place,
      [LABEL.generation]: order.generation,
    },
    HostConfig: {
      NetworkMode: 'none',
      IpcMode: 'none',
      ReadonlyRootfs: true,
      CapDrop: ['ALL'],
      Privileged: false,
      SecurityOpt: [
        'no-new-privileges',
        `seccomp=${JSON.stringify(seccompProfile())}`,
        ...(order.hasAppArmor ? ['apparmor=unconfined'] : []),
      ],
      // bubblewrap can mount a /proc of its own only where the container's is whole. The supervisor is no root there,
      // and compartments see their own, read-only.
      MaskedPaths: [],
      ReadonlyPaths: [],
      Tmpfs: Object.fromEntries(
        TMPFS.map(({ path, mib, files }) => [
          path,
          `rw,exec,nosuid,nodev,size=${mib}m,nr_inodes=${files},mode=0700,uid=${uid},gid=${uid}`,
        ]),
      ),
      Memory: limits.memoryBytes,
      MemorySwap: limits.memoryBytes,
      PidsLimit: limits.tasks,
      CpuPeriod: 100_000,
      CpuQuota: Math.round(limits.cpus * 100_000),
      Ulimits: [limit('core', 0), limit('nofile', 4096), limit('fsize', 256 * MIB)],
      // What a machine says is its job's: no engine keeps a copy.
      LogConfig: { Type: 'none', Config: {} },
      RestartPolicy: { Name: 'no', MaximumRetryCount: 0 },
      ...(order.runtime === null ? {} : { Runtime: order.runtime }),
    },
  }
}
