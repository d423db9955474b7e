/**
 * The platform in one process: reads the environment, the clock and chance, opens every part in order, and closes
 * them in the other. `start` serves until told to stop; `probe` says what would run machines here, as one JSON line.
 */
import { createHmac, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import { hostname } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openInstaller } from '../registry/installer.ts'
import { openRegistry } from '../registry/registry.ts'
import type { Chance, Clock } from '../schema/clock.ts'
import { PlatformError, refuse } from '../schema/error.ts'
import { makeId } from '../schema/id.ts'
import type { LockedStdioSkill } from '../schema/lock.ts'
import { Networks } from '../schema/network.ts'
import { Secret } from '../schema/secret.ts'
import { isOperator, OPERATOR, openApplications, type Applications } from './application/applications.ts'
import { parseConfig, strangeSettings, type Config, type FlyConfig } from './config.ts'
import { openDiskContentStore } from './disk/disk-content-store.ts'
import { openMasterKey, readDevKey, writeDevKey } from './disk/key-files.ts'
import { CONTAINER_LIMITS } from './docker/container.ts'
import { openDockerProvider } from './docker/docker-provider.ts'
import { openNamedEngine } from './docker/engines.ts'
import { openFlyIdentity } from './fly/fly-identity.ts'
import { probeFly } from './fly/fly-probe.ts'
import { machineConfig, openFlyProvider, type FlyProviderOptions } from './fly/fly-provider.ts'
import { openMachinesClient } from './fly/machines-client.ts'
import { parseModelTable, type ModelTable } from './gateway/price.ts'
import { openGateway } from './gateway/models.ts'
import { schema } from './graphql/schema.ts'
import { isMachinePath, openMachineDoor } from './http/machine-door.ts'
import { openServer } from './http/server.ts'
import { openBundles } from './job/bundles.ts'
import { openForks, type Forks } from './job/forks.ts'
import { openDeadlines } from './job/deadlines.ts'
import { openJobs, type Jobs } from './job/jobs.ts'
import { openPrompts } from './job/prompts.ts'
import { openSandboxProvider } from './local/sandbox-provider.ts'
import { openUnsafeProcessProvider } from './local/unsafe-process-provider.ts'
import { openLog } from './log.ts'
import { openNpmExpertSource } from './npm/npm-expert-source.ts'
import { openNpmSkillSource } from './npm/npm-skill-source.ts'
import { publishDirectory, readManifest } from './npm/package-publisher.ts'
import { attemptLimits, openAttempts } from './attempt/attempts.ts'
import type { ProbeResult } from './pool/machine-host.ts'
import { openLinks, type Links, type LinksDependencies } from './pool/links.ts'
import type { MachineProvider } from './pool/machine-provider.ts'
import { machinesLimits } from './pool/machines.ts'
import { poolPolicy } from './pool/plan.ts'
import { openPoolReports, openPoolViews } from './pool/pool-reports.ts'
import { openPool } from './pool/pools.ts'
import { roundsLimits } from './pool/rounds.ts'
import { listingLimits, openToolListings, type ToolListings } from './attempt/tool-listings.ts'
import { openDatabase } from './postgres/database.ts'
import { postgresApplicationStore } from './postgres/postgres-application-store.ts'
import { PostgresJobLog } from './postgres/postgres-job-log.ts'
import { postgresPoolReportStore } from './postgres/postgres-pool-report-store.ts'
import { postgresPoolStore } from './postgres/postgres-pool-store.ts'
import { postgresPackageStore } from './postgres/postgres-package-store.ts'
import { postgresTurnStore } from './postgres/postgres-turn-store.ts'
import { postgresSecretStore } from './postgres/postgres-secret-store.ts'
import { isAlive, startOf } from './postgres/process-life.ts'
import { openLoneRow, tryMachine, type TrialResult } from './pool/trial.ts'
import { openTurns, type TurnStore } from './pool/turns.ts'
import { imagePlan } from './sandbox/machine-image.ts'
import { openSecrets } from './secret/secrets.ts'
import { openWorkspaces } from './workspace/workspaces.ts'

