/**
 * Machines that are processes of this computer: each has a directory for a file system, namespaces of its own (by
 * bubblewrap) for a virtual machine, and a unix socket for `/.fly/api`.
 *
 *     driver: processDriver({ directory, images: { 'repo@sha256:…': { directory, command: ['node', 'main.js'] } } })
 *
 * A guest sees the files of its image as its root, the programs of this computer below /usr read-only, and nobody else's
 * processes. Its network is this computer's. Its environment is what Fly sets (`FLY_MACHINE_ID` …), what its machine's config
 * sets, and
 *   FLY_SIM_BOOT_ID     changes with every boot, and not with a resume, as /proc/sys/kernel/random/boot_id does
 *   FLY_SIM_CLOCK_FILE  a file that says by how many ms the guest's clock is off
 *
 *   FD1 A boot of a clean machine begins with the files of its image; any other with those that it left.
 *   FD2 When its main process ends, so does all that it began, whatever became of groups, parents and environments.
 *   FD3 When the simulator is closed, or its process dies, no process and no file of a machine is left.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, lstatSync, readlinkSync } from 'node:fs'
import { chmod, cp, mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
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
  /** The guest's root, copied for each clean boot. */
  readonly directory: string
  /** Run where the machine's config names none; in the guest's root. */
  readonly command: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Files of this computer that the guest finds, read-only, at the same paths. */
  readonly files?: readonly string[]
}

export interface ProcessDriverOptions {
  /** Made, and removed at the end. Sockets are in it, and their paths may not be long: at most 80 characters. */
  readonly directory: string
  /** By the name that machines ask for. */
  readonly images: Readonly<Record<string, Image>>
  readonly org?: string
}

