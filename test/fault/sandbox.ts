/** Faults of the sandbox: a way out for what runs in a compartment. */
import type { Fault } from './fault.ts'

const escapes = { tests: ['test/adapter/sandbox-escapes.test.ts'], suite: 'whole' } as const

export const faults: readonly Fault[] = [
  {
    name: 'a compartment has the network of the host',
    file: 'src/sandbox/sandbox.ts',
    find: `'uts', 'cgroup', 'net']`,
    replace: `'uts', 'cgroup']`,
    ...escapes,
  },
  {
    name: 'a compartment sees the processes of the host',
    file: 'src/sandbox/sandbox.ts',
    find: `['user', 'pid', 'ipc'`,
    replace: `['user', 'ipc'`,
    ...escapes,
  },
  {
    name: 'the root of a compartment can be written',
    file: 'src/sandbox/sandbox.ts',
    find: `['--remount-ro', '/', '--chdir', spec.cwd]`,
    replace: `['--chdir', spec.cwd]`,
    ...escapes,
  },
  {
    name: 'a socket of any family may be made',
    file: 'src/sandbox/seccomp.ts',
    find: '    ...whenEqual(socket, local),\n',
    replace: '',
    ...escapes,
  },
  {
    name: 'namespaces may be made by clone',
    file: 'src/sandbox/seccomp.ts',
    find: 'const NEW_NAMESPACES = 0x7e020080',
    replace: 'const NEW_NAMESPACES = 0x6e020080',
    ...escapes,
  },
]
