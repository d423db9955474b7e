/**
 * Machines that are processes of this computer: each has a directory for a file system, a group of processes for a
 * virtual machine, and a unix socket for `/.fly/api`. It is no isolation: it shows what a client and a guest must live with.
 *
 *     driver: processDriver({ directory, images: { 'repo@sha256:…': { directory, command: ['node', 'main.js'] } }, path })
 *
 * A guest's environment is what Fly sets (`FLY_MACHINE_ID` …), what its machine's config sets, and
 *   FLY_API_SOCKET      the socket that is /.fly/api on Fly
 *   FLY_SIM_BOOT_ID     changes with every boot, and not with a resume, as /proc/sys/kernel/random/boot_id does
 *   FLY_SIM_CLOCK_FILE  a file that says by how many ms the guest's clock is off
 *
 *   FD1 A boot of a clean machine begins with the files of its image; any other with those that it left.
 *   FD2 When its main process ends, so does all that it began: by group, by descent, or by the mark in its environment.
 *   FD3 When the simulator is closed, or its process dies, no process and no file of a machine is left.
 *
 * Out of reach, for want of a namespace: a process that left its group, lost its parents and wiped its environment.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { cp, mkdir, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { constants } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { sha256 } from '../../../schema/hash.ts'
import { descendants, listProcesses } from '../../../src/local/processes.ts'
import type { Driver, Platform } from './fly-sim.ts'
import { GuestIdentity } from './guest-identity.ts'
import type { ExecOutcome } from './perform.ts'
import type { Machine } from './shapes.ts'
import type { Effect } from './world.ts'

export interface Image {
  /** Copied for each clean boot. */
  readonly directory: string
  /** Run where the machine's config names none; relative to the copy. */
  readonly command: readonly string[]
  readonly env?: Readonly<Record<string, string>>
}

export interface ProcessDriverOptions {
  /** Made, and removed at the end. Sockets are in it, and their paths may not be long: at most 80 characters. */
  readonly directory: string
  /** By the name that machines ask for. */
  readonly images: Readonly<Record<string, Image>>
  /** The guests' PATH. */
  readonly path: string
  readonly org?: string
}

const KEPT_LINES = 10_000
const MARK = 'FLY_SIM_GUEST'
/** Kills what it was told of and removes the directory, when the end of its input says that the simulator is no more. */
const GUARD = `trap '' INT TERM HUP
groups=' '
while read -r verb group; do
  case $verb in
    add) groups="$groups$group " ;;
    del) groups=$(printf '%s' "$groups" | sed "s/ $group / /") ;;
  esac
done
for group in $groups; do kill -9 -- "-$group" 2>/dev/null; done
grep -lazs "^${MARK}=$1/" /proc/[0-9]*/environ | while read -r file; do
  pid=\${file#/proc/}; kill -9 "\${pid%/environ}" 2>/dev/null
done
rm -rf -- "$1"`

export function processDriver(options: ProcessDriverOptions): (platform: Platform) => Promise<Driver> {
  return async (platform) => {
    await mkdir(options.directory, { recursive: true })
    return new ProcessDriver(options, platform)
  }
}

interface Guest {
  readonly machine: Machine
  readonly boot: number
  readonly child: ChildProcess
  readonly env: Readonly<Record<string, string>>
  readonly ended: Promise<void>
}

class ProcessDriver implements Driver {
  readonly #options: ProcessDriverOptions
  readonly #platform: Platform
  readonly #identity: GuestIdentity
  readonly #guard: ChildProcess
  readonly #guests = new Map<string, Guest>()
  readonly #sockets = new Map<string, Server>()
  /** What is being done for each machine: one thing after another. */
  readonly #queues = new Map<string, Promise<void>>()
  readonly #lines: object[] = []
  #isOpen = true

