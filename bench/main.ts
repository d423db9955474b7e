/**
 * `npm run bench -- [name ...] [--peer] [--short]`: figures as ratios within one run on one machine.
 *
 *   create   createJob per second, against yoga's `{hello}` and against a bare prepared INSERT on the same kind of Postgres
 *   start    from createJob to the first event of the runner
 *   step     what a step costs at 10, 100, 300 and 1000 steps: time, commits, bytes, CPU, memory; with --peer, LangGraph on
 *            its Postgres checkpointer beside it (npm installs it into bench/peer the first time); with --short, 300
 *            steps alone, and no slower disk
 *
 * Not measured: a model (turns are rehearsed), the network, a pool of ready machines, many jobs side by side.
 */
import { benchCreate } from './create.ts'
import { benchStart } from './start.ts'
import { benchStep } from './step.ts'

const words = process.argv.slice(2)
const asked = words.filter((word) => word !== '--peer' && word !== '--short')
const environment = Object.fromEntries(
  Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
)
const benches = {
  create: benchCreate,
  start: benchStart,
  step: () => benchStep({ peer: words.includes('--peer'), short: words.includes('--short'), environment }),
}
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
