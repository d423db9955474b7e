/** The two keys that live as files in the data directory, mode 0600: the master key and the first application's API key. */
import { link, open, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PlatformError } from '../../schema/error.ts'
import { sha256 } from '../../schema/hash.ts'
import { Secret } from '../../schema/secret.ts'

async function readText(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (cause) {
    if (isCode(cause, 'ENOENT')) return undefined
    throw new PlatformError('config_invalid', `${path} cannot be read.`, { cause })
  }
}

function isCode(cause: unknown, code: string): boolean {
  return cause instanceof Error && 'code' in cause && cause.code === code
}

/** Written whole beside its place first, so that nobody ever reads half a key; `place` then puts it there. */
async function write(path: string, text: string, place: (from: string, to: string) => Promise<void>): Promise<void> {
  const from = `${path}.${sha256(text).slice(0, 12)}.new`
  try {
    await using file = await open(from, 'w', 0o600)
    await file.writeFile(`${text}\n`)
    await file.sync()
    await place(from, path)
  } finally {
    await rm(from, { force: true })
  }
}

/**
 * The master key, 32 bytes: the file's, or `fresh` written to it. Two processes that start at once agree, since
 * only one of them creates the file. A file that holds anything else is refused rather than replaced: replacing it
 * would make every stored secret unreadable.
 */
export async function openMasterKey(dataDirectory: string, fresh: Uint8Array): Promise<Secret> {
  const path = join(dataDirectory, 'master-key')
  let text = await readText(path)
  if (text === undefined) {
    try {
      await write(path, Buffer.from(fresh).toString('hex'), link)
    } catch (cause) {
      if (!isCode(cause, 'EEXIST')) throw new PlatformError('config_invalid', `${path} cannot be written.`, { cause })
    }
    text = await readText(path)
  }
  if (text === undefined || !/^[0-9a-f]{64}$/.test(text))
    throw new PlatformError(
      'config_invalid',
      `${path} does not hold a master key (64 hex digits); restore it from a backup.`,
    )
  return new Secret(text)
}

export async function readDevKey(dataDirectory: string): Promise<Secret | undefined> {
  const text = await readText(join(dataDirectory, 'dev-key'))
  return text === undefined || text === '' ? undefined : new Secret(text)
}

export async function writeDevKey(dataDirectory: string, key: Secret): Promise<void> {
  await write(join(dataDirectory, 'dev-key'), key.reveal(), rename)
}
