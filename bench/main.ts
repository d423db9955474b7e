/**
 * `npm run bench -- [name ...] [--peer] [--short]`: figures as ratios within one run on one machine.
 *
 *   create   createJob per second, against yoga's `{hello}` and against a bare prepared INSERT on the same kind of Postgres
 *   start    from createJob to the first event of the runner
 *   step     what a step costs at 10, 100, 300 and 1000 steps: time, commits, bytes, CPU, memory; with --peer, LangGraph on
 *            its Postgres checkpointer beside it (npm installs it into bench/peer the first time); with --short, 300
 *            steps alone, and no slower disk
 *   pool     machines for jobs: warm beside cold, 16 at once, memory of a ready machine, jobs per second; what a claim
 *            and a queued job cost at 200/s on machines that are there at once, with graphile-worker beside it in the
 *            same run; and by the plan in virtual time how many jobs find a warm machine; with --short, fewer of each
 *
 * Not measured: a model (turns are rehearsed), the network.
 */
import { benchCreate } from './create.ts'
import { benchPool } from './pool.ts'
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
  pool: () => benchPool({ short: words.includes('--short'), environment }),
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