const clock: Clock = {
  now: () => Date.now(),
  sleep: async (ms, signal) => {
    try {
      await sleep(ms, undefined, signal === undefined ? {} : { signal })
    } catch (error) {
      throw signal?.aborted === true ? signal.reason : error
    }
  },
}
const chance: Chance = { bytes: (count) => new Uint8Array(randomBytes(count)) }
const log = openLog(
  (line) => process.stderr.write(line),
  () => clock.now(),
)

/** The application that a laptop's user works as, and the one that owns the skills which come with the platform. */
const DEV = 'dev'
const OWN = 'senmon'
/** Skills of this checkout, published at first start. */
const OWN_PACKAGES = ['files', 'shell', 'ask'].map((name) => join(import.meta.dirname, '../plugins', name))

/** Machines that list the tools of skills which are being published, beside those of jobs. */
const LISTINGS_MAX = 4

const LIMITS = {
  queryBytesMax: 256 * 1024,
  filesMax: 1000,
  fileBytesMax: 8 * 1024 * 1024,
  filesBytesMax: 12 * 1024 * 1024,
  /** Renewed at a third of it, so that two lost renewals do not lose the job. */
  leaseMs: 15_000,
  barrenAttemptsMax: 5,
  conflictRetriesMax: 20,
}

/** Our table of models, and what the operator's says in place of it. Throws `config_invalid` with every fault of a table. */
async function readModelTable(pricesFile: string | null): Promise<ModelTable> {
  const files = [join(import.meta.dirname, 'gateway/prices.toml'), ...(pricesFile === null ? [] : [pricesFile])]
  const tables = await Promise.all(
    files.map(async (file) => {
      const text = await readFile(file, 'utf8').catch((cause: unknown) => {
        throw new PlatformError('config_invalid', `The table of prices ${file} cannot be read.`, { cause })
      })
      const table = parseModelTable(text, file)
      if ('prices' in table) return table
      throw new PlatformError('config_invalid', table.map(({ message }) => message).join(' '))
    }),
  )
  // Later rows stand in place of earlier ones.
  const prices = tables.reduce((all, table) => ({ ...all, ...table.prices }), {})
  const windows = tables.reduce((all, table) => ({ ...all, ...table.windows }), {})
  return { prices, windows }
}

/** What opened, to be closed in the other order. */
class Opened {
  readonly #closers: (() => Promise<void>)[] = []

  keep<Part extends { close(): Promise<void> }>(part: Part): Part {
    this.#closers.push(() => part.close())
    return part
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0).toReversed()) {
      await close().catch((error: unknown) => log.error('A part did not close cleanly.', { error }))
    }
  }
}

/** The provider of machines that the configuration names, or the strongest that passes its probe; and why there is none. */
async function chooseProvider(
  config: Config,
  runtimeDirectory: string,
  install: (skill: LockedStdioSkill) => Promise<string>,
  holder: string,
): Promise<{ readonly provider: MachineProvider; readonly probe: ProbeResult }> {
  const { machineLimits } = config
  const options = { install, runtimeDirectory, execPath: process.execPath, log, clock, machineLimits, heaps: true }
  const openers = {
    local: () => openSandboxProvider(options, holder),
    docker: () => openDocker(config, install, holder),
    'unsafe-process': () => openUnsafeProcessProvider(options, holder),
  }
  const strongest = process.platform === 'linux' ? (['local', 'docker'] as const) : (['docker', 'local'] as const)
  const names = config.machines === null || config.machines === 'fly' ? strongest : [config.machines]
  let first: { readonly provider: MachineProvider; readonly probe: ProbeResult } | undefined
  for (const name of names) {
    const provider = await openers[name]()
    const found = { provider, probe: await provider.probe() }
    if (!found.probe.ok && first === undefined) {
      first = found
      continue
    }
    if (!found.probe.ok) await provider.close()
    else {
      await first?.provider.close()
      return found
    }
  }
  if (first === undefined) throw new PlatformError('machine_host_missing', 'No host of machines is named.')
  return first
}

