/**
 * The filter of a whole container, as an engine takes it, made of the same table as that of compartments. The
 * supervisor inside must be able to make compartments, so this one leaves bubblewrap what it needs and nothing more;
 * each compartment then gets the whole filter on top, which no process can take off again.
 */
import { deniedCalls, EAFNOSUPPORT, EPERM, checkedCalls } from '../sandbox/seccomp.ts'

/** What bubblewrap calls to make a compartment: found by taking each away and seeing it fail. */
export const NEEDED_BY_BUBBLEWRAP: readonly string[] = ['mount', 'pivot_root', 'sethostname', 'umount2', 'unshare']

const AF_UNIX = 1
/** The only family besides, by which bubblewrap brings up the loopback of an empty network; a compartment has it not. */
export const AF_NETLINK = 16
const IOCTLS = [0x5412, 0x541c]
/** An `int` for the kernel, 64 bits for a filter that looks at them all. */
const LOW_WORD = 0xffffffff

type Operator = 'SCMP_CMP_EQ' | 'SCMP_CMP_GT' | 'SCMP_CMP_NE' | 'SCMP_CMP_MASKED_EQ'

export interface SeccompRule {
  readonly names: readonly string[]
  readonly action: 'SCMP_ACT_ERRNO'
  readonly errnoRet: number
  /** Conditions of one rule hold together; two on one argument would be alternatives, so there is never more than one. */
  readonly args?: readonly [
    { readonly index: number; readonly value: number; readonly valueTwo?: number; readonly op: Operator },
  ]
}

export interface SeccompProfile {
  readonly defaultAction: 'SCMP_ACT_ALLOW'
  /** Calls by any other convention end the caller. */
  readonly architectures: readonly string[]
  readonly syscalls: readonly SeccompRule[]
}

/** For both architectures: an engine leaves out the names that its own has not. */
export function seccompProfile(): SeccompProfile {
  const denied = new Map(
    [...deniedCalls('x64'), ...deniedCalls('arm64')]
      .filter(({ name }) => !NEEDED_BY_BUBBLEWRAP.includes(name))
      .map(({ name, errno }) => [name, errno]),
  )
  const sockets = Object.keys(checkedCalls('x64')).filter((name) => name.startsWith('socket'))
  const families = Array.from({ length: AF_NETLINK }, (_, family) => family).filter((family) => family !== AF_UNIX)
  const rule = (
    names: readonly string[],
    errnoRet: number,
    arg?: NonNullable<SeccompRule['args']>[0],
  ): SeccompRule => ({
    names,
    action: 'SCMP_ACT_ERRNO',
    errnoRet,
    ...(arg === undefined ? {} : { args: [arg] }),
  })
  return {
    defaultAction: 'SCMP_ACT_ALLOW',
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_AARCH64'],
    syscalls: [
      ...[...new Set(denied.values())].map((errno) =>
        rule(
          [...denied].flatMap(([name, its]) => (its === errno ? [name] : [])),
          errno,
        ),
      ),
      ...families.map((value) => rule(sockets, EAFNOSUPPORT, { index: 0, value, op: 'SCMP_CMP_EQ' })),
      rule(sockets, EAFNOSUPPORT, { index: 0, value: AF_NETLINK, op: 'SCMP_CMP_GT' }),
      ...IOCTLS.map((value) =>
        rule(['ioctl'], EPERM, { index: 1, value: LOW_WORD, valueTwo: value, op: 'SCMP_CMP_MASKED_EQ' }),
      ),
      rule(['personality'], EPERM, { index: 0, value: 0, op: 'SCMP_CMP_NE' }),
    ],
  }
}
