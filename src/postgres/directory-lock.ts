/**
 * One owner per directory, also when an owner died without a word. Node has no kernel locks on files, so the owner is
 * written down as a process id with the moment that process started: a pid that was given out again fools nobody.
 *
 * DL1 Of any number of processes that open a directory at once, one gets it.
 * DL2 A directory whose owner is dead is free.
 *
 * Lock files are numbered, the highest one counts, and taking over means creating the next number, which only one can.
 * Whoever finds a higher number after creating its own steps back; so deleting old numbers is harmless.
 */
import { link, mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PlatformError } from '../../schema/error.ts'
import { isAlive, startOf } from './process-life.ts'

export interface DirectoryLock {
  release(): Promise<void>
}

interface Owner {
  readonly pid: number
  readonly start: string | null
}

const PREFIX = 'owner.'
const FREE = 'free'

async function newest(directory: string): Promise<number> {
  const numbers = (await readdir(directory))
    .filter((name) => name.startsWith(PREFIX))
    .map((name) => Number(name.slice(PREFIX.length)))
    .filter(Number.isSafeInteger)
  return Math.max(0, ...numbers)
}

async function readOwner(path: string): Promise<Owner | undefined> {
  const text = await readFile(path, 'utf8').catch(() => FREE)
  const [pid, start] = text.trim().split(' ')
  return text === FREE || !Number.isSafeInteger(Number(pid)) ? undefined : { pid: Number(pid), start: start ?? null }
}

let puts = 0

/** Puts `text` at `path` whole, in the way of `place`: nobody reads half a file. */
async function put(path: string, text: string, place: (from: string, to: string) => Promise<void>): Promise<void> {
  const from = `${path}-${process.pid}-${puts++}`
  try {
    await writeFile(from, text)
    await place(from, path)
  } finally {
    await rm(from, { force: true })
  }
}

/** Throws `directory_in_use`, which names the process that has it. */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  await mkdir(directory, { recursive: true })
  const me = `${process.pid} ${(await startOf(process.pid)) ?? ''}`.trim()
  for (;;) {
    const number = await newest(directory)
    const owner = number === 0 ? undefined : await readOwner(join(directory, `${PREFIX}${number}`))
    if (owner !== undefined && (await isAlive(owner.pid, owner.start)))
      throw new PlatformError('directory_in_use', `Process ${owner.pid} is using ${directory}.`)
    const path = join(directory, `${PREFIX}${number + 1}`)
    try {
      await put(path, me, link)
    } catch (cause) {
      if (cause instanceof Error && 'code' in cause && cause.code === 'EEXIST') continue
      throw cause
    }
    if ((await newest(directory)) !== number + 1) {
      await rm(path, { force: true })
      continue
    }
    for (const name of await readdir(directory))
      if (/^owner\.\d+$/.test(name) && Number(name.slice(PREFIX.length)) <= number)
        await rm(join(directory, name), { force: true })
    return { release: () => put(path, FREE, rename) }
  }
}
