/**
 * A Docker engine for tests: the part of its API that we use, over a real unix socket, with containers that are real
 * processes in a root directory of their own, so that the real supervisor runs in them.
 *
 * What it answers (status, body, text) was recorded from Docker 20.10.24, API 1.41, containerd 1.6.20, runc 1.1.5 on
 * Linux 6.18, by the calls of test/contract/docker-engine.ts, which pass against that engine and against this one.
 * Not recorded, taken from the published API: the content type of an attached stream from 1.42 on.
 * What containers may do is less faithful: bubblewrap stands in for runc, with the very filter that was ordered.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { chmodSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import type { Duplex, Readable, Writable } from 'node:stream'
import { sha256 } from '../../schema/hash.ts'
import { isJsonObject, type Json, type JsonObject } from '../../schema/json.ts'
import type { SeccompProfile } from '../../src/docker/seccomp-profile.ts'
import { IMAGE } from '../../schema/machine-image.ts'
import { assemble } from '../../src/sandbox/seccomp.ts'
import { profileProgram } from '../support/profile-program.ts'
import { scratchDirectory } from '../support/scratch.ts'

export interface FakeEngineOptions {
  /** The root directory of the one image that it has. */
  readonly root: string
  readonly image: string
  readonly apiVersion?: string
  readonly system?: string
  /** Over what `GET /info` says. */
  readonly info?: JsonObject
}

export interface FakeEngine {
  readonly socketPath: string
  /** Every request that came, as `METHOD /path` without its version. */
  readonly requests: readonly string[]
  /** Bodies of orders of containers. */
  readonly orders: readonly JsonObject[]
  /** The next request that fits is refused so, or has its connection cut after it took effect. */
  trip(fits: RegExp, how: 'cut' | { readonly status: number; readonly message: string }): void
  /**
   * As if the kernel had ended a process of the container for want of memory, and the container with it. Of one that is
   * not the first, an engine of 20.10 tells by an event, and inspecting says nothing.
   */
  starve(id: string, whom: 'first' | 'another'): void
  /** Ends attached streams while their containers go on. */
  dropStreams(): void
  readonly containers: readonly string[]
  close(): Promise<void>
}

interface Container {
  readonly id: string
  readonly name: string
  readonly order: JsonObject
  /** How many were made before it. */
  readonly number: number
  status: 'created' | 'running' | 'paused' | 'exited'
  exitCode: number
  oom: boolean
  process: ChildProcess | undefined
  streams: Duplex[]
  readonly ended: PromiseWithResolvers<void>
}

type Answer = { readonly status: number; readonly body?: Json }

const STUCK_MS = 1_000
const OUT = 1
const ERR = 2