/** Fly Machines, and what they come by. */
function openFly(
  config: Config,
  fly: FlyConfig,
  parts: Pick<LinksDependencies, 'store'> &
    Pick<FlyProviderOptions, 'install'> & { readonly masterKey: Secret; readonly turns: TurnStore },
): { readonly links: Links; readonly provider: MachineProvider } {
  // Any process answers a machine without a job: a proxy before all of them is as good, and outlives each.
  const machineUrl = config.publicUrl ?? fly.machineUrl
  const key = new Secret(
    createHmac('sha256', Buffer.from(parts.masterKey.reveal(), 'hex')).update('secrets of machines').digest('hex'),
  )
  const prove = openFlyIdentity({
    issuer: fly.issuer,
    keysUrl: `${fly.issuer}/.well-known/jwks`,
    audience: machineUrl,
    imageDigest: fly.image.slice(fly.image.indexOf('@') + 1),
    clock,
  })
  const links = openLinks({ store: parts.store, key, prove, planOf: imagePlan, clock, log })
  const client = openMachinesClient({ baseUrl: fly.baseUrl, token: fly.token, turns: parts.turns, clock, log })
  const provider = openFlyProvider({ ...fly, client, links, machineUrl, install: parts.install, clock })
  return { links, provider }
}

async function openDocker(
  config: Config,
  install: (skill: LockedStdioSkill) => Promise<string>,
  place: string,
): Promise<MachineProvider> {
  const { HOME, XDG_RUNTIME_DIR } = process.env
  const surroundings = { platform: process.platform, home: HOME, runtimeDirectory: XDG_RUNTIME_DIR }
  return await openDockerProvider({
    ...config.docker,
    limits: { ...CONTAINER_LIMITS, ...config.machineLimits },
    engine: await openNamedEngine(config.docker, surroundings, clock),
    place,
    isDead: predecessorIsDead,
    install,
    clock,
    log,
  })
}

/**
 * Where machines find what they need. Root runs each machine under a uid of its own, which must be able to get
 * there, so it is outside of any home; several servers share it, since everything in it is named by its content.
 */
function runtimeDirectoryOf(dataDirectory: string): string {
  return process.getuid?.() === 0 ? '/var/lib/senmon' : join(dataDirectory, 'runtime')
}

/** The key of the first application: the file's while it is good, else a new one. */
async function openDevKey(applications: Applications, dataDirectory: string): Promise<Secret> {
  const kept = await readDevKey(dataDirectory)
  const caller = kept === undefined ? undefined : await applications.authenticate(kept.reveal())
  if (kept !== undefined && caller?.application.name === DEV && isOperator(caller)) return kept
  const fresh = await applications.createKey((await applications.ensure(DEV)).id, OPERATOR)
  await writeDevKey(dataDirectory, fresh)
  return fresh
}

/** Who this process is among all that may claim jobs, so that a later one can tell whether it still lives. */
async function nameHolder(): Promise<string> {
  return JSON.stringify([hostname(), process.pid, await startOf(process.pid)])
}

/** True only for a process of this computer that is certainly gone; its leases need not be waited out. */
async function predecessorIsDead(holder: string): Promise<boolean> {
  const [host, pid, start] = JSON.parse(holder) as [string, number, string | null]
  return host === hostname() && !(await isAlive(pid, start))
}

/** Without a sandbox a published expert does not run: creating, continuing or forking its job is refused, all else works. */
function guardVerbs(jobs: Jobs, forks: Forks, missing: () => string | null): { jobs: Jobs; forks: Forks } {
  const guard = async <Result>(go: () => Promise<Result>) => {
    const reason = missing()
    return reason === null ? go() : refuse('machine_host_missing', reason)
  }
  const guarded: Jobs = {
    ...jobs,
    create: (applicationId, input) => guard(() => jobs.create(applicationId, input)),
    continue: (applicationId, input) => guard(() => jobs.continue(applicationId, input)),
  }
  return { jobs: guarded, forks: { fork: (applicationId, input) => guard(() => forks.fork(applicationId, input)) } }
}

async function start(config: Config): Promise<void> {
  for (const words of strangeSettings(process.env)) log.warn(words)
  const opened = new Opened()
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())
  try {
    await serve(config, opened)
    if (!stop.signal.aborted) await once(stop.signal, 'abort')
    log.info('Stopping.')
  } finally {
    await opened.close()
  }
}

