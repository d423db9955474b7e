/**
 * `npm run bench [name ...]`: first figures, as ratios within one run on one machine.
 *
 *   create   createJob per second, against yoga's `{hello}` and against a bare prepared INSERT on the same kind of Postgres
 *   start    from createJob to the first event of the runner
 *   step     overhead per step and bytes per job at 10, 100 and 300 steps
 *
 * Not measured: a model (turns are rehearsed), the network, a pool of ready machines, many jobs side by side.
 */
import { benchCreate } from './create.ts'
import { benchStart } from './start.ts'
import { benchStep } from './step.ts'

const benches = { create: benchCreate, start: benchStart, step: benchStep }
const asked = process.argv.slice(2)
const unknown = asked.filter((name) => !Object.hasOwn(benches, name))
if (unknown.length > 0) {
  process.stderr.write(`unknown bench ${unknown.join(', ')}; there are ${Object.keys(benches).join(', ')}\n`)
  process.exit(2)
}
for (const [name, bench] of Object.entries(benches)) {
  if (asked.length > 0 && !asked.includes(name)) continue
  process.stdout.write(`\n# ${name}\n`)
  for await (const line of bench()) process.stdout.write(`${line}\n`)
}
