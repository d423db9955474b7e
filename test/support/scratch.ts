/**
 * Directories of tests. Their names say of which run they are, so that `npm test` finds what was left; they are removed when
 * the tests of their file are over, however these went (`scratch-end.ts`).
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const made = new Set<string>()
// Of whoever is no test: a campaign, a bench.
process.once('exit', removeScratch)

/** What begins the names of all that the run of this main process makes: vitest's is the parent of all that run tests. */
export function scratchPrefix(run: number = process.ppid): string {
  return `senmon-run${run}-`
}

/** A fresh one; beside what compartments cover (`/tmp`) where `place` says so. */
export function scratchDirectory(name: string, place: string = tmpdir()): string {
  const directory = mkdtempSync(join(place, `${scratchPrefix()}${name}-`))
  made.add(directory)
  return directory
}

/** All that this process has made. */
export function removeScratch(): void {
  for (const directory of made) {
    for (const home of databaseHomes(directory)) rmSync(home, { recursive: true, force: true, maxRetries: 5 })
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
  }
  made.clear()
}

/** Root's embedded database lives elsewhere, and a file in its directory says where: in this one, or one below. */
function databaseHomes(directory: string): readonly string[] {
  if (!existsSync(directory)) return []
  const below = readdirSync(directory, { withFileTypes: true }).filter((one) => one.isDirectory())
  return [directory, ...below.map(({ name }) => join(directory, name))].flatMap((one) => {
    const mark = join(one, 'server-is-in')
    return existsSync(mark) ? [readFileSync(mark, 'utf8').trim()] : []
  })
}

/** Where tests make directories, and the product those of its database. */
const PLACES = ['/tmp', '/var/tmp', '/var/lib']

/** What is left of a run, by its main process: its directories, and databases that were set up for one of them. */
export function leftOf(run: number): readonly string[] {
  const own = [scratchPrefix(run), `senmon-test-${run}`]
  return [...new Set([tmpdir(), ...PLACES])].flatMap((place) =>
    (existsSync(place) ? readdirSync(place) : [])
      .filter((name) => name.startsWith('senmon-'))
      .filter((name) =>
        own.some((one) => name === one || (one.endsWith('-') && name.startsWith(one)) || isFor(join(place, name), one)),
      )
      .map((name) => join(place, name)),
  )
}

/** Whether it is the home of a database of a directory of the run. */
function isFor(home: string, prefix: string): boolean {
  try {
    return readFileSync(join(home, 'directory'), 'utf8').includes(`/${prefix}`)
  } catch {
    return false
  }
}
