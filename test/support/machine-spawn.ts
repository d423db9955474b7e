/**
 * Machines as processes of this computer that come by the machine door: the real first process, supervisor and
 * sandboxes, with a socket that stands in for Fly's. Everything but the hypervisor.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { chmodSync, cpSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { PlatformError } from '../../schema/error.ts'
import { makeId } from '../../schema/id.ts'
import { imagePaths } from '../../schema/machine-image.ts'
import { Secret } from '../../schema/secret.ts'
import { openMachineDoor } from '../../src/http/machine-door.ts'
import { openLinks, type Links } from '../../src/pool/links.ts'
import type { MachineHost } from '../../src/pool/machine-host.ts'
import { orderMachine } from '../../src/pool/machine.ts'
import type { PoolStore } from '../../src/pool/pool-store.ts'
import { imagePlan } from '../../src/sandbox/machine-image.ts'
import { openImageSkills } from '../../src/skill/image-skills.ts'
import { memoryPoolStore } from '../fake/memory-pool-store.ts'
import { makeImageFiles } from './machine-image.ts'
import { fixtureSkill, PUPPET, realClock, silentLog } from './sandbox.ts'
import { scratchDirectory } from './scratch.ts'

export interface SpawnedMachines {
  readonly host: MachineHost
  readonly links: Links
  readonly store: PoolStore
  readonly url: string
  readonly processes: readonly ChildProcess[]
  close(): Promise<void>
}

/** `hinder` may break a request off before or after it was served; `spoil` may take from the image, whose files are given. */
export async function openSpawnedMachines(
  hinder: (path: string) => 'before' | 'after' | undefined = () => undefined,
  spoil: (files: string) => void = () => {},
): Promise<SpawnedMachines> {
  const directory = scratchDirectory('machines', '/var/tmp')
  chmodSync(directory, 0o755)
  const store = memoryPoolStore()
  const links = openLinks({
    store,
    key: new Secret('42'.repeat(32)),
    prove: async (identity, machine) => {
      if (identity !== `token of ${machine.id}`) throw new PlatformError('unauthenticated', 'It is another machine.')
      return { providerId: `p-${machine.id}` }
    },
    planOf: imagePlan,
    clock: realClock,
    log: silentLog,
  })
  const door = openMachineDoor({ links, clock: realClock, log: silentLog })
  const server = createServer((incoming, outgoing) => {
    const trouble = hinder(incoming.url ?? '')
    if (trouble === 'after') outgoing.end = () => outgoing.destroy()
    if (trouble === 'before') incoming.destroy()
    else door(incoming, outgoing)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const files = join(directory, 'image')
  await makeImageFiles(files, PUPPET)
  spoil(files)
  const node = openNode(directory)
  const skills = openImageSkills((skill) => Promise.resolve(fixtureSkill(skill.packages[0]?.name ?? '')))
  const processes: ChildProcess[] = []
  const sockets: (() => void)[] = []
  let count = 0

  async function boot(id: string): Promise<ChildProcess> {
    const place = join(directory, `machine-${(count += 1)}`)
    const socket = `${place}.api`
    const api = createServer((_incoming, outgoing) => outgoing.end(`token of ${id}`))
    await new Promise<void>((resolve) => api.listen(socket, resolve))
    sockets.push(() => api.close())
    const child = spawn(node, [imagePaths({ files, home: place }).bundle('machine')], {
      env: {
        SENMON_MACHINE_URL: url,
        SENMON_MACHINE_ID: id,
        SENMON_MACHINE_HOME: place,
        FLY_API_SOCKET: socket,
        FLY_APP_NAME: 'app',
        FLY_MACHINE_ID: `p-${id}`,
      },
      stdio: ['ignore', 'ignore', process.env['MACHINE_STDERR'] === undefined ? 'ignore' : 'inherit'],
    })
    processes.push(child)
    return child
  }

  const host: MachineHost = {
    name: 'fly',
    probe: async () => ({ ok: true }),
    async open(attempt, lock) {
      const now = realClock.now()
      const id = makeId(
        'mch',
        now,
        Uint8Array.from({ length: 16 }, (_, i) => (count * 7 + i) % 256),
      )
      const jobId = makeId('job', count, new Uint8Array(16))
      const owner = { jobId, fence: attempt.fence, linesUrl: url }
      const deadline = now + 3_600_000
      const machine = orderMachine({ id, pool: 'p', place: 'app', generation: 'g', now }, { owner, deadline })
      await store.add([machine], null)
      const child = await boot(id)
      const gone = new Promise((resolve) => child.once('exit', resolve))
      const opened = await links.expect(
        machine,
        (image) => skills.of(image, lock),
        async (bootId) => (await store.hold(id, owner, bootId, realClock.now())) !== undefined,
        deadline,
      )
      return {
        ...opened,
        lines: skills.answer(opened.lines, (line) => opened.send(line)),
        get unreadBytes() {
          return opened.unreadBytes
        },
        destroy: async () => {
          await opened.destroy()
          // In a pool it is stopped: here it ends because it hears that its job is over.
          await gone
        },
      }
    },
    close: async () => links.close(),
  }
  return {
    host,
    links,
    store,
    url,
    processes,
    async close() {
      links.close()
      server.closeAllConnections()
      server.close()
      for (const close of sockets) close()
      await Promise.all(
        processes.map(async (child) => {
          if (child.exitCode !== null || child.signalCode !== null) return
          const gone = new Promise((resolve) => child.once('exit', resolve))
          child.kill('SIGKILL')
          await gone
        }),
      )
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** The Node that runs us, where every uid can reach it. */
function openNode(directory: string): string {
  const path = join(directory, 'node')
  cpSync(process.execPath, path, { mode: 2 })
  chmodSync(path, 0o755)
  chmodSync(dirname(path), 0o755)
  return path
}
