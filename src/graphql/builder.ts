/** The schema builder: scalars, limits, and the rule that every root field needs a caller. */
import SchemaBuilder from '@pothos/core'
import ComplexityPlugin from '@pothos/plugin-complexity'
import ScopeAuthPlugin from '@pothos/plugin-scope-auth'
import ValidationPlugin from '@pothos/plugin-validation'
import { z } from 'zod'
import { PlatformError } from '../../schema/error.ts'
import type { Json } from '../../schema/json.ts'
import { isOperator, OPERATOR } from '../application/applications.ts'
import type { Call } from '../pool/call.ts'

export interface SchemaShape {
  Context: Call
  DefaultFieldNullability: false
  DefaultAuthStrategy: 'all'
  AuthScopes: { signedIn: boolean; operator: boolean }
  Scalars: {
    ID: { Input: string; Output: string }
    JSON: { Input: Json; Output: unknown }
    /** Epoch milliseconds inside, ISO 8601 outside. */
    DateTime: { Input: number; Output: number }
  }
}

/** A page of 100 jobs with their runs and questions is about 40,000; a query for ten times that is nobody's screen. */
const COMPLEXITY_MAX = 50_000

export const builder = new SchemaBuilder<SchemaShape>({
  plugins: [ComplexityPlugin, ScopeAuthPlugin, ValidationPlugin],
  defaultFieldNullability: false,
  complexity: {
    limit: { complexity: COMPLEXITY_MAX, depth: 12, breadth: 500 },
    complexityError: (kind, { complexity, depth, breadth }) =>
      new PlatformError(
        'input_too_large',
        `The ${kind.toLowerCase()} of this operation is over its limit: complexity ${complexity} of ${COMPLEXITY_MAX}, depth ${depth} of 12, breadth ${breadth} of 500.`,
      ),
  },
  scopeAuth: {
    defaultStrategy: 'all',
    authorizeOnSubscribe: true,
    authScopes: ({ caller }) => ({ signedIn: caller !== undefined, operator: isOperator(caller) }),
    unauthorizedError: (_parent, { caller }, { fieldName }) =>
      caller === undefined
        ? new PlatformError('unauthenticated', 'No valid key came with the request.')
        : new PlatformError('permission_denied', `${fieldName} is for keys with the scope ${OPERATOR}.`),
  },
  validation: {
    validationError: ({ issues }) =>
      new PlatformError(
        'input_invalid',
        issues.map(({ path, message }) => `${(path ?? []).map(String).join('.')}: ${message}.`).join(' '),
      ),
  },
})

builder.queryType({ authScopes: { signedIn: true } })
builder.mutationType({ authScopes: { signedIn: true } })
builder.subscriptionType({ authScopes: { signedIn: true } })

builder.scalarType('JSON', { description: 'Any JSON value.', serialize: (value) => value })
builder.scalarType('DateTime', {
  description: 'A moment, in ISO 8601 with milliseconds, UTC.',
  serialize: (atMs) => new Date(atMs).toISOString(),
  parseValue: (text) => {
    const atMs = typeof text === 'string' ? Date.parse(text) : Number.NaN
    if (Number.isNaN(atMs)) throw new PlatformError('input_invalid', 'A DateTime is written in ISO 8601.')
    return atMs
  },
})

/** How many of a list a page holds: 1 to 100, default 20. */
export const PAGE_DEFAULT = 20
const PAGE_WORDS = { error: 'it must be a whole number from 1 to 100' }
export const firstSchema = z.int().min(1, PAGE_WORDS).max(100, PAGE_WORDS).nullish()
/** A position in a log: 0 is before the first event. */
export const afterSchema = z.int().min(0, { error: 'it must be a whole number from 0' }).nullish()
