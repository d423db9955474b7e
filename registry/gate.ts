/**
 * The gate: every request that would write is decided here, whole, so that nothing that verdaccio can do to a
 * package is ever reached.
 *
 * GA1 Whoever asks is known before a byte of theirs is unpacked.
 * GA2 Bytes of a published version change by no route: publish again, unpublish, raw upload, any `-rev`.
 * GA3 Only the owner publishes, tags, deprecates.
 * GA4 A write that is not known here is refused.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { CATALOGUE, isRefusal, KINDS, refuse, type ErrorCode, type Refusal } from '../schema/error.ts'
import { isJsonObject, type Json, type JsonObject } from '../schema/json.ts'
import type { Publication } from '../schema/package-store.ts'
import { isPackageName } from './package-manifest.ts'
import type { Publisher, RegistryLog } from './ports.ts'
import { isTag, judgePublication, parsePublishBody, type PublishGround } from './publication.ts'

export interface GateRequest {
  readonly method: string
  /** Decoded parts of the path; a scoped package is one part. */
  readonly parts: readonly string[]
  readonly body: Json | undefined
  readonly publisher: Publisher | undefined
}

export type GateAnswer =
  /** npm shows `notice` to whoever published. */
  | { readonly kind: 'done'; readonly status: number; readonly body: JsonObject; readonly notice?: string }
  | { readonly kind: 'refused'; readonly refusal: Refusal; readonly status?: number }

const done = (status: number, body: JsonObject = { ok: true }): GateAnswer => ({ kind: 'done', status, body })
const no = (refusal: Refusal, status?: number): GateAnswer =>
  status === undefined ? { kind: 'refused', refusal } : { kind: 'refused', refusal, status }

const FROZEN = 'A published version stays as it is, for ever: publish a new version, or deprecate this one.'

/** Answers a request with any other method than GET or HEAD. */
export async function answerWrite(ground: PublishGround, log: RegistryLog, request: GateRequest): Promise<GateAnswer> {
  const { method, parts, publisher } = request
  if (publisher === undefined) return no(refuse('unauthenticated', 'A key of the platform is needed.'))
  if (parts[0] === '-') return answerSpecial(ground, request, publisher)
  const [name = '', second, third] = parts
  if (!isPackageName(name))
    return no(refuse('package_invalid', `${JSON.stringify(name)} is not the name of a package.`))
  const scoped = refuseScope(publisher)
  if (scoped !== undefined) return no(scoped)
  if (method === 'PUT' && parts.length === 1) return answerPackage(ground, log, request, publisher, name)
  if (method === 'PUT' && parts.length === 2 && second !== '-rev' && second !== '-')
    return setTag(ground, publisher, name, second ?? '', request.body)
  // npm unpublish and npm owner write a packument back at a revision.
  if (second === '-rev' || third === '-rev' || parts.includes('-rev')) return no(refuse('version_frozen', FROZEN), 405)
  return no(refuse('version_frozen', `${method} is not allowed here. ${FROZEN}`), 405)
}

function refuseScope(publisher: Publisher): Refusal | undefined {
  if (publisher.scopes.includes('publish') || publisher.scopes.includes('*')) return undefined
  return refuse('permission_denied', `The key of ${publisher.name} does not have the scope "publish".`)
}

async function answerSpecial(ground: PublishGround, request: GateRequest, publisher: Publisher): Promise<GateAnswer> {
  const { method, parts, body } = request
  const route = parts.slice(1).join('/')
  // `npm install` asks for known vulnerabilities; there is nobody to ask.
  if (method === 'POST' && /^npm\/v1\/security\/(?:advisories\/bulk|audits\/quick|audits)$/.test(route))
    return done(200, {})
  if (parts[1] === 'package' && parts[3] === 'dist-tags') {
    const [, , name = '', , tag] = parts
    const scoped = refuseScope(publisher)
    if (scoped !== undefined) return no(scoped)
    if (!isPackageName(name))
      return no(refuse('package_invalid', `${JSON.stringify(name)} is not the name of a package.`))
    if (method === 'PUT' && tag !== undefined) return setTag(ground, publisher, name, tag, body)
    if (method === 'DELETE' && tag !== undefined) {
      const deleted = await ground.packages.deleteTag(name, publisher.applicationId, tag, ground.clock.now())
      return isRefusal(deleted) ? no(deleted) : done(200)
    }
  }
  if (parts[1] === 'user' || parts[1] === 'v1' || route.startsWith('npm/v1/'))
    return no(refuse('permission_denied', 'Keys and users belong to the platform; the registry makes none.'))
  return no(refuse('permission_denied', `${method} /-/${route} is not offered here.`), 405)
}

async function setTag(
  ground: PublishGround,
  publisher: Publisher,
  name: string,
  tag: string,
  body: Json | undefined,
): Promise<GateAnswer> {
  if (!isTag(tag)) return no(refuse('package_invalid', `${JSON.stringify(tag)} is not a name for a tag.`))
  if (typeof body !== 'string') return no(refuse('input_invalid', 'The body must be a version as a JSON string.'))
  const tagged = await ground.packages.setTag(name, publisher.applicationId, tag, body, ground.clock.now())
  return isRefusal(tagged) ? no(tagged) : done(201)
}

