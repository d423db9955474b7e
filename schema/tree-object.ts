/** Tree objects read back from content: every entry checked, since its name was once a skill's choice. */
import * as z from 'zod'
import { PlatformError } from './error.ts'
import type { Sha256 } from './hash.ts'
import { parsePath, type TreeEntry } from './tree.ts'

const hash = z.custom<Sha256>((value) => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value), 'not a SHA-256')
const name = z.string().refine(isEntryName, 'not a name that a tree may hold')
const tree = z.object({
  entries: z.array(
    z.discriminatedUnion('type', [
      z.object({ type: z.literal('file'), name, hash, sizeBytes: z.int().min(0), executable: z.boolean() }),
      z.object({ type: z.literal('directory'), name, hash }),
    ]),
  ),
})

/** True for one part of a path that a tree may hold. */
export function isEntryName(name: string): boolean {
  const parts = parsePath(name)
  return parts !== undefined && parts.length === 1 && parts[0] === name
}

/** Throws `workspace_invalid` naming `path`, where the object belongs. */
export function parseTreeObject(bytes: Uint8Array, path: string): readonly TreeEntry[] {
  const invalid = (what: string) => new PlatformError('workspace_invalid', `The tree object of ${path} ${what}.`)
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    throw invalid('is not JSON')
  }
  const parsed = tree.safeParse(value)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw invalid(`is wrong at ${issue?.path.join('.')}: ${issue?.message}`)
  }
  const { entries } = parsed.data
  if (new Set(entries.map((entry) => entry.name)).size !== entries.length) throw invalid('names an entry twice')
  return entries
}
