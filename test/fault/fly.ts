/** Faults of machines on Fly: who is believed, what is asked of its API, what is left in a machine, who is let in. */
import type { Fault } from './fault.ts'

const identity = { file: 'src/fly/fly-identity.ts', tests: ['test/fly/fly-identity.test.ts'] } as const
const door = { file: 'src/http/machine-door.ts', tests: ['test/machine/machine-door.test.ts'] } as const
const links = { file: 'src/pool/links.ts', tests: ['test/pool/links.test.ts'] } as const
const client = {
  file: 'src/fly/machines-client.ts',
  tests: ['test/fly/machines-client.test.ts', 'test/fly/fly-provider.test.ts'],
} as const
const turns = { file: 'src/fly/call-turns.ts', tests: ['test/fly/call-turns.test.ts'] } as const
const probe = { file: 'src/fly/fly-probe.ts', tests: ['test/fly/fly-probe.test.ts'] } as const
const life = { file: 'runner/machine/life.ts', tests: ['test/machine/life.test.ts'] } as const

export const faults: readonly Fault[] = [
  {
    name: 'a token that was made for somebody else is taken',
    find: '        audience,\n        algorithms',
    replace: '        algorithms',
    ...identity,
  },
  {
    name: 'a token of another app is taken',
    find: 'app !== machine.place || name',
    replace: 'name',
    ...identity,
  },
  {
    name: 'one machine is taken for another of its name',
    find: ' || (machine.providerId !== null && machine.providerId !== id)',
    replace: '',
    ...identity,
  },
  {
    name: 'a machine of another name is taken for ours',
    find: ' || name !== nameOf(machine.id)',
    replace: '',
    ...identity,
  },
  { name: 'a machine of any image is let in', find: 'digest !== imageDigest || ', replace: '', ...identity },
  {
    name: 'a token that is over is taken for an hour',
    find: 'clockTolerance: LEEWAY_SECONDS',
    replace: 'clockTolerance: 60 * LEEWAY_SECONDS',
    ...identity,
  },
  { name: 'a token counts as often as it comes', find: 'if (!isNew(jti)) throw refused()', replace: '', ...identity },
  {
    name: 'a token counts as long as Fly says',
    find: 'maxTokenAge: AGE_SECONDS_MAX',
    replace: 'maxTokenAge: 600',
    ...identity,
  },
  {
    name: 'a body is read on beyond what it may weigh',
    find: 'if (bytes > bytesMax)',
    replace: 'if (bytes > 2 * bytesMax)',
    ...door,
  },
  {
    name: 'a body that does not come is waited for',
    find: '() => incoming.destroy(),',
    replace: '() => {},',
    ...door,
  },
  {
    name: 'strangers are looked at as often as they like',
    find: "if (!rate.take(clock.now())) throw new PlatformError('rate_limited'",
    replace: "if (rate !== strangers && !rate.take(clock.now())) throw new PlatformError('rate_limited'",
    ...door,
  },
  {
    name: 'strangers are known by asking',
    find: '        demandTurn(secret)\n        const said',
    replace: '        know(secret)\n        demandTurn(secret)\n        const said',
    ...door,
  },
  {
    name: 'a machine that was stopped is believed on',
    find: '${bootId} ${machine.boots}`',
    replace: '${bootId}`',
    ...links,
  },
  {
    name: 'a machine hears of a job before it holds its row',
    find: 'if (one.link.isClosed || !(await one.hold(bootId))) return false',
    replace: 'if (one.link.isClosed || ((await one.hold(bootId)) && false)) return false',
    ...links,
  },
  {
    name: 'lines pass under an old fence',
    find: 'owner.jobId !== name.jobId || owner.fence !== name.fence',
    replace: 'owner.jobId !== name.jobId || owner.fence < name.fence',
    ...links,
  },
  {
    name: 'an order whose answer was lost is made again unseen',
    find: 'const before = unsure.has(wanted.name) ?',
    replace: "const before = wanted.name === '' ?",
    ...client,
  },
  {
    name: 'calls do not wait for their turn',
    find: 'if (waitMs > 0) await clock.sleep(waitMs)\n      const lateMs = clock.now() - askedAt - waitMs',
    replace: 'const lateMs = clock.now() - askedAt',
    ...turns,
  },
  {
    name: 'an app that does not answer is asked on',
    find: 'if (admitted === undefined) throw',
    replace: "if (admitted === undefined && app === '') throw",
    ...client,
  },
  {
    name: 'a call that was not sent says that the app answers',
    find: 'isUnsent ? withdraw(current, isTrial) :',
    replace: 'isUnsent ? settle(current, false, 0) :',
    ...client,
  },
  {
    name: 'a turn is used whenever whoever has it goes on',
    find: 'lateMs <= LATE_MS_MAX',
    replace: 'lateMs <= 10 * LATE_MS_MAX',
    ...turns,
  },
  {
    name: 'each process has the whole rate of an app',
    find: 'isOfApp ? [turns, APP_CALLS]',
    replace: 'isOfApp ? [own, APP_CALLS]',
    ...turns,
  },
  {
    name: 'all that Fly allows at once is taken at once',
    find: 'APP_CALLS: Rate = { perSecond: 0.9, burst: 2 }',
    replace: 'APP_CALLS: Rate = { perSecond: 0.9, burst: 3 }',
    ...turns,
  },
  {
    name: 'turns are taken one after the other by the database’s clock and not by each other',
    file: 'src/postgres/postgres-turn-store.ts',
    find: 'set free_at = greatest(taken.free_at, (select now from moment)) + $2\n',
    replace: 'set free_at = (select now from moment) + $2\n',
    tests: ['test/adapter/postgres-pool-store.test.ts'],
    suite: 'whole',
  },
  {
    name: 'a probe takes a Fly that is away for one that will never do it',
    find: "return { ...no(reason, 'Look at Fly’s status and at FLY_FLAPS_BASE_URL, then try again.'), mayPass: true }",
    replace: "return no(reason, 'Look at Fly’s status and at FLY_FLAPS_BASE_URL, then try again.')",
    ...probe,
  },
  {
    name: 'a probe leaves its machine',
    find: '      await client.destroy(app, id)\n',
    replace: '      if (id === app) await client.destroy(app, id)\n',
    ...probe,
  },
  {
    name: 'a machine suspends itself though nobody told it to',
    find: "if (answer.type === 'suspend' && !isWaking) {",
    replace: "if (answer.type !== 'suspend' && !isWaking) {",
    ...life,
  },
  {
    name: 'a job sees a clock that is an hour late',
    find: 'Math.abs(skewMs) <= SKEW_MS_MAX',
    replace: 'Math.abs(skewMs) >= SKEW_MS_MAX',
    ...life,
  },
  {
    name: 'a machine that slept for long gives its control plane up at once',
    find: 'Math.min(TURN_MS_MAX, clock.now() - askedAt)',
    replace: 'clock.now() - askedAt',
    ...life,
  },
  {
    name: 'a machine whose supervisor ended parks all the same',
    find: 'if (fault !== undefined) {',
    replace: "if (fault !== undefined && machineId === '') {",
    ...life,
  },
  {
    name: 'a machine that lacks something tries all the same',
    find: 'const lack = ports.lack()',
    replace: 'const lack = ports.signal.aborted ? ports.lack() : undefined',
    ...life,
  },
  {
    name: 'whoever waits for a machine that can do no job waits on',
    find: '      expected.get(machine.id)?.arrived.reject(failure)\n',
    replace: "      if (fault === '') throw failure\n",
    ...links,
  },
  {
    name: 'a machine is given up for its word though it has a job',
    find: "if (machine.state === 'busy') return\n",
    replace: '',
    ...links,
  },
  {
    name: 'machines that can do no job are made on and on',
    file: 'src/pool/rounds.ts',
    find: 'pace = neverCame(pace, generation, clock.now(), why)',
    replace: '',
    tests: ['test/pool/unfit-machines.test.ts'],
  },
  {
    name: 'a stop proves a generation',
    file: 'src/pool/machine.ts',
    find: ' || (idleSince !== null && fault === null)',
    replace: ' || idleSince !== null',
    tests: ['test/pool/unfit-machines.test.ts'],
  },
  {
    name: 'a supervisor that cannot restore a tree waits for a job',
    file: 'runner/supervisor/supervisor.ts',
    find: 'this.#finish(EXIT.failed, `It cannot make itself ready: ${String(error)}`)',
    replace: "this.#log('supervisor', String(error))",
    tests: ['test/adapter/unfit-image.test.ts'],
    suite: 'whole',
  },
  {
    name: 'an image without a /tmp is tried',
    file: 'runner/machine/fitness.ts',
    find: 'if (!isDirectory(temporary)) return',
    replace: "if (temporary === '') return",
    tests: ['test/machine/fitness.test.ts'],
  },
  {
    name: 'a machine that cannot be seen yet is taken for destroyed',
    file: 'src/fly/fly-provider.ts',
    find: 'if (clock.now() - machine.since < SURE_MS)',
    replace: 'if (clock.now() - machine.since < 0)',
    tests: client.tests,
  },
  {
    name: 'what is being stopped is told so again',
    file: 'src/pool/errands.ts',
    find: 'if (after.version === version) await postpone',
    replace: 'if (after.version < version) await postpone',
    tests: ['test/pool/errands.test.ts'],
  },
  {
    name: 'compartments see what Fly gives their machine',
    file: 'src/sandbox/sandbox.ts',
    find: "['--remount-ro', '/', '--chdir', spec.cwd]",
    replace: "['--ro-bind-try', '/.fly', '/.fly', '--remount-ro', '/', '--chdir', spec.cwd]",
    tests: ['test/machine/machine-image.test.ts'],
  },
  {
    name: 'a skill gets a secret in place of its PATH',
    file: 'src/sandbox/machine-image.ts',
    find: '.filter((name) => !OWN_NAMES.has(name))',
    replace: '',
    tests: ['test/machine/machine-image.test.ts'],
  },
  {
    name: 'a skill may write its input',
    file: 'src/sandbox/machine-image.ts',
    find: "target: '/workspace/input', writable: false",
    replace: "target: '/workspace/input', writable: true",
    tests: ['test/machine/machine-image.test.ts'],
  },
  {
    name: 'a simulated machine’s processes outlive it',
    file: 'test/fake/fly-sim/process-driver.ts',
    find: "['--unshare-pid', '--unshare-ipc'",
    replace: "['--unshare-ipc'",
    tests: ['test/adapter/fly-sim-process.test.ts'],
    suite: 'whole',
  },
]
