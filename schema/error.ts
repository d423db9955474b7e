/**
 * The error catalogue: every code that Senmon may say, its kind, and what to do about it.
 * A code says the fact and is never reused or renamed. HTTP status, exit code and retryability hang on the kind.
 */

/** gRPC's names, with what each means at the edges. */
export const KINDS = {
  invalid_argument: { httpStatus: 400, exitCode: 2, retryable: false },
  unauthenticated: { httpStatus: 401, exitCode: 3, retryable: false },
  permission_denied: { httpStatus: 403, exitCode: 3, retryable: false },
  not_found: { httpStatus: 404, exitCode: 4, retryable: false },
  already_exists: { httpStatus: 409, exitCode: 5, retryable: false },
  failed_precondition: { httpStatus: 409, exitCode: 5, retryable: false },
  aborted: { httpStatus: 409, exitCode: 5, retryable: true },
  too_large: { httpStatus: 413, exitCode: 2, retryable: false },
  unsupported_media: { httpStatus: 415, exitCode: 2, retryable: false },
  unprocessable: { httpStatus: 422, exitCode: 2, retryable: false },
  resource_exhausted: { httpStatus: 429, exitCode: 6, retryable: true },
  canceled: { httpStatus: 499, exitCode: 7, retryable: false },
  internal: { httpStatus: 500, exitCode: 1, retryable: false },
  unavailable: { httpStatus: 503, exitCode: 8, retryable: true },
  deadline_exceeded: { httpStatus: 504, exitCode: 8, retryable: true },
} as const
export type Kind = keyof typeof KINDS

interface CatalogueEntry {
  readonly kind: Kind
  readonly hint: string
}

