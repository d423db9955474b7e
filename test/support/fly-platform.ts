/**
 * A platform on Fly, whole but for Fly: the Machines API simulated, each machine the real image's processes behind walls of
 * its own, servers as processes on one Postgres. What a server is told is what an operator would tell it.
 */
import { mkdirSync, chmodSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { IMAGE as PLACES, imagePaths } from '../../schema/machine-image.ts'
import { openFlySim, type FlySim, type FlySimOptions } from '../fake/fly-sim/fly-sim.ts'
import { processDriver } from '../fake/fly-sim/process-driver.ts'
import { databaseUrl, openTestDatabase, realClock, type TestDatabase } from './database.ts'
import { freePort } from './free-port.ts'
import { makeImageFiles } from './machine-image.ts'
import { startLightly, type Platform } from './platform.ts'
import { runProgram } from './program.ts'
import { ROOT } from './source.ts'
import { scratchDirectory } from './scratch.ts'

/** The app of machines. */
export const APP = 'machines'
const ORG = 'personal'
const IMAGE = `registry.fly.io/${APP}@sha256:${'5e'.repeat(32)}`

export interface FlyPlatform {
  readonly sim: FlySim
  readonly database: TestDatabase
  /** A server more; the same data directory and database for all. Machines come to any of those that live. */
  start(env?: Readonly<Record<string, string>>): Promise<Platform>
  /** `probe` of the server's program, with the settings of a server: its exit code, and what it says. */
  probe(env?: Readonly<Record<string, string>>): Promise<{ readonly code: number | null; readonly said: unknown }>
  /** Those that live. */
  servers(): readonly Platform[]
  /** Ends everything; servers first. */
  close(): Promise<void>
}

/** What goes wrong at Fly may go wrong with this as well: one fault in some seeds, never so many. */
async function makeApp(sim: FlySim): Promise<void> {
  for (let tries = 0; tries < 20; tries++) {
    const { status } = await sim.call('POST', '/v1/apps', { app_name: APP, org_slug: ORG })
    // Or its answer was lost, and now the name is taken.
    if (status === 201 || status === 422) return
  }
  throw new Error('the simulator makes no app')
}

export async function openFlyPlatform(options: Omit<FlySimOptions, 'clock' | 'driver'>): Promise<FlyPlatform> {
  // Guests run as others than root, who must find their way.
  const directory = scratchDirectory('fly', '/var/tmp')
  chmodSync(directory, 0o755)
  const root = join(directory, 'image')
  // Every image has a /tmp, and bubblewrap begins a compartment on it.
  for (const path of [PLACES.home, '/tmp']) mkdirSync(join(root, path), { recursive: true })
  await makeImageFiles(join(root, PLACES.files))
  const command = [process.execPath, '--max-old-space-size=256', imagePaths(PLACES).bundle('machine')]
  const image = { directory: root, command, files: [process.execPath] }
  const sim = await openFlySim({
    ...options,
    clock: { type: 'real', now: () => realClock.now() },
    driver: processDriver({ directory: join(directory, 'machines'), images: { [IMAGE]: image }, org: ORG }),
  })
  await makeApp(sim)
  const database = await openTestDatabase()
  const started: { readonly platform: Platform; readonly port: number }[] = []
  const living = () => started.filter(({ platform: { child } }) => child.exitCode === null && child.signalCode === null)
  const servers = (): readonly Platform[] => living().map(({ platform }) => platform)
  const balancer = await openBalancer(() => living().map(({ port }) => port))
  const settings = (port: number, publicUrl: string): Record<string, string> => ({
    SENMON_PORT: String(port),
    SENMON_MACHINES: 'fly',
    SENMON_MACHINE_URL: `http://127.0.0.1:${port}`,
    SENMON_PUBLIC_URL: publicUrl,
    FLY_FLAPS_BASE_URL: sim.url,
    FLY_API_TOKEN: sim.deployToken(APP),
    FLY_APP_NAME: APP,
    FLY_ORG: ORG,
    SENMON_FLY_ISSUER: sim.issuer,
    SENMON_FLY_IMAGE: IMAGE,
    SENMON_FLY_REGIONS: 'iad,ord',
    SENMON_MASTER_KEY: '42'.repeat(32),
    DATABASE_URL: databaseUrl(database),
  })
  return {
    sim,
    database,
    servers,
    async start(env = {}) {
      const port = await freePort()
      const platform = await startLightly({
        directory: join(directory, 'data'),
        env: { ...settings(port, balancer.url), ...env },
      })
      started.push({ platform, port })
      return platform
    },
    async probe(env = {}) {
      const port = await freePort()
      const own = { PATH: process.env['PATH'] ?? '', SENMON_DATA_DIR: join(directory, 'probe') }
      const all = { ...own, ...settings(port, `http://127.0.0.1:${port}`), ...env }
      const { code, stdout } = await runProgram(process.execPath, [join(ROOT, 'src/main.ts'), 'probe'], { env: all })
      return { code, said: JSON.parse(stdout) as unknown }
    },
    async close() {
      await Promise.all(servers().map((platform) => platform.stop()))
      await sim.close()
      await balancer.close()
      await database.close()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/** What stands before servers in the world: each connection goes to the next one that lives, and ends with it. */
async function openBalancer(ports: () => readonly number[]): Promise<{ url: string; close(): Promise<void> }> {
  const open = new Set<Socket>()
  let turn = 0
  const balancer = createServer((outside) => {
    const all = ports()
    const port = all[(turn += 1) % Math.max(1, all.length)]
    if (port === undefined) {
      outside.destroy()
      return
    }
    const inside = connect(port, '127.0.0.1')
    for (const [socket, other] of [
      [outside, inside],
      [inside, outside],
    ] as const) {
      open.add(socket)
      socket
        .on('error', () => {})
        .on('close', () => {
          open.delete(socket)
          other.destroy()
        })
      socket.pipe(other)
    }
  })
  await new Promise<void>((resolve) => balancer.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(balancer.address() as AddressInfo).port}`,
    async close() {
      for (const socket of open) socket.destroy()
      await new Promise((resolve) => balancer.close(resolve))
    },
  }
}