/** Resolves to the master key. Throws config_invalid for a directory that cannot be used. */
async function openDataDirectory({ dataDirectory, masterKey }: Config): Promise<Secret> {
  try {
    await mkdir(dataDirectory, { recursive: true, mode: 0o700 })
    return masterKey ?? (await openMasterKey(dataDirectory, chance.bytes(32)))
  } catch (cause) {
    if (!(cause instanceof Error) || !('syscall' in cause)) throw cause
    const words = `The data directory ${dataDirectory} cannot be used (${cause.message}); set SENMON_DATA_DIR to another.`
    throw new PlatformError('config_invalid', words, { cause })
  }
}

async function serve(config: Config, opened: Opened): Promise<void> {
  const { dataDirectory } = config
  const masterKey = await openDataDirectory(config)
  const database = opened.keep(await openDatabase({ databaseUrl: config.databaseUrl, dataDirectory, log, clock }))
  const content = await openDiskContentStore(join(dataDirectory, 'content'))
  const applications = openApplications({ store: postgresApplicationStore(database, clock), clock, chance })
  const secrets = openSecrets({
    store: postgresSecretStore(database, clock),
    masterKey: Buffer.from(masterKey.reveal(), 'hex'),
    clock,
    chance,
  })
  const packages = postgresPackageStore(database, clock)
  const experts = openNpmExpertSource({ packages, content })
  const dev = await applications.ensure(DEV)
  const gateway = openGateway({
    experts,
    keyOf: async (applicationId, name) =>
      (await secrets.find(applicationId, name)) ?? (applicationId === dev.id ? config.providerKeys[name] : undefined),
    baseUrls: config.baseUrls,
    ...(await readModelTable(config.pricesFile)),
    clock,
    chance,
    log,
  })
  const networks = new Networks(config.skillNetworks)
  let hostMissing: string | null = 'this process has not yet looked for a sandbox; try again in a moment'
  let listSkill: ToolListings['list'] = async () => ({ unlisted: hostMissing ?? 'this server runs no machines' })
  const jobLog = new PostgresJobLog(database, clock)
  const limits = { ...LIMITS, quota: config.jobsPerApplication }
  const stores = { log: jobLog, content, models: gateway, clock, chance, limits }
  const { jobs, forks } = guardVerbs(
    openJobs({ ...stores, experts }),
    openForks({ ...stores, experts }),
    () => hostMissing,
  )
  const poolReports = postgresPoolReportStore(database, clock)
  const registry = opened.keep(
    await openRegistry({
      directory: join(dataDirectory, 'registry'),
      packages,
      content,
      authenticate: async (token) => {
        const caller = await applications.authenticate(token)
        if (caller === undefined) return undefined
        const { id, name } = caller.application
        return { applicationId: id, name, scopes: caller.scopes }
      },
      lister: { list: (skill) => listSkill(skill) },
      own: (await applications.ensure(OWN)).id,
      prefix: '/npm/',
      log,
      clock,
      chance,
    }),
  )
  const registryListener: RequestListener = (request, response) => registry.listener(request, response)

  const runtimeDirectory = runtimeDirectoryOf(dataDirectory)
  const installer = openInstaller({ directory: join(runtimeDirectory, 'skills'), content, packages, clock })
  opened.keep(installer.startSweeping())
  const install = (skill: LockedStdioSkill) => installer.install(skill)
  const poolStore = postgresPoolStore(database, clock)
  const fly =
    config.fly === null
      ? null
      : openFly(config, config.fly, { store: poolStore, turns: postgresTurnStore(database), masterKey, install })
  let notReady: string | null = 'starting'
  const server = opened.keep(
    await openServer({
      schema,
      jobs,
      forks,
      bundles: openBundles({ log: jobLog, content, clock }),
      prompts: openPrompts({ content }),
      applications,
      secrets,
      experts,
      skills: openNpmSkillSource(packages),
      workspaces: openWorkspaces({ content }),
      pools: openPoolViews(poolReports, clock),
      registryListener,
      machineDoor: fly === null ? null : openMachineDoor({ links: fly.links, clock, log }),
      ready: async () => {
        if (notReady === null) await database.sql.query('select 1')
        return notReady
      },
      log,
      clock,
      chance,
      hostname: config.hostname,
      port: config.port,
      allowedHosts: config.publicUrl === null ? [] : [new URL(config.publicUrl).hostname],
    }),
  )
  opened.keep(openDeadlines({ jobs, clock, log }))
  await openDevKey(applications, dataDirectory)
  await publishOwn(
    applications,
    `${server.url}/npm/`,
    async (name, version) => (await packages.find(name))?.versions.some((known) => known.version === version) === true,
  )

  let machines = 'none: this process only accepts jobs'
  if (config.concurrency === 0) hostMissing = null
  else {
    const holder = await nameHolder()
    const { provider, probe } =
      fly === null
        ? await chooseProvider(config, runtimeDirectory, install, holder)
        : { provider: fly.provider, probe: await fly.provider.probe() }
    const machinesMax = config.fly?.machinesMax ?? config.concurrency + config.ready + LISTINGS_MAX
    // One who does not answer now is no reason to refuse jobs: they wait, as they do when it happens later.
    if (!probe.ok && probe.mayPass) log.warn('Nobody can say yet whether machines come.', { reason: probe.reason })
    if (probe.ok || probe.mayPass) {
      hostMissing = null
      const host = opened.keep(
        openPool({
          pool: provider.name,
          holder,
          store: poolStore,
          provider,
          policy: {
            ...poolPolicy,
            readyMin: config.ready,
            // What comes on top with the demand is taken back: nobody asked for a computer full of idle sandboxes.
            readyMax: config.ready === 0 ? 0 : Math.max(config.ready, Math.ceil(config.concurrency / 2)),
            machinesMax,
          },
          demand: () => jobs.demand(),
          isDead: predecessorIsDead,
          // A listing's machine has no job, and ends with its process.
          isOver: async ({ jobId, fence }) => {
            const stored = await jobLog.find(jobId)
            return stored !== undefined && stored.lease?.fence !== fence
          },
          linesUrl: config.fly?.machineUrl ?? null,
          clock,
          chance,
          log,
          limits: {
            machines: { ...machinesLimits, machinesMax },
            rounds: roundsLimits,
          },
        }),
      )
      machines = host.name
      opened.keep(openPoolReports({ holder, explain: () => host.explain(), store: poolReports, clock, log }))
      const listings = openToolListings({ host, networks, clock, chance, log, limits: listingLimits })
      listSkill = (skill) => listings.list(skill)
      opened.keep(
        openAttempts({
          jobs,
          host: {
            ...host,
            async open(owner, lock, signal) {
              const machine = await host.open(owner, lock, signal)
              installer.keep(lock, machine.ended)
              return machine
            },
          },
          gateway,
          secrets,
          networks,
          content,
          clock,
          log,
          holder,
          predecessorIsDead,
          jobLog,
          limits: { ...attemptLimits, concurrent: config.concurrency, renewMs: LIMITS.leaseMs / 3 },
        }),
      )
    } else {
      opened.keep(provider)
      hostMissing = `No sandbox works here, so published experts are not run: ${probe.reason} ${probe.fix}`
      machines = `NONE. ${hostMissing}`
      log.error('Published experts will not be run: no sandbox works here.', { reason: probe.reason, fix: probe.fix })
    }
  }
  notReady = null
  greet(config, server.url, database.kind, machines)
}

