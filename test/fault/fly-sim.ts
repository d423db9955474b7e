/** Faults in the simulator of the Machines API: a kind simulator would prove nothing. */
import type { Fault } from './fault.ts'

const SIM = 'test/fake/fly-sim'

export const faults: readonly Fault[] = [
  {
    name: 'a simulated machine that stops keeps the room of its region',
    file: `${SIM}/life.ts`,
    find: "if (state === 'stopped' || state === 'failed'",
    replace: "if (state === 'failed'",
    tests: ['test/fly-sim/calls.test.ts'],
  },
  {
    name: 'a simulated start takes room that is not there',
    file: `${SIM}/calls.ts`,
    find: 'if (host === undefined) return refuse(409, NO_ROOM)\n      if (host',
    replace: 'if (host === undefined) return (held.reserved = true) && ok()\n      if (host',
    tests: ['test/fly-sim/calls.test.ts'],
  },
  {
    name: 'a simulated machine without its memory boots with the files of its image',
    file: `${SIM}/life.ts`,
    find: 'const { clean } = held\n',
    replace: 'const clean = true\n',
    tests: ['test/fly-sim/calls.test.ts', 'test/fly-sim/faults.test.ts'],
  },
  {
    name: 'a timer of a state that a simulated machine has left still fires',
    file: `${SIM}/perform.ts`,
    find: 'else if (held.turn === timer.turn) come(',
    replace: 'else if (held.turn >= timer.turn) come(',
    tests: ['test/fly-sim/world.test.ts'],
  },
  {
    name: 'a foreign lease is no hindrance on the simulator',
    file: `${SIM}/calls.ts`,
    find: 'if (isHeld(world, lease) && lease.nonce !== call.nonce) return leased(held, lease)\n    const isForced',
    replace:
      'if (isHeld(world, lease) && call.nonce !== undefined && lease.nonce !== call.nonce) return leased(held, lease)\n    const isForced',
    tests: ['test/fly-sim/calls.test.ts'],
  },
  {
    name: 'a create whose answer is lost is never carried out on the simulator',
    file: `${SIM}/perform.ts`,
    find: 'if (lost?.commit === false)',
    replace: 'if (lost !== undefined)',
    tests: ['test/fly-sim/faults.test.ts'],
  },
  {
    name: 'all simulated machines draw from one stream',
    file: `${SIM}/calls.ts`,
    find: 'const stream = openStream(world.options.seed, app.name, name, app.createdAt, countNamed(world, app.name, name))',
    replace: 'countNamed(world, app.name, name)\n  const { stream } = app',
    tests: ['test/fly-sim/world.test.ts'],
  },
  {
    name: 'the simulator lets a machine on its own socket speak for others',
    file: `${SIM}/perform.ts`,
    find: 'return route.machine === request.by ? undefined : FORBIDDEN',
    replace: 'return undefined',
    tests: ['test/fly-sim/calls.test.ts'],
  },
  {
    name: 'a list shows what was written rather than what has come round',
    file: `${SIM}/world.ts`,
    find: 'return held.views.findLast((view) => view.at <= at)?.machine',
    replace: 'return held.views.at(at > 0 ? -1 : 0)?.machine',
    tests: ['test/fly-sim/calls.test.ts', 'test/fly-sim/faults.test.ts'],
  },
]
