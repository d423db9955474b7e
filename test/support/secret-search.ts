/** Looks for a value in everything that is stored, in every form that a program might have stored it in. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Database } from '../../src/postgres/database.ts'

export interface Search {
  readonly bytes: number
  /** Where it was found, and in which form. */
  readonly hits: readonly string[]
}

/** The value as it is and encoded; of base64 all three alignments, without the ends that depend on the neighbours. */
function formsOf(value: string): readonly (readonly [name: string, form: Buffer])[] {
  const plain = Buffer.from(value)
  const aligned = [0, 1, 2].map((offset) => {
    const text = Buffer.concat([Buffer.alloc(offset), plain])
      .toString('base64')
      .replaceAll('=', '')
    return text.slice(offset === 0 ? 0 : 4, -2)
  })
  const forms: readonly (readonly [string, string])[] = [
    ['JSON', JSON.stringify(value).slice(1, -1)],
    ['JSON in JSON', JSON.stringify(JSON.stringify(value)).slice(3, -3)],
    ['URL', encodeURIComponent(value)],
    ['hex', plain.toString('hex')],
    ['HEX', plain.toString('hex').toUpperCase()],
    ...aligned.flatMap((text) => [
      ['base64', text] as const,
      ['base64url', text.replaceAll('+', '-').replaceAll('/', '_')] as const,
    ]),
  ]
  return [
    ['plain', plain],
    ['UTF-16', Buffer.from(value, 'utf16le')],
    ...forms.map(([name, text]) => [name, Buffer.from(text)] as const),
  ]
}

function searchBytes(where: string, bytes: Buffer, value: string): Search {
  const hits = formsOf(value)
    .filter(([, form]) => bytes.includes(form))
    .map(([name]) => `${where}: ${name}`)
  return { bytes: bytes.length, hits }
}

export function merge(...searches: readonly Search[]): Search {
  return {
    bytes: searches.reduce((sum, search) => sum + search.bytes, 0),
    hits: searches.flatMap(({ hits }) => hits),
  }
}

export function searchText(where: string, text: string, value: string): Search {
  return searchBytes(where, Buffer.from(text), value)
}

/** Every name and every file below a directory; what goes away meanwhile, or is no file, is left out. */
export async function searchDirectory(directory: string, value: string): Promise<Search> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true }).catch(() => [])
  const found: Search[] = []
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name)
    found.push(searchText(`the name ${path}`, path, value))
    if (!entry.isFile()) continue
    const bytes = await readFile(path).catch(() => Buffer.alloc(0))
    found.push(searchBytes(path, bytes, value))
  }
  return merge(...found)
}

/** Every row of every table of ours: each column as the text that Postgres prints, and bytes as they are. */
export async function searchDatabase({ sql }: Database, value: string): Promise<Search> {
  const columns = await sql.query<{ table: string; column: string; type: string }>(
    `select table_name as "table", column_name as "column", data_type as "type" from information_schema.columns
     where table_schema not in ('pg_catalog', 'information_schema') order by 1, 2`,
  )
  const found: Search[] = []
  for (const { table, column, type } of columns) {
    const rows = await sql.query<{ text: string | null; bytes: Buffer | null }>(
      `select "${column}"::text as "text", ${type === 'bytea' ? `"${column}"` : 'null::bytea'} as "bytes" from "${table}"`,
    )
    for (const { text, bytes } of rows) {
      found.push(searchText(`${table}.${column}`, text ?? '', value))
      if (bytes !== null) found.push(searchBytes(`${table}.${column}`, bytes, value))
    }
  }
  return merge(...found)
}