  constructor(options: ProcessDriverOptions, platform: Platform) {
    this.#options = options
    this.#platform = platform
    this.#identity = new GuestIdentity(options.org ?? 'personal')
    const stdio = ['pipe', 'ignore', 'ignore'] as const
    this.#guard = spawn('sh', ['-c', GUARD, 'guard', options.directory], {
      detached: true,
      stdio: [...stdio],
      env: { PATH: options.path },
    })
    this.#guard.unref()
  }

  logs(): readonly unknown[] {
    return this.#lines
  }

  jwks(): object {
    return this.#identity.jwks()
  }

  act(effect: Effect): void {
    const id = effect.type === 'boot' ? effect.machine.id : effect.machineId
    // A command may take a minute, and nothing waits for it.
    if (effect.type === 'exec') return this.#exec(effect)
    const before = this.#queues.get(id) ?? Promise.resolve()
    const after = before.then(() => this.#carryOut(effect))
    this.#queues.set(
      id,
      after.catch((error: unknown) => this.#keepLine(id, `simulator: ${String(error)}`)),
    )
  }

  async close(): Promise<void> {
    this.#isOpen = false
    await Promise.all(this.#queues.values())
    await Promise.all([...this.#guests.values()].map((guest) => this.#end(guest)))
    await Promise.all([...this.#sockets.keys()].map((id) => this.#closeSocket(id)))
    const isDone = once(this.#guard, 'exit')
    this.#guard.stdin?.end()
    await isDone
  }

  async #carryOut(effect: Exclude<Effect, { type: 'exec' }>): Promise<void> {
    if (effect.type === 'boot') {
      if (this.#isOpen) await this.#boot(effect)
      return
    }
    const guest = this.#guests.get(effect.machineId)
    if (effect.type === 'discard') {
      if (guest !== undefined) await this.#end(guest)
      await this.#closeSocket(effect.machineId)
      await rm(this.#directory(effect.machineId), { recursive: true, force: true })
      this.#queues.delete(effect.machineId)
      return
    }
    if (guest?.boot !== effect.boot) return
    switch (effect.type) {
      case 'freeze':
      case 'hang':
        return signalAll(guest, 'SIGSTOP')
      case 'resume':
        await this.#setClock(effect.machineId, effect.skewMs)
        return signalAll(guest, 'SIGCONT')
      case 'clock':
        return this.#setClock(effect.machineId, effect.skewMs)
      case 'signal':
        guest.child.kill(signalNamed(effect.signal))
        return
      case 'kill':
        return this.#end(guest)
    }
  }

  #directory(id: string): string {
    return join(this.#options.directory, id)
  }

  #setClock(id: string, skewMs: number): Promise<void> {
    return writeFile(join(this.#directory(id), 'clock'), String(skewMs))
  }

  async #boot({ machine, boot, clean, skewMs }: Extract<Effect, { type: 'boot' }>): Promise<void> {
    const { id } = machine
    const before = this.#guests.get(id)
    if (before !== undefined) await this.#end(before)
    const directory = this.#directory(id)
    const files = join(directory, 'rootfs')
    const config = machine.config ?? { image: '' }
    const image = this.#options.images[config.image]
    const exit = (code: number): void =>
      this.#platform.tell({ type: 'exited', machineId: id, boot, exit: { code, signal: 0, oom: false } })
    if (image === undefined) return exit(127)
    if (clean) await rm(files, { recursive: true, force: true })
    await mkdir(files, { recursive: true })
    if (clean) await cp(image.directory, files, { recursive: true })
    await this.#setClock(id, skewMs)
    await this.#openSocket(machine)
    const { registry, repository, digest } = machine.image_ref
    const env = {
      PATH: this.#options.path,
      HOME: files,
      ...image.env,
      ...config.env,
      FLY_APP_NAME: this.#appOf(id),
      FLY_MACHINE_ID: id,
      FLY_ALLOC_ID: id,
      FLY_REGION: machine.region,
      PRIMARY_REGION: machine.region,
      FLY_PUBLIC_IP: machine.private_ip,
      FLY_PRIVATE_IP: machine.private_ip,
      FLY_IMAGE_REF: `${registry}/${repository}@${digest}`,
      FLY_MACHINE_VERSION: machine.instance_id,
      FLY_PROCESS_GROUP: 'app',
      FLY_VM_MEMORY_MB: String(config.guest?.memory_mb ?? 256),
      FLY_API_SOCKET: join(directory, 'api'),
      FLY_SIM_BOOT_ID: bootIdOf(id, boot),
      FLY_SIM_CLOCK_FILE: join(directory, 'clock'),
      [MARK]: `${directory}/${boot}`,
    }
    const init = config.init ?? {}
    const asked = [...(init.exec ?? init.entrypoint ?? []), ...(init.exec === undefined ? (init.cmd ?? []) : [])]
    const [command = 'false', ...args] = asked.length > 0 ? asked : image.command
    const child = spawn(command, args, { cwd: files, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
    const { promise: ended, resolve } = Promise.withResolvers<void>()
    const guest: Guest = { machine, boot, child, env, ended }
    this.#guests.set(id, guest)
    if (child.pid !== undefined) this.#guard.stdin?.write(`add ${child.pid}\n`)
    this.#listen(id, child.stdout)
    this.#listen(id, child.stderr)
    let isOver = false
    const over = (code: number, signal: number): void => {
      if (isOver) return
      isOver = true
      signalAll(guest, 'SIGKILL')
      if (child.pid !== undefined) this.#guard.stdin?.write(`del ${child.pid}\n`)
      if (this.#guests.get(id) === guest) this.#guests.delete(id)
      resolve()
      this.#platform.tell({ type: 'exited', machineId: id, boot, exit: { code, signal, oom: false } })
    }
    child.on('error', () => over(127, 0))
    child.on('exit', (code, signal) => {
      const number = signal === null ? 0 : constants.signals[signal]
      over(code ?? 128 + number, number)
    })
  }

  async #end(guest: Guest): Promise<void> {
    // Again and again: whoever was about to be born at the first look is there at the next.
    signalAll(guest, 'SIGKILL')
    await guest.ended
    signalAll(guest, 'SIGKILL')
  }

  #appOf(id: string): string {
    return this.#platform.appOf(id) ?? ''
  }

  async #openSocket(machine: Machine): Promise<void> {
    const { id } = machine
    if (this.#sockets.has(id)) return
    const path = join(this.#directory(id), 'api')
    await rm(path, { force: true })
    const server = createServer((request, response) => {
      let body = ''
      request.setEncoding('utf8').on('data', (text: string) => (body += text))
      request.on('end', () => {
        const path = request.url ?? '/'
        if (path === '/v1/tokens/oidc') {
          const shown = this.#platform.show(id)
          const audience = audienceIn(body)
          if (shown === undefined || audience === undefined) response.writeHead(400).end('aud is required')
          else response.end(this.#identity.token(shown, this.#appOf(id), audience, this.#platform.now()))
          return
        }
        const nonce = request.headers['fly-machine-lease-nonce']?.toString()
        const call = { method: request.method ?? 'GET', path, body, authorization: undefined, nonce, by: id }
        void this.#platform.call(call).then(({ status, body: said }) => {
          if (status === 0) request.socket.destroy()
          else response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(said))
        })
      })
    })
    this.#sockets.set(id, server)
    server.listen(path)
    await once(server, 'listening')
  }

  async #closeSocket(id: string): Promise<void> {
    const server = this.#sockets.get(id)
    if (server === undefined) return
    this.#sockets.delete(id)
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }

  /** Lossy on purpose: a line may be lost, or come after the next (F14). */
  #listen(id: string, stream: Readable | null): void {
    if (stream === null) return
    let late: string | undefined
    createInterface({ input: stream }).on('line', (line) => {
      const as = (wanted: 'lost' | 'reordered') =>
        this.#platform.strike('F14', id, (rule) => rule.fault === 'F14' && rule.as === wanted) !== undefined
      if (as('lost')) return
      if (late === undefined && as('reordered')) {
        late = line
        return
      }
      this.#keepLine(id, line)
      if (late !== undefined) this.#keepLine(id, late)
      late = undefined
    })
  }

  #keepLine(id: string, message: string): void {
    const shown = this.#platform.show(id)
    this.#lines.push({
      event: { provider: 'app' },
      fly: { app: { instance: id, name: this.#appOf(id) }, region: shown?.region ?? '' },
      host: 'sim',
      log: { level: 'info' },
      message,
      timestamp: new Date(this.#platform.now()).toISOString(),
    })
    if (this.#lines.length > KEPT_LINES) this.#lines.shift()
  }

  #exec({ machineId, id, command, stdin, timeoutMs }: Extract<Effect, { type: 'exec' }>): void {
    const guest = this.#guests.get(machineId)
    const tell = (outcome: ExecOutcome): void => this.#platform.tell({ type: 'executed', id, outcome })
    if (guest === undefined) return tell({ exit_code: 127, stdout: '', stderr: 'no guest' })
    const [name = 'false', ...args] = command
    const cwd = join(this.#directory(machineId), 'rootfs')
    const child = spawn(name, args, { cwd, env: guest.env, detached: true })
    let [stdout, stderr, isLate] = ['', '', false]
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    const alarm = setTimeout(() => {
      isLate = true
      child.kill('SIGKILL')
    }, timeoutMs)
    child.on('error', (error) => (stderr += String(error)))
    child.on('close', (code, signal) => {
      clearTimeout(alarm)
      const exit_signal = signal === null ? {} : { exit_signal: constants.signals[signal] }
      tell(isLate ? { timedOut: true } : { exit_code: code ?? -1, ...exit_signal, stdout, stderr })
    })
    child.stdin.on('error', () => {})
    child.stdin.end(stdin)
  }
}

/** Shaped like a boot id of Linux. */
function bootIdOf(machineId: string, boot: number): string {
  const digits = sha256(`${machineId} ${boot}`)
  return [8, 4, 4, 4, 12].map((length, i, all) => digits.slice(sum(all.slice(0, i))).slice(0, length)).join('-')
}
const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0)

function audienceIn(body: string): string | undefined {
  try {
    const json: unknown = JSON.parse(body)
    return typeof json === 'object' && json !== null && 'aud' in json && typeof json.aud === 'string'
      ? json.aud
      : undefined
  } catch {
    return undefined
  }
}

function signalNamed(name: string): NodeJS.Signals | number {
  if (/^\d+$/.test(name)) return Number(name)
  const full = name.startsWith('SIG') ? name : `SIG${name}`
  return full in constants.signals ? (full as NodeJS.Signals) : 'SIGINT'
}

/** Everybody of a machine, as far as this computer can tell; looked for again until nobody new has been born meanwhile. */
function signalAll(guest: Guest, signal: NodeJS.Signals): void {
  const reached = new Set<number>()
  for (let found = everybody(guest); found.some((pid) => !reached.has(pid)); found = everybody(guest))
    for (const pid of found) {
      reached.add(pid)
      try {
        process.kill(pid, signal)
      } catch {
        // It ended meanwhile.
      }
    }
}

function everybody({ child, env }: Guest): readonly number[] {
  if (child.pid === undefined) return []
  const processes = listProcesses().filter(({ zombie }) => !zombie)
  const inGroup = processes.filter(({ group, session }) => group === child.pid || session === child.pid)
  const below = child.exitCode === null && child.signalCode === null ? descendants(child.pid, processes) : []
  const mark = `${MARK}=${env[MARK]}\0`
  const marked = processes.filter(({ pid }) => environOf(pid).includes(mark))
  return [...inGroup, ...below, ...marked].map(({ pid }) => pid)
}

function environOf(pid: number): string {
  try {
    return `${readFileSync(`/proc/${pid}/environ`, 'utf8')}\0`
  } catch {
    return ''
  }
}
