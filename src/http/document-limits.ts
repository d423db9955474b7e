/**
 * What a GraphQL document may weigh, measured before it is validated: some rules of validation take quadratic or
 * exponential time on documents of a kilobyte. The measure itself is linear: each fragment is measured once.
 */
import { GraphQLError, parse, type DocumentNode, type FragmentDefinitionNode, type SelectionSetNode } from 'graphql'
import { PlatformError } from '../../schema/error.ts'

export const DOCUMENT_LIMITS = {
  bytes: 32 * 1024,
  tokens: 1000,
  /** The introspection query of graphql-js needs 15. */
  depth: 16,
  aliases: 30,
  directives: 20,
  /** With every fragment spread out. */
  fields: 1000,
} as const

interface Weight {
  readonly depth: number
  readonly aliases: number
  readonly directives: number
  readonly fields: number
}

const none: Weight = { depth: 0, aliases: 0, directives: 0, fields: 0 }

/** Throws `input_too_large`, or the parser's own error. */
export function parseDocument(source: string): DocumentNode {
  const document = parseTokens(source)
  const fragments = new Map<string, FragmentDefinitionNode>()
  for (const definition of document.definitions)
    if (definition.kind === 'FragmentDefinition') fragments.set(definition.name.value, definition)
  const weigh = scales(fragments)
  for (const definition of document.definitions) {
    if (definition.kind !== 'OperationDefinition' && definition.kind !== 'FragmentDefinition') continue
    const weight = weigh(definition.selectionSet)
    const whole = { ...weight, directives: weight.directives + (definition.directives?.length ?? 0) }
    for (const name of ['depth', 'aliases', 'directives', 'fields'] as const)
      if (whole[name] > DOCUMENT_LIMITS[name]) throw tooLarge(name, whole[name])
  }
  return document
}

function parseTokens(source: string): DocumentNode {
  // A UTF-16 unit is at least one byte.
  if (source.length > DOCUMENT_LIMITS.bytes) throw tooLarge('bytes', `${source.length} or more`)
  try {
    return parse(source, { maxTokens: DOCUMENT_LIMITS.tokens })
  } catch (error) {
    // The parser has no code for it, only these words.
    if (error instanceof GraphQLError && error.message.startsWith('Syntax Error: Document contains more than'))
      throw tooLarge('tokens', 'more than all')
    throw error
  }
}

function tooLarge(what: keyof typeof DOCUMENT_LIMITS, is: number | string): PlatformError {
  return new PlatformError(
    'input_too_large',
    `The document is over its limit of ${what}: it has ${is} of ${DOCUMENT_LIMITS[what]}.`,
  )
}

function scales(fragments: ReadonlyMap<string, FragmentDefinitionNode>): (set: SelectionSetNode) => Weight {
  const measured = new Map<string, Weight>()
  function ofFragment(name: string): Weight {
    const known = measured.get(name)
    if (known !== undefined) return known
    // A cycle weighs nothing here; validation refuses it by its own rule.
    measured.set(name, none)
    const fragment = fragments.get(name)
    const weight = fragment === undefined ? none : ofSet(fragment.selectionSet)
    measured.set(name, weight)
    return weight
  }
  function ofSet(set: SelectionSetNode): Weight {
    let sum = none
    for (const selection of set.selections) {
      const inner =
        selection.kind === 'FragmentSpread'
          ? ofFragment(selection.name.value)
          : selection.selectionSet === undefined
            ? none
            : ofSet(selection.selectionSet)
      const isField = selection.kind === 'Field'
      sum = {
        depth: Math.max(sum.depth, inner.depth + (isField ? 1 : 0)),
        aliases: sum.aliases + inner.aliases + (isField && selection.alias !== undefined ? 1 : 0),
        directives: sum.directives + inner.directives + (selection.directives?.length ?? 0),
        fields: sum.fields + inner.fields + (isField ? 1 : 0),
      }
    }
    return sum
  }
  return ofSet
}
