/** Prompts as people see them: what the gateway was handed, value by value. */
import { afterEach, expect, it } from 'vitest'
import type { ExpertKey } from '../../schema/expert-key.ts'
import { SentPrompts } from '../../schema/sent-prompt.ts'
import { openPrompts } from '../../src/job/prompts.ts'
import { listCheckpoints } from '../../src/job/checkpoint.ts'
import type { Process } from '../attempt/attempt-world.ts'
import { runBundledJob } from '../support/bundled-job.ts'

const open: Process[] = []
afterEach(async () => {
  for (const process of open.splice(0)) await process.attempts.close()
})

it('a log shows of every generation the very prompt and messages that its gateway was handed', async () => {
  const { jobId, events, content, process } = await runBundledJob((one) => open.push(one))
  const prompts = openPrompts({ content })
  const { requests } = process.model
  const asked = requests.map(({ expert, stepNumber, prompt, messages }) => ({
    key: expert.key,
    stepNumber,
    prompt,
    messages,
  }))
  expect(asked.length).toBeGreaterThan(4)

  const sent = new SentPrompts()
  const shown: (typeof asked)[number][] = []
  for (const event of events) {
    const found = sent.add(event)
    if (found === undefined) continue
    shown.push({
      key: event.expertKey as ExpertKey, // the admission found it in the lock
      stepNumber: event.stepNumber ?? 0,
      prompt: await prompts.read(found.hash),
      messages: found.messages,
    })
  }
  // Runs of one expert aside, which this team has none of, an expert and its step name a generation.
  const inOrder = <Asked extends { readonly key: string | null; readonly stepNumber: number | null }>(
    all: readonly Asked[],
  ) => all.toSorted((a, b) => (`${a.key} ${a.stepNumber}` < `${b.key} ${b.stepNumber}` ? -1 : 1))
  expect(inOrder(shown)).toEqual(inOrder(asked))

  // And each checkpoint has that of its step.
  const ofCheckpoints = await Promise.all(
    listCheckpoints(jobId, events).map(async ({ expertKey: key, stepNumber, prompt }) => ({
      key,
      stepNumber,
      prompt: prompt === null ? null : await prompts.read(prompt.hash),
      messages: prompt?.messages,
    })),
  )
  expect(inOrder(ofCheckpoints)).toEqual(inOrder(asked))
})
