/** The whole schema: each import adds its type with its queries, mutations and subscriptions. */
import { lexicographicSortSchema, printSchema, type GraphQLSchema } from 'graphql'
import { builder } from './builder.ts'
import './application.ts'
import './checkpoint.ts'
import './event.ts'
import './expert.ts'
import './job.ts'
import './machine-pool.ts'
import './secret.ts'
import './skill.ts'
import './workspace.ts'

export const schema: GraphQLSchema = builder.toSchema()

/** The text of `schema/api.graphql`. */
export function printApi(): string {
  return `${printSchema(lexicographicSortSchema(schema))}\n`
}
