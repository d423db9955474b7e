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
  it('is there for a team, a refusal, a fork, an approval, a cancel and a failure', () => {
    expect(names).toEqual(expect.arrayContaining(['approval', 'canceled', 'failed', 'fork', 'refused', 'team']))
  })

  it.each(names)('of %s folds to the states that it had when it was written', async (name) => {
    const states: unknown = JSON.parse(await readFile(join(directory, `${name}.states.json`), 'utf8'))
    expect(JSON.parse(JSON.stringify(await foldKept(await readFile(join(directory, `${name}.jsonl`)))))).toEqual(states)
  })
})