/** Makes a key only when there is something to publish: a start must not leave one more revoked key each time. */
async function publishOwn(
  applications: Applications,
  registryUrl: string,
  exists: (name: string, version: string) => Promise<boolean>,
): Promise<void> {
  const all = await Promise.all(
    OWN_PACKAGES.map(async (directory) => ({ directory, ...(await readManifest(directory)) })),
  )
  const known = await Promise.all(all.map(({ name, version }) => exists(name, version)))
  const missing = all.filter((_, i) => known[i] === false)
  if (missing.length === 0) return
  const { id } = await applications.ensure(OWN)
  const key = await applications.createKey(id)
  const caller = await applications.authenticate(key.reveal())
  try {
    for (const { directory, name, version } of missing) {
      await publishDirectory(directory, { registryUrl, key })
      log.info('Published a skill that comes with the platform.', { name, version })
    }
  } finally {
    if (caller !== undefined) await applications.revokeKey(id, caller.keyId)
  }
}

function greet(config: Config, url: string, database: string, machines: string): void {
  process.stdout.write(
    [
      `Senmon is ready at ${config.publicUrl ?? url}`,
      `  GraphQL    ${url}/graphql`,
      `  REST       ${url}/expert_jobs`,
      `  registry   ${url}/npm/`,
      `  key        ${join(config.dataDirectory, 'dev-key')} (application ${DEV})`,
      `  database   ${database}`,
      `  machines   ${machines}`,
      '',
    ].join('\n'),
  )
}

