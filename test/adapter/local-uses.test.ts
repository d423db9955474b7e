import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { findProcess } from '../../src/local/processes.ts'
import { openUses } from '../../src/local/uses.ts'
import { scratchDirectory } from '../support/scratch.ts'

const DAY = 24 * 60 * 60 * 1000
const names = ['node-a', 'runner-a', 'supervisor-a', 'skill-a', 'passwd', 'slots']

describe('what servers share on this computer', () => {
  let directory: string
  let now: number
  beforeEach(() => {
    directory = scratchDirectory('test')
    for (const name of names) mkdirSync(join(directory, name))
    now = statSync(join(directory, 'slots')).ctimeMs
  })
  afterEach(() => rmSync(directory, { recursive: true, force: true }))
  const left = () => readdirSync(directory).filter((name) => name !== 'uses')
  const saidBy = (owner: string, name: string) => {
    mkdirSync(join(directory, 'uses', owner), { recursive: true })
    writeFileSync(join(directory, 'uses', owner, name), '')
  }

  it('goes after a day when nobody uses it, and nothing else does (US2)', () => {
    openUses(directory, now + DAY - 1000)
    expect(left().toSorted()).toEqual(names.toSorted())
    openUses(directory, now + DAY + 1000)
    expect(left().toSorted()).toEqual(['passwd', 'slots'])
  })

  it('stays while a server that lives uses it, however old (US1)', () => {
    openUses(directory, now).add('node-a')
    saidBy(`1-${findProcess(1)?.startedAt}`, 'runner-a')
    openUses(directory, now + 90 * DAY)
    expect(left()).toEqual(expect.arrayContaining(['node-a', 'runner-a']))
    expect(left()).not.toContain('supervisor-a')
  })

  it('goes at once when a server that is gone was making or trying it (US3)', () => {
    const own = (pid: number) => [`making-${pid}-x`, `canary-${pid}`, `probe-${pid}-x.mjs`, `dead-${pid}-node-a`]
    for (const name of [...own(process.pid), ...own(999_999_999)]) mkdirSync(join(directory, name))
    openUses(directory, now)
    expect(left().toSorted()).toEqual([...names, ...own(process.pid)].toSorted())
  })

  it('is not kept by a server that is gone, nor by a later one with its pid', () => {
    saidBy('1-0', 'node-a')
    saidBy('999999999-7', 'runner-a')
    openUses(directory, now + 2 * DAY)
    expect(left().toSorted()).toEqual(['passwd', 'slots'])
    expect(readdirSync(join(directory, 'uses'))).toHaveLength(1)
  })
})
