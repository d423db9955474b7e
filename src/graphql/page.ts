/** Connections: a page of a list with the cursor to go on from. */
import type { ObjectRef } from '@pothos/core'
import { builder, type SchemaShape } from './builder.ts'

/** A page as resolvers give it. */
export interface Page<Node> {
  readonly nodes: readonly Node[]
  readonly hasNextPage: boolean
  readonly cursorOf: (node: Node) => string
}

/** What a list gave when it was asked for one more than `first`. */
export function pageOf<Node>(found: readonly Node[], first: number, cursorOf: (node: Node) => string): Page<Node> {
  return { nodes: found.slice(0, first), hasNextPage: found.length > first, cursorOf }
}

const PageInfoRef = builder.objectRef<{ endCursor: string | null; hasNextPage: boolean }>('PageInfo').implement({
  description: 'Pass `endCursor` as `after` to read on.',
  fields: (t) => ({
    endCursor: t.exposeString('endCursor', { nullable: true }),
    hasNextPage: t.exposeBoolean('hasNextPage'),
  }),
})

/** The connection type over a node type. */
export function pageRef<Node>(name: string, nodeRef: ObjectRef<ExtendedShape, Node>) {
  const edgeRef = builder.objectRef<{ readonly cursor: string; readonly node: Node }>(`${name}Edge`).implement({
    fields: (t) => ({
      cursor: t.exposeString('cursor'),
      node: t.field({ type: nodeRef, resolve: ({ node }) => node as never }),
    }),
  })
  return builder.objectRef<Page<Node>>(`${name}Connection`).implement({
    fields: (t) => ({
      nodes: t.field({ type: [nodeRef], resolve: ({ nodes }) => nodes as never, complexity: 1 }),
      edges: t.field({
        type: [edgeRef],
        complexity: 1,
        resolve: ({ nodes, cursorOf }) => nodes.map((node) => ({ cursor: cursorOf(node), node })),
      }),
      pageInfo: t.field({
        type: PageInfoRef,
        resolve: ({ nodes, hasNextPage, cursorOf }) => {
          const last = nodes.at(-1)
          return { endCursor: last === undefined ? null : cursorOf(last), hasNextPage }
        },
      }),
    }),
  })
}

type ExtendedShape = PothosSchemaTypes.ExtendDefaultTypes<SchemaShape>
