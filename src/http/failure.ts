/** Errors as callers see them: our code and one sentence, or a reference to what the log holds. Nothing else gets out. */
import { GraphQLError } from 'graphql'
import type { Chance } from '../../schema/clock.ts'
import { CATALOGUE, KINDS, isErrorCode, PlatformError, type ErrorCode } from '../../schema/error.ts'
import type { Log } from '../log.ts'

export interface Failure {
  readonly status: number
  readonly code: ErrorCode
  readonly message: string
  readonly hint: string
}

export interface Failures {
  /** What a caller may know of any thrown value; what it may not is logged under the reference that the message names. */
  readonly describe: (error: unknown) => Failure
  /** The same for an error of a GraphQL operation, keeping its path and place. */
  readonly mask: (error: unknown) => GraphQLError
}

export function openFailures({ log, chance }: { readonly log: Log; readonly chance: Chance }): Failures {
  const hide = (error: unknown, code: ErrorCode): Failure => {
    const reference = `ref_${Buffer.from(chance.bytes(8)).toString('hex')}`
    log.error('a request failed', { reference, error })
    return failureOf(code, `Something failed inside; its reference is ${reference}.`)
  }
  const describe = (error: unknown): Failure => {
    if (!(error instanceof PlatformError)) return hide(error, 'internal')
    return error.kind === 'internal' ? hide(error, error.code) : failureOf(error.code, error.message)
  }
  return {
    describe,
    mask(error) {
      const cause = causeOf(error)
      const isGraphQL = error instanceof GraphQLError
      if (isGraphQL && cause instanceof GraphQLError) {
        const { code, http } = cause.extensions
        return graphQLError(error, {
          message: error.message,
          code: typeof code === 'string' && isErrorCode(code) ? code : 'input_invalid',
          status: statusOf(http) ?? (error.path === undefined ? 400 : undefined),
        })
      }
      const failure = describe(cause)
      const status = isGraphQL && error.path !== undefined ? undefined : failure.status
      return graphQLError(isGraphQL ? error : undefined, { ...failure, status })
    },
  }
}

/** The failure that a code and a sentence make. */
export function failureOf(code: ErrorCode, message: string): Failure {
  const { kind, hint } = CATALOGUE[code]
  return { status: KINDS[kind].httpStatus, code, message, hint }
}

/** A failure as the body of a GraphQL response. */
export function printGraphQLFailure({ message, code, hint }: Failure): string {
  return JSON.stringify({ errors: [{ message, extensions: { code, hint } }] })
}

/** A failure as the body of a REST response. */
export function printRestFailure({ status, code, message }: Failure): string {
  return JSON.stringify({ code: status, error: code, reason: message })
}

/** An error as JSON, without what only the HTTP layer reads. */
export function printableError(error: GraphQLError): Record<string, unknown> {
  const { http: _http, ...extensions } = error.extensions
  return { ...error.toJSON(), extensions }
}

function causeOf(error: unknown): unknown {
  let cause = error
  while (cause instanceof GraphQLError && cause.originalError !== undefined) cause = cause.originalError
  return cause
}

function statusOf(http: unknown): number | undefined {
  return typeof http === 'object' && http !== null && 'status' in http && typeof http.status === 'number'
    ? http.status
    : undefined
}

function graphQLError(
  place: GraphQLError | undefined,
  failure: { readonly message: string; readonly code: ErrorCode; readonly status: number | undefined },
): GraphQLError {
  const { nodes, source, positions, path } = place ?? {}
  return new GraphQLError(failure.message, {
    nodes,
    source,
    positions,
    path,
    extensions: {
      code: failure.code,
      hint: CATALOGUE[failure.code].hint,
      ...(failure.status === undefined ? {} : { http: { status: failure.status } }),
    },
  })
}