/** Sorted by subject. The hint says what to do; the message, written where the error is made, says what happened. */
export const CATALOGUE = {
  // the door
  unauthenticated: {
    kind: 'unauthenticated',
    hint: 'Send `Authorization: Bearer <key>`; the first start wrote a key to <data dir>/dev-key.',
  },
  permission_denied: { kind: 'permission_denied', hint: 'Use a key whose scopes cover this.' },
  input_invalid: { kind: 'invalid_argument', hint: 'Correct the named field and send it again.' },
  input_too_large: { kind: 'too_large', hint: 'Send less; the message names the limit.' },
  media_type_unsupported: { kind: 'unsupported_media', hint: 'Send application/json.' },
  idempotency_key_reused: { kind: 'unprocessable', hint: 'Use a new idempotency key for a different request.' },
  rate_limited: { kind: 'resource_exhausted', hint: 'Wait, then try again.' },
  not_ready: { kind: 'unavailable', hint: 'Wait for /readyz to answer 200.' },
  internal: { kind: 'internal', hint: 'Look up the reference in the server log.' },

  // jobs
  job_not_found: { kind: 'not_found', hint: 'Check the id; a job is seen only by its own application.' },
  job_finished: { kind: 'failed_precondition', hint: 'Continue it with a query, or create a new job.' },
  job_imported: { kind: 'failed_precondition', hint: 'Fork it from one of its checkpoints; the fork goes on here.' },
  lock_unpublished: {
    kind: 'failed_precondition',
    hint: 'Publish here the same versions of the expert, its delegates and its skills, then fork.',
  },
  job_exists: { kind: 'already_exists', hint: 'The server has a job of this id already; look at that one.' },
  checkpoint_not_found: { kind: 'not_found', hint: 'List them: job(id) { checkpoints { nodes { id seq } } }.' },
  job_waiting: { kind: 'failed_precondition', hint: 'Answer the open question first, or send a query.' },
  job_running: { kind: 'failed_precondition', hint: 'Send a query, or wait until the job asks or finishes.' },
  job_canceled: { kind: 'failed_precondition', hint: 'A canceled job does not go on; create a new job.' },
  nothing_to_continue: { kind: 'invalid_argument', hint: 'Send a query, an answer, or a raised maxSteps or budget.' },
  question_not_found: { kind: 'not_found', hint: 'List the questions of the job: job(id) { questions { id } }.' },
  question_answered: { kind: 'failed_precondition', hint: 'An answer is given once; the job has it.' },
  question_expired: {
    kind: 'failed_precondition',
    hint: 'The time for the answer is over, and the job has gone on without it.',
  },
  question_withdrawn: {
    kind: 'failed_precondition',
    hint: 'A query interrupted the call that asked; look at the job.',
  },
  answer_invalid: { kind: 'invalid_argument', hint: "Send a value that the question's schema allows." },
  args_hash_mismatch: { kind: 'failed_precondition', hint: 'Read the question again: what it asks about has changed.' },
  query_missing: { kind: 'invalid_argument', hint: 'Send a query.' },
  canceled_by_user: { kind: 'canceled', hint: 'Nothing to do.' },
  output_invalid: {
    kind: 'unprocessable',
    hint: 'The model gave no JSON that fits outputJsonSchema: take a stronger model, a looser schema, or more outputRetries.',
  },
  budget_exhausted: { kind: 'failed_precondition', hint: 'Continue the job with a higher budget.' },
  step_limit: { kind: 'failed_precondition', hint: 'Continue the job with a larger maxSteps.' },
  attempts_exhausted: {
    kind: 'unavailable',
    hint: 'Its explanation says how its last machines ended; the log of the server says more.',
  },

  // the log
  revision_conflict: { kind: 'aborted', hint: 'Read the job again and decide anew.' },
  fence_stale: { kind: 'aborted', hint: 'Another machine holds the job now; stop.' },
  log_tampered: { kind: 'internal', hint: 'The log does not hash to what it says; restore it from a backup.' },
  log_too_new: {
    kind: 'failed_precondition',
    hint: 'A newer Senmon wrote this log: read it with that one or a later.',
  },
  bundle_invalid: { kind: 'unprocessable', hint: 'The bundle is damaged, or is none: export the job again.' },

  // experts and packages
  expert_not_found: { kind: 'not_found', hint: 'List what is published: experts { nodes { key } }.' },
  expert_key_invalid: { kind: 'invalid_argument', hint: 'Write name, name@1.2.0, name@^1 or name@tag.' },
  version_not_found: { kind: 'not_found', hint: 'Look at the versions of the expert: expert(key) { versions }.' },
  model_missing: { kind: 'invalid_argument', hint: 'Name a model in the expert file or in createJob.' },
  expert_file_missing: { kind: 'unprocessable', hint: 'Put senmon.toml at the root of the package and into "files".' },
  expert_file_invalid: {
    kind: 'unprocessable',
    hint: 'Correct senmon.toml where the message points; `senmon lint` finds all faults at once.',
  },
  package_mismatch: { kind: 'unprocessable', hint: 'Make package.json and senmon.toml say the same.' },
  package_not_found: { kind: 'not_found', hint: 'Check the name; `npm view` shows what is published.' },
  package_invalid: { kind: 'unprocessable', hint: 'Correct package.json and publish again.' },
  tarball_invalid: { kind: 'unprocessable', hint: 'Pack with `npm publish`; regular files and directories only.' },
  tarball_too_large: { kind: 'too_large', hint: 'Publish less; the message names the limit.' },
  version_frozen: { kind: 'already_exists', hint: 'Published means frozen: raise the version.' },
  name_taken: { kind: 'permission_denied', hint: 'Another application owns this name; choose another.' },
  delegate_not_found: { kind: 'unprocessable', hint: 'Publish the delegate first, or correct its name or range.' },
  delegate_cycle: { kind: 'unprocessable', hint: 'Break the cycle that the message names.' },
  skill_not_found: {
    kind: 'unprocessable',
    hint: 'Publish the skill package first (`senmon publish <package>` takes one from npm), or correct its name or range.',
  },
  tool_not_found: { kind: 'unprocessable', hint: 'Correct pick or omit: name tools that the skill offers.' },
  tool_name_taken: {
    kind: 'failed_precondition',
    hint: 'Rename one of the two skills, or leave one of the two tools out with omit or base, and publish again.',
  },
  skill_unsupported: {
    kind: 'unprocessable',
    hint: "Remove senmon.programs from the skill's package.json: only skills that come with the platform may have it.",
  },
  registry_plugin_failed: {
    kind: 'internal',
    hint: 'The registry does not start without all of its plugins; see the cause.',
  },

  // machines and skills
  machine_host_missing: {
    kind: 'unavailable',
    hint: 'Install bubblewrap (`apt-get install bubblewrap`), then start again.',
  },
  machine_failed: { kind: 'unavailable', hint: 'The job goes on with another machine.' },
  machine_provider_failed: {
    kind: 'unavailable',
    hint: 'Jobs wait and go on by themselves; `senmon pool` says what is wrong with the machines.',
  },
  machine_silent: {
    kind: 'deadline_exceeded',
    hint: 'The machine was stuck and was ended; the job goes on with another.',
  },
  protocol_breach: { kind: 'internal', hint: 'The machine was ended; see PROTOCOL.md for the clause.' },
  skill_start_failed: { kind: 'unavailable', hint: "See the skill's stderr in the message." },
  skill_died: { kind: 'unavailable', hint: "See the skill's stderr in the message." },
  skill_hung: { kind: 'deadline_exceeded', hint: 'The skill was ended; the call may be tried again.' },
  skill_answer_refused: {
    kind: 'permission_denied',
    hint: 'The machine would have told the server what no human of the job has said; the skill was ended, and the call may be tried again.',
  },
  skill_garbage: { kind: 'internal', hint: 'The skill wrote something other than MCP on its stdout.' },
  skill_tools_changed: { kind: 'failed_precondition', hint: "Publish the skill's new tools as a new version." },
  tool_schema_invalid: {
    kind: 'failed_precondition',
    hint: "Have the skill's author mend the tool's input schema, or leave the tool out with `omit`.",
  },
  skill_address_refused: {
    kind: 'permission_denied',
    hint: 'Use a public https endpoint, or have the operator allow the network: SENMON_SKILL_NETWORKS.',
  },
  secret_missing: { kind: 'failed_precondition', hint: 'Set it: setSecret(input: { name, value }).' },
  limit_exceeded: { kind: 'resource_exhausted', hint: 'Use less; the message names the limit.' },
  item_not_found: { kind: 'not_found', hint: 'List what is there: GET …/workspace_instance/items, GET …/checkpoints.' },
  workspace_invalid: { kind: 'invalid_argument', hint: 'Use relative paths of regular files.' },
  content_missing: { kind: 'internal', hint: 'The content store lost what the log names; restore it from a backup.' },

  // models
  model_not_found: { kind: 'not_found', hint: 'Write provider/model, with a provider that this server knows.' },
  model_key_missing: {
    kind: 'failed_precondition',
    hint: 'Set it as a secret of the application (`senmon secret set`); for the application dev, the environment of the server may have it.',
  },
  model_key_refused: { kind: 'failed_precondition', hint: 'The provider refused the key: set a valid one.' },
  model_overloaded: { kind: 'unavailable', hint: 'The provider was busy through all retries; continue the job later.' },
  model_refused: { kind: 'failed_precondition', hint: 'The provider refused the request; the message says why.' },
  model_stalled: { kind: 'deadline_exceeded', hint: 'The provider went silent; continue the job later.' },
  model_timeout: {
    kind: 'deadline_exceeded',
    hint: "Raise the expert's timeout, or continue the job later.",
  },
  model_error: { kind: 'unavailable', hint: 'The provider failed; the message says how.' },
  context_exceeded: {
    kind: 'failed_precondition',
    hint: 'The messages are more than the model reads; read less at once, or use another model. See docs/context.md.',
  },
  rehearsal_diverged: {
    kind: 'failed_precondition',
    hint: 'The recorded turns do not fit this run; record them anew or use a real model.',
  },
  rehearsal_invalid: { kind: 'invalid_argument', hint: 'Correct the file as docs/rehearsals.md says.' },

  // secrets and configuration
  secret_not_found: { kind: 'not_found', hint: 'List the names: secrets { name }.' },
  secret_undecipherable: {
    kind: 'internal',
    hint: 'The master key does not fit the stored secrets; restore the right one.',
  },
  storage_full: { kind: 'unavailable', hint: 'Have the operator make room on the disk, then try again.' },
  database_unavailable: { kind: 'unavailable', hint: 'Try again; the log of the server says what is wrong with it.' },
  directory_in_use: {
    kind: 'failed_precondition',
    hint: 'Stop that process first, or set another SENMON_DATA_DIR.',
  },
  config_invalid: { kind: 'invalid_argument', hint: 'Correct the named environment variables.' },
  server_unreachable: { kind: 'unavailable', hint: 'Start it with `senmon start`, or set SENMON_URL.' },
} as const satisfies Record<string, CatalogueEntry>

export type ErrorCode = keyof typeof CATALOGUE

/** An expected "no": a value that deciders return and doors show. Never thrown. */
export interface Refusal {
  readonly refused: ErrorCode
  readonly message: string
}

/** A refusal with one sentence that names what is wrong. */
export function refuse(refused: ErrorCode, message: string): Refusal {
  return { refused, message }
}

export function isRefusal(value: unknown): value is Refusal {
  return typeof value === 'object' && value !== null && 'refused' in value
}

/** The world says no: one class, which crosses every boundary as {code, message}. `cause` keeps the chain. */
export class PlatformError extends Error {
  override readonly name = 'PlatformError'
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }

  get kind(): Kind {
    return CATALOGUE[this.code].kind
  }

  get hint(): string {
    return CATALOGUE[this.code].hint
  }
}

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(CATALOGUE, text)
}

/** A refusal as the error that a caller without a result union must throw. */
export function refusalError(refusal: Refusal): PlatformError {
  return new PlatformError(refusal.refused, refusal.message)
}
