/** What a run of the tests leaves is found by its name, also the database that root keeps elsewhere. */
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { leftOf, removeScratch, scratchDirectory, scratchPrefix } from './support/scratch.ts'

/** No process has it: the kernel's greatest is below. */
const RUN = 99_000_000 + process.pid
const homes = [`/var/tmp/senmon-home${process.pid}`, `/var/tmp/${scratchPrefix(RUN)}left`, `/tmp/senmon-test-${RUN}`]
afterEach(() => {
  for (const home of homes) rmSync(home, { recursive: true, force: true })
})

it('is found by its name, and for whom it is', () => {
  expect(leftOf(RUN)).toEqual([])
  for (const home of homes) mkdirSync(home)
  writeFileSync(join(homes[0] ?? '', 'directory'), `/tmp/${scratchPrefix(RUN)}data-abc/postgres`)
  expect(leftOf(RUN).toSorted()).toEqual(homes.toSorted())
})

it('is removed with its database when the tests of a file are over', () => {
  const directory = scratchDirectory('data')
  mkdirSync(join(directory, 'postgres'))
  mkdirSync(homes[0] ?? '')
  writeFileSync(join(directory, 'postgres', 'server-is-in'), `${homes[0]}\n`)
  expect(leftOf(process.ppid)).toContain(directory)
  removeScratch()
  expect([directory, homes[0] ?? ''].map((path) => existsSync(path))).toEqual([false, false])
})
