/** The peer of the HTTP bench: GraphQL Yoga with one field and nothing else, in a process of its own. */
import { createServer } from 'node:http'
import { createSchema, createYoga } from 'graphql-yoga'

const schema = createSchema({
  typeDefs: 'type Query { hello: String! }',
  resolvers: { Query: { hello: () => 'world' } },
})
const yoga = createYoga({ schema, logging: false })
const server = createServer((request, response) => void yoga(request, response))
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  if (address !== null && typeof address === 'object') process.stdout.write(`${address.port}\n`)
})
