import { describe, expect, it } from 'vitest'
import {
  ALLOW,
  assemble,
  checkedCalls,
  deniedCalls,
  denyProgram,
  EAFNOSUPPORT,
  ENOSYS,
  EPERM,
  failWith,
  KILL,
  type Arch,
} from '../../src/sandbox/seccomp.ts'
import { AUDIT, verdict } from '../support/filter-verdict.ts'

/** Faults of the filter, as sentences; none for a right one. */
function faults(arch: Arch, bytes: Uint8Array): readonly string[] {
  const found: string[] = []
  const ask = (name: string, wanted: number, number: number, args: readonly bigint[] = [], audit?: number) => {
    let given: number | string
    try {
      given = verdict(bytes, audit ?? AUDIT[arch], number, args)
    } catch (error) {
      given = String(error)
    }
    if (given !== wanted) found.push(`${name}: wanted ${wanted.toString(16)}, got ${given.toString(16)}`)
  }
  const calls = checkedCalls(arch)
  const denied = new Map(deniedCalls(arch).map((call) => [call.number, call]))
  for (let number = 0; number < 600; number++) {
    if (Object.values(calls).includes(number)) continue
    const call = denied.get(number)
    for (const args of [[], [7n, 7n, 7n]]) {
      ask(call?.name ?? `call ${number}`, call === undefined ? ALLOW : failWith(call.errno), number, args)
    }
  }
  for (const socket of [calls.socket, calls.socketpair]) {
    for (let family = 0n; family < 50n; family++) {
      ask(`socket of family ${family}`, family === 1n ? ALLOW : failWith(EAFNOSUPPORT), socket, [family])
    }
  }
  ask('clone of a thread', ALLOW, calls.clone, [0x3d0f00n])
  ask('clone of a process', ALLOW, calls.clone, [0x1200011n])
  // Arguments that look like the numbers of calls: a jump that lands too late would take them for such.
  ask('clone with the flags of an ioctl', ALLOW, calls.clone, [BigInt(calls.ioctl), 0x5412n])
  ask('ioctl with the request of a personality', ALLOW, calls.ioctl, [7n, BigInt(calls.personality)])
  for (const bit of [7n, 17n, 25n, 26n, 27n, 28n, 29n, 30n]) {
    ask(`clone with bit ${bit}`, failWith(EPERM), calls.clone, [(1n << bit) | 17n])
  }
  ask('ioctl FIONREAD', ALLOW, calls.ioctl, [0n, 0x541bn])
  for (const request of [0x5412n, 0x541cn]) {
    ask('ioctl into a terminal', failWith(EPERM), calls.ioctl, [0n, request])
    ask('ioctl with a high bit', failWith(EPERM), calls.ioctl, [0n, request | (1n << 32n)])
  }
  ask('personality query', ALLOW, calls.personality, [0xffffffffn])
  ask('personality none', ALLOW, calls.personality, [0n])
  ask('personality no-randomize', failWith(EPERM), calls.personality, [0x40000n])
  ask('another architecture', KILL, 0, [], 0x40000003)
  ask('the other architecture', KILL, 0, [], AUDIT[arch === 'x64' ? 'arm64' : 'x64'])
  if (arch === 'x64') ask('an x32 call', KILL, 0x40000000 + 41, [2n])
  return found
}

describe.each(['x64', 'arm64'] as const)('the filter for %s', (arch) => {
  const bytes = assemble(denyProgram(arch))

  it('denies what it names and lets everything else pass', () => {
    expect(faults(arch, bytes)).toEqual([])
  })

  it('fits the kernel: below 4,096 instructions, every jump inside', () => {
    const program = denyProgram(arch)
    expect(program.length).toBeLessThan(4096)
    for (const [at, { code, jt, jf }] of program.entries()) {
      if (code !== 0x06) expect(at + 1 + Math.max(jt, jf)).toBeLessThan(program.length)
    }
  })

  it('names numbers that differ from one another', () => {
    const numbers = [...deniedCalls(arch).map((call) => call.number), ...Object.values(checkedCalls(arch))]
    expect(new Set(numbers).size).toBe(numbers.length)
  })

  it('is found at fault when any one jump is off by one', () => {
    const program = denyProgram(arch)
    const missed = program.flatMap((instruction, at) => {
      if (instruction.code === 0x06 || instruction.code === 0x20) return []
      return (['jt', 'jf'] as const).flatMap((side) => {
        const wrong = program.with(at, { ...instruction, [side]: instruction[side] + 1 })
        return faults(arch, assemble(wrong)).length === 0 ? [`${at}.${side}`] : []
      })
    })
    expect(missed).toEqual([])
  })

  it('hides what would go around it: clone3 and io_uring', () => {
    const absent = deniedCalls(arch).filter((call) => call.errno === ENOSYS)
    expect(absent.map((call) => call.name).toSorted()).toEqual([
      'clone3',
      'io_uring_enter',
      'io_uring_register',
      'io_uring_setup',
    ])
  })
})
