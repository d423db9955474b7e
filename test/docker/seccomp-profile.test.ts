import { describe, expect, it } from 'vitest'
import { AF_NETLINK, NEEDED_BY_BUBBLEWRAP, seccompProfile } from '../../src/docker/seccomp-profile.ts'
import {
  ALLOW,
  assemble,
  checkedCalls,
  deniedCalls,
  denyProgram,
  EAFNOSUPPORT,
  failWith,
  type Arch,
} from '../../src/sandbox/seccomp.ts'
import { AUDIT, verdict } from '../support/filter-verdict.ts'
import { profileProgram } from '../support/profile-program.ts'

const profile = seccompProfile()

describe.each(['x64', 'arm64'] as const)("a container's filter of system calls on %s", (arch: Arch) => {
  const container = assemble(profileProgram(profile, arch))
  const compartment = assemble(denyProgram(arch))
  const ask = (number: number, args: readonly bigint[] = []) => verdict(container, AUDIT[arch], number, args)
  const { socket, socketpair, clone, ioctl, personality } = checkedCalls(arch)

  it('refuses what a compartment is refused, but for what bubblewrap needs to make one', () => {
    const differs = deniedCalls(arch).filter(({ number }) => ask(number) !== verdict(compartment, AUDIT[arch], number))
    expect(differs.map(({ name }) => name)).toEqual(NEEDED_BY_BUBBLEWRAP)
    for (const { number } of differs) expect(ask(number)).toBe(ALLOW)
  })

  it('allows nothing else that a compartment is refused, whatever the arguments', () => {
    const allowed: string[] = []
    for (const number of [ioctl, personality])
      for (const value of [0n, 1n, 0x5412n, 0x541cn, 0x1_0000_5412n, 0x40000n, 0xffffffffn]) {
        const args = number === ioctl ? [0n, value] : [value]
        if (verdict(compartment, AUDIT[arch], number, args) !== ALLOW && ask(number, args) === ALLOW)
          allowed.push(`${number} ${value}`)
      }
    expect(allowed).toEqual([])
  })

  it('has sockets of this computer and the one that loopback needs, and of no network', () => {
    for (const number of [socket, socketpair])
      for (let family = 0n; family < 64n; family++) {
        const isOpen = family === 1n || family === BigInt(AF_NETLINK)
        expect([family, ask(number, [family])]).toEqual([family, isOpen ? ALLOW : failWith(EAFNOSUPPORT)])
      }
  })

  it('is not fooled by the half of a family that the kernel does not read', () => {
    for (const family of [2n, 10n, 40n]) expect(ask(socket, [0x1_0000_0000n + family])).toBe(failWith(EAFNOSUPPORT))
  })

  it('lets a supervisor make compartments', () => {
    expect(ask(clone, [0x7c020011n])).toBe(ALLOW)
  })
})

describe('the profile', () => {
  it('is for the architectures that the table has, and for no other convention of calls', () => {
    expect(profile.architectures).toEqual(['SCMP_ARCH_X86_64', 'SCMP_ARCH_AARCH64'])
  })

  it('never compares one argument twice in a rule: an engine would take either for both', () => {
    expect(profile.syscalls.every(({ args }) => args === undefined || args.length === 1)).toBe(true)
  })
})
