/** Faults of machines on this computer: what outlives its server, and limits that are said and not kept. */
import type { Fault } from './fault.ts'

const uses = { tests: ['test/adapter/local-uses.test.ts'], suite: 'whole' } as const
const cgroups = { tests: ['test/adapter/cgroups.test.ts'], suite: 'whole' } as const
const escapes = { tests: ['test/adapter/sandbox-escapes.test.ts'], suite: 'whole' } as const
const compiled = { tests: ['test/adapter/local-compiled.test.ts'], suite: 'whole' } as const
const deaths = { tests: ['test/adapter/local-server-death.test.ts'], suite: 'whole' } as const

export const faults: readonly Fault[] = [
  {
    name: 'a server that is gone still uses what it used',
    file: 'src/local/uses.ts',
    find: 'if (findProcess(Number(pid))?.startedAt === startedAt) continue',
    replace: 'if (pid !== startedAt) continue',
    ...uses,
  },
  {
    name: 'what a server that lives uses is removed',
    file: 'src/local/uses.ts',
    find: 'return readdirSync(join(uses, owner)).includes(name)',
    replace: `return readdirSync(join(uses, owner)).includes('')`,
    ...uses,
  },
  {
    name: 'copies of skills are kept for ever',
    file: 'src/local/uses.ts',
    find: '|heap|skill|',
    replace: '|heap|',
    ...uses,
  },
  {
    name: 'what a dead server was making stays',
    file: 'src/local/uses.ts',
    find: 'maker !== undefined && findProcess(Number(maker)) === undefined',
    replace: 'maker === undefined && findProcess(Number(maker)) !== undefined',
    ...uses,
  },
  {
    name: 'what a server that lives is making is removed',
    file: 'src/local/uses.ts',
    find: 'maker !== undefined && findProcess(Number(maker)) === undefined',
    replace: 'maker !== undefined',
    ...uses,
  },
  {
    name: 'the cgroups of a server that is gone stay',
    file: 'src/local/cgroups.ts',
    find: 'if (findProcess(Number(pid))?.startedAt !== startedAt) await endTree(',
    replace: 'if (findProcess(Number(pid)) === undefined && startedAt === pid) await endTree(',
    ...cgroups,
  },
  {
    name: 'a process that cannot join its cgroup runs without',
    file: 'src/local/cgroups.ts',
    find: '|| exit 78',
    replace: '|| true',
    ...cgroups,
  },
  {
    name: 'the limit of memory is not set',
    file: 'src/local/cgroups.ts',
    find: `for (const kind of kinds) limit(directory`,
    replace: `for (const kind of kinds) if (kind !== 'memory') limit(directory`,
    ...cgroups,
  },
  {
    name: 'a machine that is stopped outlives its server',
    file: 'src/local/supervised-host.ts',
    find: `...user, '--pdeathsig', 'KILL', '--']`,
    replace: `...user, '--']`,
    ...deaths,
  },
  {
    name: 'a start leaves the slots of a server that is dead',
    file: 'src/local/slots.ts',
    find: 'if (!isOwned(path)) remove(path)',
    replace: 'isOwned(path)',
    ...deaths,
  },
  {
    name: 'a start leaves a slot that a dead server was making',
    file: 'src/local/slots.ts',
    find: `if (code === 'ENOENT' && maker !== undefined) return findProcess(Number(maker)) !== undefined`,
    replace: `if (code === 'ENOENT' && maker !== undefined) return true`,
    ...deaths,
  },
  {
    name: 'a start leaves what a dead server said that it uses',
    file: 'src/local/uses.ts',
    find: 'rmSync(join(uses, owner), { recursive: true, force: true })',
    replace: '',
    ...deaths,
  },
  {
    name: 'priming leaves its directories beside the workspace',
    file: 'runner/supervisor/prime.ts',
    find: 'rmSync(beside, { recursive: true, force: true })',
    replace: '',
    ...escapes,
  },
  {
    name: 'what priming says goes to the control plane',
    file: 'runner/prime.ts',
    find: 'await runJob(lines(), { send: answer,',
    replace: `await runJob(lines(), { send: (line) => { if (line.type === 'request') process.stdout.write(printLine(line)); answer(line) },`,
    ...escapes,
  },
  {
    name: 'slots are open to other machines',
    file: 'src/local/slots.ts',
    find: 'const { uid } = lease\n',
    replace: 'const { uid } = lease\n    chmodSync(path, 0o755)\n',
    ...escapes,
  },
  {
    name: 'a limit that nothing keeps is said to be kept',
    file: 'src/local/supervised-host.ts',
    find: '(kept[kind] === null ? null : `cgroup ${kept[kind]}`)',
    replace: '`cgroup ${kept[kind]}`',
    ...cgroups,
  },
  {
    name: 'a machine whose job waits reads its bundle all the same',
    file: 'src/local/sandbox-provider.ts',
    find: 'isAwaited ? runtime.heapOf(bundle) : undefined',
    replace: 'undefined',
    ...compiled,
  },
  {
    name: 'a heap that does not begin is kept',
    file: 'src/local/heap.ts',
    find: 'if (!/"type":"(alive|ready)"/.test(said)) throw',
    replace: 'if (said === null) throw',
    ...compiled,
  },
  {
    name: 'anybody may write the heap that machines begin with',
    file: 'src/local/runtime.ts',
    find: '    allow(made)\n    renameSync(made, join(directory, name))',
    replace: '    chmodSync(made, 0o666)\n    renameSync(made, join(directory, name))',
    ...compiled,
  },
  {
    name: 'the part of a compartment has no limit',
    file: 'src/local/cgroups.ts',
    find: `limit(part, version, 'memory', limits)`,
    replace: '',
    ...cgroups,
  },
  {
    name: 'a skill starts outside of its part',
    file: 'src/local/supervised-host.ts',
    find: '[...part.joining, launch.file, ...launch.args]',
    replace: '[launch.file, ...launch.args]',
    tests: ['test/adapter/sandbox-provider.test.ts'],
    suite: 'whole',
  },
  {
    name: 'a skill that the kernel ended for its memory is said to have died by itself',
    file: 'runner/supervisor/skills.ts',
    find: `if (skill.ending === undefined && wasEnded()) end(`,
    replace: `if (skill.ending !== undefined && wasEnded()) end(`,
    tests: ['test/adapter/unruly-skill.test.ts'],
    suite: 'whole',
  },
]
