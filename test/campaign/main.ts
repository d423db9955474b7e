/**
 * `npm run campaign -- pool-model [sequences]`: the pool in virtual time, with whatever goes wrong, by as many seeds.
 *
 * `npm run campaign -- local [jobs] [local | unsafe-process]`: jobs in bursts of 16 through a server that dies at each point of
 * a machine's life; what it leaves is counted.
 *
 * `npm run campaign -- fly [jobs] [seed]`: three servers on Fly's simulator, with every fault there, killed servers and
 * machines, and outages; each job looks for what the others left.
 *
 * `npm run campaign -- crash [points] [seed] [local | unsafe-process]`: kills real processes at random moments, of jobs
 * in real sandboxes unless it is told otherwise; the last lines are the figures.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { crashCampaign } from './crash.ts'
import { flyCampaign } from './fly.ts'
import { POINTS } from './kill-point.ts'
import { localCampaign } from './local.ts'
import { poolModelCampaign } from './pool-model.ts'

const say = (line: string): boolean => process.stdout.write(`${line}\n`)
const [name, points = '1000', seed = '1', machines = 'local'] = process.argv.slice(2)
if (name === 'pool-model' && /^\d+$/.test(points)) {
  const { isWell } = await poolModelCampaign(Number(points), say)
  process.exit(isWell ? 0 : 1)
}
if (name === 'local' && /^\d+$/.test(points)) {
  const isWell = await sayLocal(Number(points), process.argv[4] === 'unsafe-process' ? 'unsafe-process' : 'local')
  process.exit(isWell ? 0 : 1)
}
if (name === 'fly' && /^\d+$/.test(points) && /^\d+$/.test(seed)) {
  const isWell = await sayFly(Number(points), Number(seed))
  process.exit(isWell ? 0 : 1)
}
const isHost = machines === 'local' || machines === 'unsafe-process'
if (name !== 'crash' || !/^\d+$/.test(points) || !/^\d+$/.test(seed) || !isHost) {
  say(
    'usage: npm run campaign -- pool-model [sequences] | local [jobs] | fly [jobs] [seed] | crash [points] [seed] [local | unsafe-process]',
  )
  process.exit(2)
}
const startedAt = Date.now()
const verdict = await crashCampaign({
  points: Number(points),
  seed: Number(seed),
  jobsAtOnce: 12,
  machines,
  sleep: (ms) => sleep(ms),
  say: (line) => say(`${((Date.now() - startedAt) / 1000).toFixed(0)} s: ${line}`),
})
const { kills, repeated, resumes } = verdict
const at = (part: number) => resumes[Math.min(resumes.length - 1, Math.floor(resumes.length * part))] ?? 0
for (const failure of verdict.failures) say(`FAILED ${failure}`)
say(
  `failures/points  ${verdict.failures.length}/${verdict.points} over ${verdict.jobs} jobs, seed ${seed}, ${machines}`,
)
say(
  `kills            ${Object.entries(kills)
    .map(([target, count]) => `${target} ${count}`)
    .join(', ')}`,
)
say(`lost             ${verdict.lost}`)
say(`repeated         once ${repeated['pay']}, idempotent ${repeated['put']}, undeclared ${repeated['note']}`)
say(`asked            ${verdict.asked} questions about outcomes`)
say(`given up         ${verdict.exhausted} jobs after machine upon machine that got nowhere`)
say(`resumed after    p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, max ${at(1)} ms from the start of ${kills.server} servers`)
process.exit(verdict.failures.length === 0 ? 0 : 1)

async function sayLocal(jobs: number, machines: 'local' | 'unsafe-process'): Promise<boolean> {
  const startedAt = Date.now()
  const { deaths, failures, ends, leftAtDeath, ...counts } = await localCampaign({
    jobs,
    jobsAtOnce: 16,
    points: POINTS,
    machines,
    sleep: (ms) => sleep(ms),
    say: (line) => say(`${((Date.now() - startedAt) / 1000).toFixed(0)} s: ${line}`),
  })
  const all = Object.values(deaths).reduce((sum, count) => sum + count, 0)
  const end = (part: number) => ends[Math.min(ends.length - 1, Math.floor(ends.length * part))] ?? 0
  say(`failures/deaths  ${failures.length}/${all} over ${counts.jobs} jobs, ${machines}`)
  say(`deaths while     ${POINTS.map((point) => `${point} ${deaths[point]}`).join(', ')}`)
  say(`machines ended   p50 ${end(0.5)} ms, max ${end(1)} ms after their server`)
  say(
    `to be swept      at most ${leftAtDeath.cgroups} cgroups, ${leftAtDeath.directories} directories, ${leftAtDeath.mounts} mounts, and no process`,
  )
  say(`left after the next start: nothing, but where a failure says so`)
  return failures.length === 0
}

async function sayFly(jobs: number, seedOfFly: number): Promise<boolean> {
  const since = Date.now()
  const {
    failures,
    exhausted,
    kills: killed,
    given,
    orphans,
    requests,
    throttled,
    tooFast,
  } = await flyCampaign({
    jobs,
    seed: seedOfFly,
    servers: 3,
    machinesMax: 12,
    jobsAtOnce: 10,
    serverKillsMax: Number.POSITIVE_INFINITY,
    profile: 'cruel',
    isPatient: true,
    straysMs: 660_000,
    say: (line) => say(`${((Date.now() - since) / 1000).toFixed(0)} s: ${line}`),
  })
  const print = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .map(([what, count]) => `${what} ${count}`)
      .join(', ')
  for (const failure of failures) say(`FAILED ${failure}`)
  say(`failures/jobs    ${failures.length}/${jobs}, seed ${seedOfFly}`)
  say(`killed           ${print(killed)}`)
  say(`machines came    ${print(given)}`)
  say(`orphans          ${orphans}`)
  say(`given up         ${exhausted} jobs after machine upon machine that got nowhere`)
  say(`requests         ${print(requests)}; ${throttled} refused as too many`)
  say(`too fast         ${tooFast.machine} about a machine, ${tooFast.app} about the app`)
  return failures.length === 0
}
