/** The faults that `npm run faults` plants: that each can be planted, and that only a failing test catches one. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { chooseFaults, listAreas, readFaults } from './areas.ts'
import { confirmedBy, limitsOf, plant, verdictOf, type Fault } from './fault.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const fault: Fault = { name: 'it is off', file: 'a.ts', find: 'on', replace: 'off', tests: ['test/a.test.ts'] }
const faults = await readFaults(await listAreas())

describe('a fault', () => {
  it('is planted where its text stands once', () => {
    expect(plant(fault, 'turn it on!')).toBe('turn it off!')
  })
  it.each(['nothing here', 'on and on'])('is not planted in "%s"', (source) => {
    expect(() => plant(fault, source)).toThrow(/stands [02] times in a.ts, not once/)
  })
  it('changes something', () => {
    expect(() => plant({ ...fault, replace: 'on' }, 'on')).toThrow(/changes nothing/)
  })
  it('keeps what looks like a pattern of replacement as it is', () => {
    expect(plant({ ...fault, replace: '$& $1' }, 'on')).toBe('$& $1')
  })
})

describe('a verdict', () => {
  it.each([
    [{ passed: 3, failed: 1, isLate: false, wasRead: true }, 'caught'],
    [{ passed: 0, failed: 0, isLate: true, wasRead: true }, 'undecided'],
    [{ passed: 5, failed: 1, isLate: true, wasRead: true }, 'undecided'],
    [{ passed: 4, failed: 0, isLate: false, wasRead: true }, 'survived'],
    [{ passed: 0, failed: 0, isLate: false, wasRead: true }, 'ran no test'],
    [{ passed: 4, failed: 0, isLate: false, wasRead: false }, 'was not read'],
    [{ passed: 3, failed: 1, isLate: false, wasRead: false }, 'was not read'],
  ] as const)('of %o is %s', (outcome, verdict) => {
    expect(verdictOf(outcome)).toBe(verdict)
  })
  it.each([
    [{ passed: 3, failed: 0, isLate: false, wasRead: true }, 'caught'],
    [{ passed: 3, failed: 1, isLate: true, wasRead: true }, 'undecided'],
    [{ passed: 0, failed: 0, isLate: true, wasRead: true }, 'undecided'],
    [{ passed: 0, failed: 0, isLate: false, wasRead: true }, 'undecided'],
  ] as const)('on a fault with which time ran out, of %o without it, is %s', (outcome, verdict) => {
    expect(confirmedBy(outcome)).toBe(verdict)
  })
})

describe('the time that tests may take with a fault', () => {
  const tookMs = new Map([
    ['test/a.test.ts', 100],
    ['test/b/c.test.ts', 1000],
    ['test/b/d.test.ts', 2000],
    ['test/bc.test.ts', 50_000],
  ])
  it('grows with what they took without any', () => {
    expect(limitsOf(['test/a.test.ts'], tookMs)).toEqual({ testMs: 15_300, runMs: 35_300 })
    expect(limitsOf(['test/a.test.ts', 'test/b'], tookMs)).toEqual({ testMs: 24_300, runMs: 44_300 })
  })
})

describe('the list of faults', () => {
  it.each(faults)('can plant that $name', async (fault) => {
    expect(plant(fault, await readFile(join(ROOT, fault.file), 'utf8'))).toContain(fault.replace)
    for (const test of fault.tests) {
      expect(existsSync(join(ROOT, test)), `${test} is there`).toBe(true)
      expect(/^test\/(?:adapter|protocol|system)\b/.test(test) ? 'whole' : 'core').toBe(fault.suite ?? 'core')
    }
  })
  it('is chosen from by area and by words of a name', async () => {
    const areas = await listAreas()
    expect(await chooseFaults([], areas)).toEqual(faults)
    expect(await chooseFaults(['local:outlives its server'], areas)).toHaveLength(1)
    expect(await chooseFaults(['local', 'local:outlives its server'], areas)).toEqual(await readFaults(['local']))
    await expect(chooseFaults(['locale'], areas)).rejects.toThrow(/no faults of locale; there are .*local/)
    await expect(chooseFaults(['local:nothing like it'], areas)).rejects.toThrow(/no fault of local has/)
  })
  it('names each once', () => {
    expect(new Set(faults.map(({ name }) => name)).size).toBe(faults.length)
  })
})
