/** Writes `schema/api.graphql` anew: `node src/graphql/print.ts`. A test compares it with the schema. */
import { writeFile } from 'node:fs/promises'
import { printApi } from './schema.ts'

await writeFile(new URL('../../schema/api.graphql', import.meta.url), printApi())