export async function openFakeEngine(options: FakeEngineOptions): Promise<FakeEngine> {
  const directory = scratchDirectory('engine', '/var/tmp')
  chmodSync(directory, 0o755)
  const socketPath = join(directory, 'docker.sock')
  const imageId = `sha256:${sha256(options.root)}`
  const containers = new Map<string, Container>()
  const listeners = new Set<ServerResponse>()
  const requests: string[] = []
  const orders: JsonObject[] = []
  const trips: { readonly fits: RegExp; readonly how: Parameters<FakeEngine['trip']>[1] }[] = []
  let count = 0

  const find = (nameOrId: string): Container | undefined =>
    containers.get(nameOrId) ?? [...containers.values()].find(({ name }) => name === nameOrId)
  const labelsOf = ({ order }: Container): JsonObject => (isJsonObject(order['Labels']) ? order['Labels'] : {})
  const missing = (nameOrId: string): Answer => refusal(404, `No such container: ${nameOrId}`)

  function tell(container: Container, action: string, more: JsonObject = {}): void {
    const attributes = { ...labelsOf(container), image: options.image, name: container.name, ...more }
    const event = { Type: 'container', Action: action, Actor: { ID: container.id, Attributes: attributes } }
    for (const listener of listeners)
      listener.write(`${JSON.stringify({ status: action, id: container.id, ...event })}\n`)
  }

  function create(name: string, order: JsonObject): Answer {
    const holder = find(name)
    if (holder !== undefined)
      return refusal(
        409,
        `Conflict. The container name "/${name}" is already in use by container "${holder.id}". You have to remove (or rename) that container to be able to reuse that name.`,
      )
    const { Image, HostConfig } = order
    if (typeof Image !== 'string') return refusal(400, 'no image is named')
    if (Image !== options.image && Image !== imageId) return refusal(404, `No such image: ${Image}`)
    if (isJsonObject(HostConfig) && typeof HostConfig['Runtime'] === 'string' && HostConfig['Runtime'] !== 'runc')
      return refusal(400, `Unknown runtime specified ${HostConfig['Runtime']}`)
    orders.push(order)
    const id = sha256(`container ${(count += 1)} ${socketPath}`)
    const ended = Promise.withResolvers<void>()
    const state = { status: 'created', exitCode: 0, oom: false, process: undefined, streams: [] } as const
    const container: Container = { id, name, order, number: count, ended, ...state, streams: [] }
    containers.set(id, container)
    tell(container, 'create')
    return { status: 201, body: { Id: id, Warnings: [] } }
  }

  function start(container: Container): Answer {
    if (container.status === 'running') return { status: 304 }
    if (container.status === 'paused') return refusal(409, 'cannot start a paused container, try unpause instead')
    const child = startContainer(options.root, container.order)
    container.process = child
    container.status = 'running'
    for (const [type, stream] of [[OUT, child.stdout] as const, [ERR, child.stderr] as const])
      (stream as Readable).on('data', (bytes: Buffer) => {
        for (const one of container.streams) if (one.writable) one.write(frame(type, bytes))
      })
    for (const stream of container.streams) feed(stream, container)
    child.once('close', (code, killedBy) => {
      container.exitCode = killedBy === null ? (code ?? 0) : 137
      container.status = 'exited'
      for (const stream of container.streams.splice(0)) stream.end()
      tell(container, 'die', { exitCode: `${container.exitCode}` })
      container.ended.resolve()
    })
    tell(container, 'start')
    return { status: 204 }
  }

  async function remove(container: Container): Promise<Answer> {
    if (container.process !== undefined && container.status !== 'exited') {
      kill(container.process)
      await container.ended.promise
    }
    containers.delete(container.id)
    container.ended.resolve()
    tell(container, 'destroy')
    return { status: 204 }
  }

  function pause(container: Container): Answer {
    if (container.status === 'paused') return refusal(409, `Container ${container.id} is already paused`)
    if (container.status !== 'running') return refusal(409, `Container ${container.id} is not running`)
    for (const pid of treeOf(container.process?.pid)) process.kill(pid, 'SIGSTOP')
    container.status = 'paused'
    tell(container, 'pause')
    return { status: 204 }
  }

  function unpause(container: Container): Answer {
    if (container.status !== 'paused') return refusal(500, `Container ${container.id} is not paused`)
    for (const pid of treeOf(container.process?.pid).toReversed()) process.kill(pid, 'SIGCONT')
    container.status = 'running'
    tell(container, 'unpause')
    return { status: 204 }
  }

  const inspect = (container: Container): Json => ({
    Id: container.id,
    Name: `/${container.name}`,
    Created: new Date(container.number).toISOString(),
    Image: imageId,
    State: {
      Pid: container.process?.pid ?? 0,
      Status: container.status,
      Running: container.status === 'running' || container.status === 'paused',
      Paused: container.status === 'paused',
      OOMKilled: container.oom,
      ExitCode: container.exitCode,
      Error: '',
    },
    Config: { Labels: labelsOf(container) },
  })

  const listed = (container: Container): Json => ({
    Id: container.id,
    Names: [`/${container.name}`],
    ImageID: imageId,
    Created: container.number,
    Labels: labelsOf(container),
    State: container.status,
  })

  async function answer(method: string, path: string, query: URLSearchParams, body: Json): Promise<Answer> {
    const filters = JSON.parse(query.get('filters') ?? '{}') as { label?: readonly string[] }
    const fits = (container: Container): boolean =>
      (filters.label ?? []).every((label) => {
        const [name = '', value] = label.split(/=(.*)/s)
        return value === undefined ? name in labelsOf(container) : labelsOf(container)[name] === value
      })
    const image = /^\/images\/(.+)\/json$/.exec(path)?.[1]
    if (image !== undefined)
      return image === options.image || image === imageId
        ? {
            status: 200,
            body: { Id: imageId, Os: 'linux', Architecture: process.arch === 'arm64' ? 'arm64' : 'amd64' },
          }
        : refusal(404, `No such image: ${image}`)
    if (path === '/info') return { status: 200, body: { ...INFO, ...options.info } }
    if (path === '/containers/create') return create(query.get('name') ?? `c${count}`, isJsonObject(body) ? body : {})
    if (path === '/containers/json') return { status: 200, body: [...containers.values()].filter(fits).map(listed) }
    const [, nameOrId = '', verb = ''] = /^\/containers\/([^/]+)(?:\/(\w+))?$/.exec(path) ?? []
    const container = find(nameOrId)
    if (container === undefined) return missing(nameOrId)
    switch (`${method} ${verb}`) {
      case 'GET json':
        return { status: 200, body: inspect(container) }
      case 'POST start':
        return start(container)
      case 'POST pause':
        return pause(container)
      case 'POST unpause':
        return unpause(container)
      case 'DELETE ':
        return await remove(container)
      case 'POST wait':
        if (container.status === 'running' || container.status === 'paused') await container.ended.promise
        return { status: 200, body: { Error: null, StatusCode: container.exitCode } }
      default:
        return refusal(404, 'page not found')
    }
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '' } = request
    const { pathname, searchParams } = new URL(url, 'http://docker')
    const path = pathname.replace(/^\/v\d+\.\d+/, '')
    requests.push(`${method} ${path}`)
    const text = await textOf(request)
    if (path === '/_ping') {
      response.writeHead(200, { 'Api-Version': options.apiVersion ?? '1.41', Ostype: options.system ?? 'linux' })
      response.end('OK')
      return
    }
    if (path === '/events') {
      response.writeHead(200, { 'Content-Type': 'application/json' }).flushHeaders()
      listeners.add(response)
      response.once('close', () => listeners.delete(response))
      return
    }
    const tripped = trips.findIndex(({ fits }) => fits.test(`${method} ${path}`))
    const how = tripped === -1 ? undefined : trips.splice(tripped, 1)[0]?.how
    const { status, body } =
      how === undefined || how === 'cut'
        ? await answer(method, path, searchParams, text === '' ? null : (JSON.parse(text) as Json))
        : refusal(how.status, how.message)
    if (how === 'cut') return void request.socket.destroy()
    response.writeHead(status, { 'Content-Type': 'application/json' })
    response.end(body === undefined ? '' : `${JSON.stringify(body)}\n`)
  }

  const server = createServer((request, response) => void serve(request, response))
  server.on('upgrade', (request: IncomingMessage, stream: Duplex) => {
    const path = new URL(request.url ?? '', 'http://docker').pathname.replace(/^\/v\d+\.\d+/, '')
    requests.push(`${request.method} ${path}`)
    stream.on('error', () => {})
    const nameOrId = /^\/containers\/([^/]+)\/attach$/.exec(path)?.[1] ?? ''
    const container = find(nameOrId)
    if (container === undefined) {
      const text = `${JSON.stringify(missing(nameOrId).body)}\n`
      stream.end(
        `HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: ${text.length}\r\n\r\n${text}`,
      )
      return
    }
    stream.write(
      'HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n',
    )
    container.streams.push(stream)
    tell(container, 'attach')
    if (container.status !== 'created') feed(stream, container)
    else stream.pause()
  })
  const connections = new Set<Duplex>()
  server.on('connection', (connection) => {
    connections.add(connection)
    connection.once('close', () => connections.delete(connection))
  })
  await new Promise<void>((listening) => server.listen(socketPath, listening))

  return {
    socketPath,
    requests,
    orders,
    trip: (fits, how) => void trips.push({ fits, how }),
    starve(id, whom) {
      const container = find(id)
      if (container?.process === undefined) return
      container.oom = whom === 'first'
      tell(container, 'oom')
      kill(container.process)
    },
    dropStreams: () => [...containers.values()].forEach(({ streams }) => streams.forEach((stream) => stream.destroy())),
    get containers() {
      return [...containers.keys()]
    },
    async close() {
      await Promise.all([...containers.values()].map(remove))
      for (const connection of connections) connection.destroy()
      await new Promise((closed) => server.close(closed))
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** Of `GET /info`, as recorded, as far as anybody asks. */
const INFO: JsonObject = {
  MemoryLimit: true,
  PidsLimit: true,
  CpuCfsQuota: true,
  SecurityOptions: ['name=seccomp,profile=default'],
  Runtimes: { runc: { path: 'runc' } },
}

function refusal(status: number, message: string): Answer {
  return { status, body: { message } }
}

function frame(type: number, bytes: Uint8Array): Buffer {
  const header = Buffer.alloc(8)
  header[0] = type
  header.writeUInt32BE(bytes.length, 4)
  return Buffer.concat([header, bytes])
}

/** What is written to the stream goes to the container; with the stream its input ends, as StdinOnce asks. */
function feed(stream: Duplex, container: Container): void {
  const input = container.process?.stdin as Writable
  input.on('error', () => {})
  stream.pipe(input)
  stream.once('close', () => input.end())
  stream.resume()
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

/** The process of a container: its image, its memory, no network, its filter, its user. */
function startContainer(root: string, order: JsonObject): ChildProcess {
  const host = order['HostConfig'] as { SecurityOpt: readonly string[]; Tmpfs: Record<string, string> }
  const [uid = ''] = (order['User'] as string).split(':')
  const profile = host.SecurityOpt.find((option) => option.startsWith('seccomp='))?.slice('seccomp='.length) ?? '{}'
  const sizes = Object.entries(host.Tmpfs).toSorted(([a], [b]) => a.length - b.length)
  const tmpfs = sizes.flatMap(([path, how]) => {
    const mib = Number(/size=(\d+)m/.exec(how)?.[1] ?? 16)
    return ['--perms', '0700', '--size', `${mib * 1024 * 1024}`, '--tmpfs', path]
  })
  const environment = (order['Env'] as readonly string[]).flatMap((one) => [
    '--setenv',
    ...one.split(/=(.*)/s).slice(0, 2),
  ])
  const args = [
    ['user', 'pid', 'ipc', 'uts', 'net'].map((namespace) => `--unshare-${namespace}`),
    ['--die-with-parent', '--new-session', '--uid', uid, '--gid', uid, '--clearenv', ...environment],
    ['--ro-bind', root, '/', '--ro-bind', process.execPath, IMAGE.node],
    ['--proc', '/proc', '--dev', '/dev', ...tmpfs, '--chdir', '/', '--seccomp', '3', '--'],
    order['Entrypoint'] as readonly string[],
    order['Cmd'] as readonly string[],
  ].flat()
  const asRoot = process.getuid?.() === 0 ? { uid: Number(uid), gid: Number(uid) } : {}
  const child = spawn('bwrap', args, {
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    env: { PATH: '/usr/bin:/bin' },
    ...asRoot,
  })
  const filter = child.stdio[3] as Writable
  filter.on('error', () => {})
  filter.end(assemble(profileProgram(JSON.parse(profile) as SeccompProfile)))
  child.on('error', () => {})
  return child
}

/** By the init of its namespace, with which all of it goes before the launcher ends; suspended or not. */
function kill(child: ChildProcess): void {
  const [launcher, init] = treeOf(child.pid)
  const first = init ?? launcher
  if (first !== undefined) process.kill(first, 'SIGKILL')
  child.kill('SIGCONT')
  // bubblewrap waits for ever for a first process that was ended before it had said that it is set up.
  const stuck = setTimeout(() => child.kill('SIGKILL'), STUCK_MS)
  child.once('exit', () => clearTimeout(stuck))
}

/** A process and all that descend from it, parents first. */
function treeOf(pid: number | undefined): readonly number[] {
  if (pid === undefined) return []
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
    return [pid, ...children.flatMap(treeOf)]
  } catch {
    return []
  }
}
