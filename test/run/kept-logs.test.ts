/** Logs that older versions wrote: whatever changes, they fold to the states that they had then. */
import { readdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { foldKept } from '../fixture/logs/kept.ts'
import { ROOT } from '../support/source.ts'

const directory = join(ROOT, 'test/fixture/logs')
const names = readdirSync(directory)
  .filter((name) => name.endsWith('.jsonl'))
  .map((name) => name.slice(0, -'.jsonl'.length))

describe('a kept log', () => {
  it('is there for every kind of thing that can happen to a job', () => {
    const first = ['approval', 'canceled', 'failed', 'fork', 'refused', 'team']
    const second = ['budget', 'compaction', 'elicitation', 'expired', 'interrupted', 'once', 'steered']
    expect(names.toSorted()).toEqual([...first, ...second].toSorted())
  })

  it.each(names)('of %s folds to the states that it had when it was written', async (name) => {
    const states: unknown = JSON.parse(await readFile(join(directory, `${name}.states.json`), 'utf8'))
    // What folds have learnt to say since then is not in it.
    expect(JSON.parse(JSON.stringify(await foldKept(await readFile(join(directory, `${name}.jsonl`)))))).toMatchObject(
      states as object,
    )
  })
})