/** `PUT /<package>` publishes when it brings a tarball; without, it may deprecate and nothing else. */
async function answerPackage(
  ground: PublishGround,
  log: RegistryLog,
  request: GateRequest,
  publisher: Publisher,
  name: string,
): Promise<GateAnswer> {
  const { body } = request
  if (body === undefined || !isJsonObject(body))
    return no(refuse('input_invalid', 'The body must be a JSON object, as npm writes it.'))
  const attachments = body['_attachments']
  if (attachments === undefined || !isJsonObject(attachments) || Object.keys(attachments).length === 0)
    return deprecate(ground, publisher, name, body)
  const parsed = parsePublishBody(name, body)
  const judged = isRefusal(parsed) ? parsed : await judgePublication(ground, publisher.applicationId, parsed)
  const published = isRefusal(judged) ? judged : await ground.packages.publish(judged)
  if (isRefusal(published)) {
    log.info('publication refused', { package: name, application: publisher.applicationId, ...published })
    return no(published)
  }
  if (isRefusal(judged)) return no(judged)
  const { version, integrity } = judged.version
  log.info('published', { package: name, version, integrity, application: publisher.applicationId, result: published })
  const notice = unpinnedIn(judged)
  return { kind: 'done', status: 201, body: { ok: true, success: true }, ...(notice === undefined ? {} : { notice }) }
}

/** Which skills of the publication's own experts are unpinned, and why, in one line. */
function unpinnedIn({ version, locks }: Publication): string | undefined {
  const own = Object.values(locks).flatMap((lock) => lock.experts[lock.coordinator] ?? [])
  const unpinned = own.flatMap(({ name, skills }) =>
    Object.entries(skills).flatMap(([skill, locked]) =>
      locked.type !== 'interactiveSkill' && locked.unpinned !== undefined
        ? [`The tools of "${skill}" of ${name}@${version.version} are not pinned: ${locked.unpinned}.`]
        : [],
    ),
  )
  if (unpinned.length === 0) return undefined
  return `${unpinned.join(' ')} They are listed at a job's start.`
}

async function deprecate(
  ground: PublishGround,
  publisher: Publisher,
  name: string,
  body: JsonObject,
): Promise<GateAnswer> {
  const found = await ground.packages.find(name)
  if (found === undefined) return no(refuse('package_not_found', `No package is named ${name}.`))
  const versions = body['versions']
  if (versions === undefined || !isJsonObject(versions))
    return no(refuse('tarball_invalid', `The publication of ${name} has no tarball.`))
  const gone = found.versions.find((known) => !Object.hasOwn(versions, known.version))
  if (gone !== undefined)
    return no(refuse('version_frozen', `${name}@${gone.version} cannot be taken away. ${FROZEN}`), 405)
  const strange = Object.keys(versions).find((version) => !found.versions.some((known) => known.version === version))
  if (strange !== undefined)
    return no(refuse('tarball_invalid', `The publication of ${name}@${strange} has no tarball.`))
  for (const known of found.versions) {
    const sent = versions[known.version]
    const word = sent !== undefined && isJsonObject(sent) ? sent['deprecated'] : undefined
    if (word !== undefined && (typeof word !== 'string' || word.length > 1024 || word.includes('\0')))
      return no(
        refuse(
          'input_invalid',
          `The word that deprecates ${name}@${known.version} must be a text of at most 1024 characters.`,
        ),
      )
    const message = word === undefined || word === '' ? null : word
    if (message === known.deprecated) continue
    const { applicationId } = publisher
    const result = await ground.packages.deprecate(name, applicationId, known.version, message, ground.clock.now())
    if (isRefusal(result)) return no(result)
  }
  if (found.owner !== publisher.applicationId)
    return no(refuse('name_taken', `${name} belongs to another application.`))
  return done(200)
}

/** The request as the gate reads it. */
export function readRequest(
  req: IncomingMessage & { readonly body?: unknown },
  publisher: Publisher | undefined,
): GateRequest | Refusal {
  const path = (req.url ?? '/').split('?')[0] ?? '/'
  const parts: string[] = []
  for (const raw of path.split('/').filter((part) => part !== '')) {
    const part = decode(raw)
    if (part === undefined) return refuse('input_invalid', 'The path is not properly encoded.')
    const last = parts.at(-1)
    if (last?.startsWith('@') === true && !last.includes('/')) parts[parts.length - 1] = `${last}/${part}`
    else parts.push(part)
  }
  // verdaccio's parser took it from JSON; an absent body is an empty object there.
  return { method: req.method ?? 'GET', parts, body: req.body as Json | undefined, publisher }
}

function decode(part: string): string | undefined {
  try {
    return decodeURIComponent(part)
  } catch {
    return undefined
  }
}

/** The answer as npm shows it: `error` is the sentence in the author's terminal. */
export function sendAnswer(res: ServerResponse, answer: GateAnswer): void {
  const status = answer.kind === 'done' ? answer.status : (answer.status ?? statusOf(answer.refusal.refused))
  const body = answer.kind === 'done' ? answer.body : printRefusal(answer.refusal)
  const notice =
    answer.kind === 'done' && answer.notice !== undefined ? { 'npm-notice': headerText(answer.notice) } : {}
  res.writeHead(status, { 'content-type': 'application/json', ...notice }).end(JSON.stringify(body))
}

const HEADER_CHARS_MAX = 2000

/** Words that a skill may have had a part in, as one header may hold them. */
function headerText(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, HEADER_CHARS_MAX)
}

/** The HTTP status of a code. */
export function statusOf(code: ErrorCode): number {
  return KINDS[CATALOGUE[code].kind].httpStatus
}

/** A refusal for npm: the hint follows the sentence, since npm shows nothing but `error`. */
export function printRefusal({ refused, message }: Refusal): JsonObject {
  const { hint } = CATALOGUE[refused]
  return { error: `${message} ${hint}`, code: refused, message, hint }
}