const KEPT_LINES = 10_000
const STUCK_MS = 1_000
const BWRAP = '/usr/bin/bwrap'
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const ROOTS = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32', '/etc']
/** Descriptor by which bubblewrap says which process is the first of the guest. */
const INFO_FD = 3
/** bubblewrap covers parts of /proc, and the kernel lets nobody mount another in the guest until they are bare. */
const UNCOVER = 'for part in sys sysrq-trigger irq bus; do umount /proc/$part 2>/dev/null; done; exec "$@"'
/** Guests die with the simulator; their files go when the end of its input says that it is no more. */
const GUARD = `trap '' INT TERM HUP
read -r _
until rm -rf -- "$1" 2>/dev/null; do sleep 0.1; done`

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
  /** The pid of its first process, with which all others end; undefined when it never came to be. */
  readonly init: Promise<number | undefined>
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
      env: { PATH },
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
        return signalAll(await guest.init, 'SIGSTOP')
      case 'resume':
        await this.#setClock(effect.machineId, effect.skewMs)
        return signalAll(await guest.init, 'SIGCONT')
      case 'clock':
        return this.#setClock(effect.machineId, effect.skewMs)
      case 'signal':
        return signalMain(await guest.init, signalNamed(effect.signal))
      case 'kill':
        return this.#end(guest)
    }
  }

  #directory(id: string): string {
    return join(this.#options.directory, id)
  }

  #setClock(id: string, skewMs: number): Promise<void> {
    return writeFile(join(this.#directory(id), 'fly', 'clock'), String(skewMs))
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
    await mkdir(join(directory, 'fly'), { recursive: true })
    if (clean) await cp(image.directory, files, { recursive: true })
    await linkRoots(files)
    // Bubblewrap would make the way there for its own user alone.
    for (const path of image.files ?? []) await mkdir(dirname(join(files, path)), { recursive: true })
    await this.#setClock(id, skewMs)
    await this.#openSocket(machine)
    const { registry, repository, digest } = machine.image_ref
    const env = {
      PATH,
      HOME: '/root',
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
      FLY_SIM_BOOT_ID: bootIdOf(id, boot),
      FLY_SIM_CLOCK_FILE: '/.fly/clock',
    }
    const init = config.init ?? {}
    const asked = [...(init.exec ?? init.entrypoint ?? []), ...(init.exec === undefined ? (init.cmd ?? []) : [])]
    const command = asked.length > 0 ? asked : image.command
    const args = [...wallsOf(files, join(directory, 'fly'), image), '--', '/bin/sh', '-c', UNCOVER, 'sh', ...command]
    const child = spawn(BWRAP, args, { cwd: '/', env, detached: true, stdio: ['ignore', 'pipe', 'pipe', 'pipe'] })
    const { promise: ended, resolve } = Promise.withResolvers<void>()
    const guest: Guest = { machine, boot, child, env, init: initOf(child), ended }
    this.#guests.set(id, guest)
    this.#listen(id, child.stdout)
    this.#listen(id, child.stderr)
    let isOver = false
    const over = (code: number, signal: number): void => {
      if (isOver) return
      isOver = true
      if (this.#guests.get(id) === guest) this.#guests.delete(id)
      resolve()
      this.#platform.tell({ type: 'exited', machineId: id, boot, exit: { code, signal, oom: false } })
    }
    child.on('error', () => over(127, 0))
    child.on('exit', (code, signal) => {
      // Bubblewrap says of a signal what a shell would.
      const number = signal === null ? Math.max(0, (code ?? 0) - 128) : constants.signals[signal]
      over(code ?? 128 + number, number)
    })
  }

  async #end(guest: Guest): Promise<void> {
    // The kernel ends all others with the first, and bubblewrap waits for that.
    const init = await guest.init
    if (init !== undefined) send(init, 'SIGKILL')
    // But for ever where that was ended before it had said that it is set up.
    const stuck = setTimeout(() => guest.child.kill('SIGKILL'), STUCK_MS)
    await guest.ended
    clearTimeout(stuck)
  }

  #appOf(id: string): string {
    return this.#platform.appOf(id) ?? ''
  }

  async #openSocket(machine: Machine): Promise<void> {
    const { id } = machine
    if (this.#sockets.has(id)) return
    const path = join(this.#directory(id), 'fly', 'api')
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
          else response.end(this.#identity.token(shown, this.#appOf(id), audience, this.#platform))
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
    // Whether others than root may ask is not known of Fly; here they may.
    await chmod(path, 0o777)
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
    void guest.init.then((init) => {
      if (init === undefined) tell({ exit_code: 127, stdout: '', stderr: 'no guest' })
      else enter(init, guest.env, command, stdin, timeoutMs, tell)
    })
  }
}

/** Runs a command in the guest whose first process is `init`. */
function enter(
  init: number,
  env: Readonly<Record<string, string>>,
  command: readonly string[],
  stdin: string,
  timeoutMs: number,
  tell: (outcome: ExecOutcome) => void,
): void {
  const user = process.getuid?.() === 0 ? [] : ['--user', '--preserve-credentials']
  const args = ['--target', String(init), ...user, '--mount', '--pid', '--root', '--wd', '--', ...command]
  const child = spawn('nsenter', args, { env, detached: true })
  let [stdout, stderr, isLate] = ['', '', false]
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const alarm = setTimeout(() => {
    isLate = true
    if (child.pid !== undefined) send(-child.pid, 'SIGKILL')
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

const isDirectory = (path: string): boolean => existsSync(path) && !lstatSync(path).isSymbolicLink()

/** Links such as /bin, where this computer has them: a boot without a reset finds its own. */
async function linkRoots(files: string): Promise<void> {
  for (const path of ROOTS)
    if (existsSync(path) && !isDirectory(path) && !lstatSync(join(files, path), { throwIfNoEntry: false }))
      await symlink(readlinkSync(path), join(files, path))
}

/** What is the guest's own, and what it sees of this computer. */
function wallsOf(files: string, fly: string, image: Image): readonly string[] {
  const roots = ROOTS.flatMap((path) => (isDirectory(path) ? ['--ro-bind', path, path] : []))
  return [
    ['--unshare-pid', '--unshare-ipc', '--unshare-uts', '--die-with-parent', '--info-fd', String(INFO_FD)],
    // It is root where we are, and shares the kernel: the clock and the power switch are not its own.
    ['--cap-drop', 'CAP_SYS_TIME', '--cap-drop', 'CAP_SYS_BOOT', '--cap-drop', 'CAP_SYS_MODULE'],
    ['--bind', files, '/', ...roots, '--proc', '/proc', '--dev', '/dev', '--bind', fly, '/.fly'],
    (image.files ?? []).flatMap((path) => ['--ro-bind', path, path]),
    ['--chdir', '/'],
  ].flat()
}

async function initOf(child: ChildProcess): Promise<number | undefined> {
  let text = ''
  const info = child.stdio[INFO_FD] as Readable // opened above, for reading
  info.on('error', () => {})
  for await (const part of info) text += String(part)
  const [, pid] = /"child-pid": *(\d+)/.exec(text) ?? []
  return pid === undefined ? undefined : Number(pid)
}

function send(pid: number, signal: NodeJS.Signals | number): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It ended meanwhile.
  }
}

/** Everybody of a guest; looked for again until nobody new has been born meanwhile. */
function signalAll(init: number | undefined, signal: NodeJS.Signals): void {
  const reached = new Set<number>()
  const everybody = (): readonly number[] =>
    init === undefined ? [] : descendants(init, listProcesses()).map(({ pid }) => pid)
  for (let found = everybody(); found.some((pid) => !reached.has(pid)); found = everybody())
    for (const pid of found) {
      reached.add(pid)
      send(pid, signal)
    }
}

/** The first process but bubblewrap's own, which only minds the others. */
function signalMain(init: number | undefined, signal: NodeJS.Signals | number): void {
  const below = listProcesses().filter(({ parent, zombie }) => parent === init && !zombie)
  const main = below.toSorted((a, b) => Number(a.startedAt) - Number(b.startedAt) || a.pid - b.pid)[0]
  if (main !== undefined) send(main.pid, signal)
}
