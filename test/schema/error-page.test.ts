/** docs/errors.md and the catalogue say the same, in both directions. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { CATALOGUE } from '../../schema/error.ts'
import { printErrorPage, subjects } from '../support/error-page.ts'
import { ROOT } from '../support/source.ts'

const path = join(ROOT, 'docs', 'errors.md')

describe('the page of errors', () => {
  it('is what the catalogue prints', async () => {
    await expect(printErrorPage()).toMatchFileSnapshot(path)
  })

  it('names every code of the catalogue, and no other', () => {
    const named = [...readFileSync(path, 'utf8').matchAll(/^\| `(\w+)` \| `\w+` \|/gm)].map(([, code]) => code)
    expect(new Set(named)).toEqual(new Set(Object.keys(CATALOGUE)))
    expect(named).toHaveLength(Object.keys(CATALOGUE).length)
  })

  it('lists every code under a subject', () => {
    expect(subjects().flatMap(({ codes }) => codes)).toEqual(Object.keys(CATALOGUE))
  })
})
