/**
 * An engine's filter as a program for the kernel, as libseccomp would make it of the conditions that our profile uses;
 * the architecture of this computer alone. A condition looks at all 64 bits of its argument.
 */
import type { SeccompProfile, SeccompRule } from '../../src/docker/seccomp-profile.ts'
import {
  ALLOW,
  checkedCalls,
  deniedCalls,
  failWith,
  KILL,
  type Arch,
  type Instruction,
} from '../../src/sandbox/seccomp.ts'

const LOAD = 0x20
const EQUAL = 0x15
const GREATER = 0x25
const AND = 0x54
const RETURN = 0x06
const AUDIT_ARCH = { x64: 0xc000003e, arm64: 0xc00000b7 }

export function profileProgram(
  profile: SeccompProfile,
  arch: Arch = process.arch === 'arm64' ? 'arm64' : 'x64',
): Instruction[] {
  const numbers = new Map<string, number>([
    ...deniedCalls(arch).map(({ name, number }) => [name, number] as const),
    ...Object.entries(checkedCalls(arch)),
  ])
  const rules = profile.syscalls.flatMap((rule) =>
    rule.names.flatMap((name) => {
      const number = numbers.get(name)
      return number === undefined ? [] : [ruleProgram(number, rule)]
    }),
  )
  return [
    load(4),
    { code: EQUAL, jt: 1, jf: 0, k: AUDIT_ARCH[arch] },
    give(KILL),
    ...rules.flat(),
    give(profile.defaultAction === 'SCMP_ACT_ALLOW' ? ALLOW : KILL),
  ]
}

/** Fails the call when its number and its condition are met, and goes on behind itself otherwise. */
function ruleProgram(number: number, { errnoRet, args }: SeccompRule): readonly Instruction[] {
  const fail = [give(failWith(errnoRet))]
  const body = args === undefined ? fail : conditionProgram(args[0], fail)
  return [load(0), { code: EQUAL, jt: 0, jf: body.length, k: number }, ...body]
}

function conditionProgram(
  { index, value, valueTwo, op }: NonNullable<SeccompRule['args']>[0],
  fail: readonly Instruction[],
): readonly Instruction[] {
  const low = 16 + 8 * index
  const high = low + 4
  const n = fail.length
  switch (op) {
    case 'SCMP_CMP_MASKED_EQ':
      return [
        load(low),
        { code: AND, jt: 0, jf: 0, k: value },
        { code: EQUAL, jt: 0, jf: n, k: valueTwo ?? 0 },
        ...fail,
      ]
    case 'SCMP_CMP_EQ':
      return [
        load(high),
        { code: EQUAL, jt: 0, jf: n + 2, k: 0 },
        load(low),
        { code: EQUAL, jt: 0, jf: n, k: value },
        ...fail,
      ]
    case 'SCMP_CMP_NE':
      return [
        load(high),
        { code: EQUAL, jt: 0, jf: 2, k: 0 },
        load(low),
        { code: EQUAL, jt: n, jf: 0, k: value },
        ...fail,
      ]
    case 'SCMP_CMP_GT':
      return [
        load(high),
        { code: EQUAL, jt: 0, jf: 2, k: 0 },
        load(low),
        { code: GREATER, jt: 0, jf: n, k: value },
        ...fail,
      ]
    default:
      throw new Error(`no such operator: ${String(op)}`)
  }
}

function load(offset: number): Instruction {
  return { code: LOAD, jt: 0, jf: 0, k: offset }
}

function give(verdict: number): Instruction {
  return { code: RETURN, jt: 0, jf: 0, k: verdict }
}
