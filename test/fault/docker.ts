/** Faults of machines on a Docker engine: walls that are missing, machines that are left, answers that are misread. */
import type { Fault } from './fault.ts'

const pure = ['test/docker']
const provider = { tests: ['test/adapter/docker-provider.test.ts'], suite: 'whole' } as const

export const faults: readonly Fault[] = [
  {
    name: 'a container has a network',
    file: 'src/docker/container.ts',
    find: "NetworkMode: 'none'",
    replace: "NetworkMode: 'bridge'",
    tests: pure,
  },
  {
    name: 'a container keeps its capabilities',
    file: 'src/docker/container.ts',
    find: "CapDrop: ['ALL']",
    replace: 'CapDrop: []',
    tests: pure,
  },
  {
    name: 'a container may write its own root',
    file: 'src/docker/container.ts',
    find: 'ReadonlyRootfs: true',
    replace: 'ReadonlyRootfs: false',
    tests: pure,
  },
  {
    name: 'memory that a container has not goes to swap',
    file: 'src/docker/container.ts',
    find: 'MemorySwap: limits.memoryBytes',
    replace: 'MemorySwap: -1',
    tests: pure,
  },
  {
    name: 'a whole container may make sockets of vsock and beyond',
    file: 'src/docker/seccomp-profile.ts',
    find: "value: AF_NETLINK, op: 'SCMP_CMP_GT'",
    replace: "value: 40, op: 'SCMP_CMP_GT'",
    tests: pure,
  },
  {
    name: 'a supervisor may trace processes, though bubblewrap need not',
    file: 'src/docker/seccomp-profile.ts',
    find: "['mount', 'pivot_root',",
    replace: "['ptrace', 'mount', 'pivot_root',",
    tests: pure,
  },
  {
    name: 'a request of a terminal passes with a bit that only the filter reads',
    file: 'src/docker/seccomp-profile.ts',
    find: "{ index: 1, value: LOW_WORD, valueTwo: value, op: 'SCMP_CMP_MASKED_EQ' }",
    replace: "{ index: 1, value, op: 'SCMP_CMP_EQ' }",
    tests: pure,
  },
  {
    name: 'a frame with a strange beginning is read on',
    file: 'src/docker/stream-frames.ts',
    find: 'zeros.some((byte) => byte !== 0)',
    replace: 'zeros.length === 0',
    tests: pure,
  },
  {
    name: 'a header that comes in two parts is lost',
    file: 'src/docker/stream-frames.ts',
    find: 'this.#header.set(part, this.#headerBytes)',
    replace: 'this.#header.set(part, 0)',
    tests: pure,
  },
  {
    name: 'an engine without limits is taken',
    file: 'src/docker/engine-answer.ts',
    find: 'PidsLimit: z.boolean().default(false)',
    replace: 'PidsLimit: z.boolean().default(true)',
    tests: pure,
  },
  {
    name: 'an order with a lost answer is taken for one that took no effect',
    file: 'src/docker/engine-fault.ts',
    find: "? 'throttled' : 'ambiguous'",
    replace: "? 'throttled' : 'capacity'",
    tests: pure,
  },
  {
    name: 'an engine is spoken to in the clear on the way to another computer',
    file: 'src/docker/engine-address.ts',
    find: 'return LOOPBACK.has(hostname)',
    replace: "return LOOPBACK.has(hostname) || hostname.startsWith('10.')",
    tests: pure,
  },
  {
    name: 'containers of dead processes stay',
    file: 'src/docker/docker-provider.ts',
    find: 'if (!(await options.isDead(theirs))) continue',
    replace: 'if (await options.isDead(theirs)) continue',
    ...provider,
  },
  {
    name: 'a container that does not start is left',
    file: 'src/docker/docker-provider.ts',
    find: 'await remove(containerId).catch(() => {})\n      throw error',
    replace: 'throw error',
    ...provider,
  },
  {
    name: 'a machine that nobody holds is given its skills',
    file: 'src/docker/docker-provider.ts',
    find: 'if (!(await hold(bootId)))',
    replace: 'if (!(await hold(bootId)) && bootId === undefined)',
    ...provider,
  },
  {
    name: 'memory that ran out shows as a signal',
    file: 'src/docker/docker-provider.ts',
    find: "event['Action'] !== 'oom'",
    replace: "event['Action'] !== 'out of memory'",
    ...provider,
  },
  {
    name: 'an image without a compartment passes the probe',
    file: 'src/docker/docker-probe.ts',
    find: 'return results.find((result) => !result.ok) ?? { ok: true }',
    replace: 'return results[0] ?? { ok: true }',
    ...provider,
  },
  {
    name: 'packages are used without being what their hash says',
    file: 'runner/workspace/restore.ts',
    find: 'if (sha256(bytes) !== hash)',
    replace: 'if (sha256(bytes) !== hash && path === null)',
    ...provider,
  },
]
