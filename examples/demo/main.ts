/**
 * `npm run demo`: the whole path, as strangers walk it. It starts the platform, publishes a skill and two experts with
 * npm, creates a job over GraphQL, watches its checkpoints with graphql-sse, answers its question, downloads its report,
 * and checks everything that it shows. It knows the platform only by its public contract.
 */
import { join } from 'node:path'
import { openScratch } from './scratch.ts'
import { chooseMachines, startPlatform } from './platform.ts'
import { followJob } from './follow-job.ts'
import { chooseModel } from './model.ts'
import { checkLog } from './check-log.ts'
import { DemoFailure, expectThat, say, saySection } from './say.ts'

const QUERY = 'Review input/payments.js for security flaws and write a report.'
const TEAM = join(import.meta.dirname, '..', 'code-review-team')

async function demo(): Promise<string> {
  const model = chooseModel(process.env)
  await using scratch = await openScratch(process.env)

  saySection('The platform starts')
  const machines = await chooseMachines()
  await using platform = await startPlatform(scratch.path('data'), machines, {
    PATH: process.env['PATH'] ?? '',
    HOME: process.env['HOME'] ?? '',
    ...model.environment,
  })
  say(`${platform.url}/graphql answers; ${machines.says}`)

  saySection('An author publishes a skill and two experts with npm')
  for (const name of ['risk-scan', 'security-analyst', 'code-reviewer'])
    say(`npm publish: ${await scratch.npmPublish(join(TEAM, name), platform)}`)

  saySection('An application creates a job')
  say(model.says)
  const source = await scratch.readText(join(TEAM, 'sample', 'payments.js'))
  const job = await platform.createJob({
    expertKey: 'code-reviewer',
    query: QUERY,
    files: [{ path: 'payments.js', text: source }],
    ...(model.name === null ? {} : { model: model.name }),
  })
  say(`${job.id} runs ${job.expertKey}`)

  saySection('Its checkpoints arrive over SSE')
  const seen = await followJob(platform, job.id)

  saySection('What is left of it')
  const finished = await platform.findJob(job.id)
  expectThat(
    finished.status === 'finished' && finished.outcome === 'completed',
    `the job is ${finished.status} with outcome ${finished.outcome} (${finished.reason}: ${finished.message})`,
  )
  const report = await platform.downloadFile(job.id, 'REPORT.md')
  say(`REPORT.md, as the expert wrote it:\n\n${report.trimEnd()}\n`)
  checkReport(report, source, model.name === null)
  expectThat(seen.delegations > 0, 'no delegation happened')
  expectThat(seen.answers > 0, 'the job asked its human nothing')
  checkLog(job.id, seen)
  expectThat(finished.machine !== null, 'the job names no machine')
  say(`It ran on ${finished.machine?.host}, which took ${Math.round(finished.machine?.dispatchMs ?? 0)} ms to come.`)
  say(`The log of ${seen.events.length} events hashes to ${seen.events.at(-1)?.hash}.`)
  say(
    `The same over REST: GET ${platform.url}/expert_jobs/${job.id} (this platform stops now; \`npm start\` keeps one).`,
  )
  expectThat((await platform.stop()) === 0, 'the platform did not stop cleanly')
  return `demo passed: ${job.id}, ${seen.checkpoints.length} checkpoints`
}

/** The lines that a report must name are read from the source itself, not from a list that somebody kept. */
function checkReport(report: string, source: string, everyFlaw: boolean): void {
  const flaws = ['eval(', 'exec(`', 'SELECT * FROM', 'live_']
  const lines = flaws.map((flaw) => source.split('\n').findIndex((line) => line.includes(flaw)) + 1)
  expectThat(
    lines.every((line) => line > 0),
    'the sample has lost one of its flaws',
  )
  const named = lines.filter((line) => new RegExp(`payments\\.js:${line}\\b|\\blines? ${line}\\b`).test(report))
  // A real model chooses its own words and may group flaws; the recorded turns name all four.
  const wanted = everyFlaw ? lines.length : 1
  expectThat(
    named.length >= wanted,
    `REPORT.md names ${named.length} of the flaws in lines ${lines.join(', ')}; ${wanted} were expected`,
  )
}

try {
  console.log(`\n${await demo()}`)
} catch (error) {
  if (error instanceof DemoFailure) console.error(`\ndemo failed: ${error.message.replace(/\.*$/, '.')}`)
  else console.error('\ndemo failed:', error)
  process.exitCode = 1
}
