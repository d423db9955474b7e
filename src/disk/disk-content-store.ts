/**
 * Bytes by their hash, as files `ab/cdef…` of one directory, which any number of processes may share.
 *
 * CS1 A name appears only with all of its bytes, on disk: written beside, synced, then linked; then the directory.
 * CS2 What is read is checked against its name; bytes that rotted count as missing, and putting them again heals.
 */
import { constants } from 'node:fs'
import { access, mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { PlatformError } from '../../schema/error.ts'
import { sha256, type Sha256 } from '../../schema/hash.ts'
import type { ContentStore } from '../workspace/content-store.ts'

const HASH = /^[0-9a-f]{64}$/

function isCode(cause: unknown, code: string): boolean {
  return cause instanceof Error && 'code' in cause && cause.code === code
}

async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, constants.O_RDONLY)
  await directory.sync()
}

async function find(path: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(path)
  } catch (cause) {
    if (isCode(cause, 'ENOENT')) return undefined
    throw cause
  }
}

let writes = 0

/** Writes `bytes` beside `path` and puts them there; another's file half written under the same name is not touched. */
async function write(path: string, bytes: Uint8Array): Promise<void> {
  for (;;) {
    const beside = `${path}.${process.pid}-${writes++}.new`
    try {
      await using file = await open(beside, 'wx', 0o600)
      await file.writeFile(bytes)
      await file.sync()
    } catch (cause) {
      // Left by a process of the same pid, now or before a crash.
      if (isCode(cause, 'EEXIST')) continue
      await rm(beside, { force: true })
      if (isCode(cause, 'ENOSPC') || isCode(cause, 'EDQUOT'))
        throw new PlatformError('storage_full', 'The disk of the content store is full.', { cause })
      throw cause
    }
    await rename(beside, path)
    return
  }
}

/** The store in `directory`, made when absent. Throws PlatformError content_missing or storage_full; anything else is the disk's own error. */
export async function openDiskContentStore(directory: string): Promise<ContentStore> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  /** Directories that are there, durably; one entry for each of 256. */
  const made = new Map<string, Promise<void>>()
  const make = async (path: string) => {
    await mkdir(path, { recursive: true, mode: 0o700 })
    await syncDirectory(directory)
  }
  const pathOf = (hash: Sha256) => join(directory, hash.slice(0, 2), hash.slice(2))

  return {
    async put(bytes) {
      const hash = sha256(bytes)
      const path = pathOf(hash)
      const place = dirname(path)
      const known = await find(path)
      if (known !== undefined && sha256(known) === hash) {
        // Whoever put it there may not have come this far yet.
        await syncDirectory(place)
        return hash
      }
      let making = made.get(place)
      if (making === undefined) made.set(place, (making = make(place)))
      try {
        await making
      } catch (cause) {
        made.delete(place)
        throw cause
      }
      await write(path, bytes)
      await syncDirectory(place)
      return hash
    },
    async get(hash) {
      const bytes = HASH.test(hash) ? await find(pathOf(hash)) : undefined
      if (bytes === undefined) throw new PlatformError('content_missing', `Content ${hash} is not in ${directory}.`)
      if (sha256(bytes) !== hash)
        throw new PlatformError('content_missing', `Content ${hash} in ${directory} does not hash to its name.`)
      return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    },
    async has(hash) {
      if (!HASH.test(hash)) return false
      try {
        await access(pathOf(hash))
        return true
      } catch (cause) {
        if (isCode(cause, 'ENOENT')) return false
        throw cause
      }
    },
  }
}