/** Asks Fly for all that a server asks it for, and tries a machine, which comes to where a server would listen. */
async function probeOnFly(config: Config, fly: FlyConfig): Promise<ProbeResult | TrialResult> {
  const row = openLoneRow()
  const turns = openTurns(clock)
  const client = openMachinesClient({ baseUrl: fly.baseUrl, token: fly.token, turns, clock, log })
  const asked = await probeFly({
    client,
    apps: fly.apps,
    regions: fly.regions,
    config: machineConfig(fly.image, fly.size),
  })
  await client.close()
  if (!asked.ok) return asked
  const install = () => Promise.reject(new PlatformError('machine_failed', 'A probe installs nothing.'))
  const masterKey = new Secret(randomBytes(32).toString('hex'))
  const { links, provider } = openFly(config, fly, { store: row, turns, masterKey, install })
  const door = openMachineDoor({ links, clock, log })
  const server = createServer((incoming, outgoing) => {
    if (isMachinePath(incoming.url)) door(incoming, outgoing)
    else outgoing.writeHead(503).end()
  })
  try {
    server.listen(config.port, config.hostname)
    await once(server, 'listening')
    const id = makeId('mch', clock.now(), randomBytes(16))
    return await tryMachine({ provider, row, id, linesUrl: fly.machineUrl, clock })
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) throw error
    return {
      ok: false,
      reason: `Port ${config.port} is taken: a machine could not come to say who it is.`,
      fix: 'Stop the server that listens there for as long, or set SENMON_PORT and SENMON_PUBLIC_URL to where a machine reaches this process.',
    }
  } finally {
    await provider.close()
    server.closeAllConnections()
    server.close()
  }
}

async function probe(config: Config): Promise<number> {
  if (config.fly !== null) {
    const result = await probeOnFly(config, config.fly)
    process.stdout.write(`${JSON.stringify({ name: 'fly', ...result })}\n`)
    return result.ok ? 0 : 1
  }
  const install = () => Promise.reject(new PlatformError('machine_failed', 'A probe installs nothing.'))
  const runtimeDirectory = runtimeDirectoryOf(config.dataDirectory)
  const { provider, probe: result } = await chooseProvider(config, runtimeDirectory, install, await nameHolder())
  await provider.close()
  process.stdout.write(`${JSON.stringify({ name: provider.name, ...result })}\n`)
  return result.ok ? 0 : 1
}

async function main(): Promise<number> {
  const config = parseConfig(process.env, (path) => resolve(path))
  if (Array.isArray(config)) {
    process.stderr.write(`The configuration has faults:\n${config.map((fault) => `  ${fault}\n`).join('')}`)
    return 2
  }
  switch (process.argv[2] ?? 'start') {
    case 'start':
      await start(config as Config)
      return 0
    case 'probe':
      return probe(config as Config)
    default:
      process.stderr.write('usage: node src/main.ts [start | probe]\n')
      return 2
  }
}

try {
  process.exitCode = await main()
} catch (error) {
  if (!(error instanceof PlatformError)) throw error
  log.error(error.message, { error })
  process.stderr.write(`senmon: ${error.message} ${error.hint}\n`)
  process.exitCode = 1
}
