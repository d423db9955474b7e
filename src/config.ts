/** An environment record → Config, every fault listed at once. The only list of what can be set. */
import { parseNetwork, type Network } from '../schema/network.ts'
import { Secret } from '../schema/secret.ts'
import { meant, sentence } from '../schema/toml-file.ts'

export const MACHINE_HOSTS = ['local', 'docker', 'fly', 'unsafe-process'] as const
export type MachineHostName = (typeof MACHINE_HOSTS)[number]

export interface Config {
  readonly hostname: string
  readonly port: number
  /** Absolute. Holds the embedded database, the content store, the keys. */
  readonly dataDirectory: string
  readonly databaseUrl: Secret | null
  /** The host to take; null takes the strongest that passes its probe. */
  readonly machines: MachineHostName | null
  /** Jobs that may hold a machine at once in this process; 0 accepts jobs and leaves them to other processes. */
  readonly concurrency: number
  /** Machines that are to wait for jobs, ready, though nobody asks for any. */
  readonly ready: number
  /** Jobs of one application that may have a machine at once, in all processes; null for as many as there are machines. */
  readonly jobsPerApplication: number | null
  /** What one machine of this computer may use, all its processes together; left out what its host's default is. */
  readonly machineLimits: {
    readonly memoryBytes?: number
    /** Threads count. */
    readonly tasks?: number
    /** Of one processor's time. */
    readonly cpus?: number
  }
  readonly docker: {
    /** Where the engine listens, as Docker's own tools take it; null looks in the usual places. */
    readonly host: string | null
    /** A directory with ca.pem, cert.pem and key.pem: the engine is spoken to by TLS. Absolute. */
    readonly certificates: string | null
    /** The image that machines are made of. */
    readonly image: string
    /** The engine's runtime for them, such as runsc; null for the engine's own. */
    readonly runtime: string | null
  }
  /** Null unless machines are Fly's. */
  readonly fly: FlyConfig | null
  /** Where clients reach this process, when it is not where it listens (a proxy). */
  readonly publicUrl: string | null
  /** The operator's own provider keys: used for the application `dev` alone, by their usual names. */
  readonly providerKeys: Readonly<Record<string, Secret>>
  /** Base URLs of providers, which only an operator may set. */
  readonly baseUrls: Readonly<Record<string, string>>
  /** Networks of the operator's own where skills may be reached, besides the internet. */
  readonly skillNetworks: readonly Network[]
  /** A table of prices whose rows stand before ours: docs/budgets.md. Absolute; null for none. */
  readonly pricesFile: string | null
  /** 32 bytes as 64 hex digits; null reads or makes <data directory>/master-key. */
  readonly masterKey: Secret | null
}

export interface FlyConfig {
  readonly token: Secret
  /** The API of Fly, without `/v1`. */
  readonly baseUrl: string
  /** Apps that hold nothing but machines of ours; more than one where one makes machines too slowly. */
  readonly apps: readonly string[]
  /** `repository@sha256:…`. */
  readonly image: string
  /** In the order in which they are tried; [] lets Fly choose. */
  readonly regions: readonly string[]
  readonly size: { readonly cpuKind: 'shared' | 'performance'; readonly cpus: number; readonly memoryMb: number }
  /** Whose tokens say which machine one is. */
  readonly issuer: string
  /** Where machines reach this very process. */
  readonly machineUrl: string
  /** All machines that are not gone, of all processes. */
  readonly machinesMax: number
}

const PROVIDER_KEYS = [
  'ANTHROPIC_API_KEY',
  'OPENAI_API_KEY',
  'GOOGLE_GENERATIVE_AI_API_KEY',
  'OPENAI_COMPATIBLE_API_KEY',
]
const BASE_URLS: Readonly<Record<string, string>> = {
  ANTHROPIC_BASE_URL: 'anthropic',
  OPENAI_BASE_URL: 'openai',
  GOOGLE_BASE_URL: 'google',
  OPENAI_COMPATIBLE_BASE_URL: 'openai-compatible',
  OLLAMA_BASE_URL: 'ollama',
}

/** Every variable of ours that the server or its command line reads. */
const SETTINGS = `
  HOST PORT DATA_DIR MASTER_KEY PRICES PUBLIC_URL SKILL_NETWORKS MACHINES READY CONCURRENCY JOBS_PER_APPLICATION
  MACHINE_MEMORY_MB MACHINE_CPUS MACHINE_TASKS MACHINE_URL DOCKER_IMAGE DOCKER_RUNTIME
  FLY_IMAGE FLY_REGIONS FLY_SIZE FLY_ISSUER FLY_MACHINES_MAX URL KEY`
  .trim()
  .split(/\s+/)
  .map((name) => `SENMON_${name}`)

/** A sentence for each variable that is named like one of ours and is none: a limit that is misspelt would bound nothing. */
export function strangeSettings(environment: Environment): readonly string[] {
  return Object.keys(environment)
    .filter((name) => name.startsWith('SENMON_') && !SETTINGS.includes(name))
    .map((name) => sentence(`${name} is no setting${meant(name, SETTINGS)}`))
}

export type Environment = Readonly<Record<string, string | undefined>>

/** `resolvePath` makes a path absolute; an empty variable counts as unset. */
export function parseConfig(
  environment: Environment,
  resolvePath: (path: string) => string,
): Config | readonly string[] {
  const faults: string[] = []
  const read = (name: string) => environment[name]?.trim() || undefined
  const whole = (name: string, fallback: number, min: number, max: number) => {
    const text = read(name)
    if (text === undefined) return fallback
    const value = Number(text)
    if (Number.isInteger(value) && value >= min && value <= max) return value
    faults.push(`${name} is "${text}"; it must be a whole number from ${min} to ${max}.`)
    return fallback
  }
  const machineLimits = (): Config['machineLimits'] => {
    const cpus = read('SENMON_MACHINE_CPUS')
    const isShare = cpus !== undefined && /^\d{1,4}(\.\d+)?$/.test(cpus) && Number(cpus) >= 0.05
    if (cpus !== undefined && !isShare)
      faults.push(`SENMON_MACHINE_CPUS is "${cpus}"; it must be a number from 0.05 on, such as 0.5 or 2.`)
    const memoryMb = whole('SENMON_MACHINE_MEMORY_MB', 0, 256, 1_048_576)
    const tasks = whole('SENMON_MACHINE_TASKS', 0, 128, 1_000_000)
    return {
      ...(memoryMb === 0 ? {} : { memoryBytes: memoryMb * 1024 * 1024 }),
      ...(tasks === 0 ? {} : { tasks }),
      ...(isShare ? { cpus: Number(cpus) } : {}),
    }
  }
  const url = (name: string, protocols: readonly string[]) => {
    const text = read(name)
    if (text === undefined) return undefined
    const parsed = URL.parse(text)
    if (parsed !== null && protocols.includes(parsed.protocol)) return text
    // The value is not repeated: a connection URL holds a password.
    faults.push(`${name} must be a URL that starts with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}.`)
    return undefined
  }
  const secrets = (names: readonly string[]) =>
    Object.fromEntries(
      names.flatMap((name) => (read(name) === undefined ? [] : [[name, new Secret(read(name) ?? '')]])),
    )

  const machines = MACHINE_HOSTS.find((name) => name === read('SENMON_MACHINES'))
  if (read('SENMON_MACHINES') !== undefined && machines === undefined)
    faults.push(`SENMON_MACHINES is "${read('SENMON_MACHINES')}"; it must be one of ${MACHINE_HOSTS.join(', ')}.`)
  const certificates = read('DOCKER_TLS_VERIFY') === undefined ? undefined : read('DOCKER_CERT_PATH')
  const pricesFile = read('SENMON_PRICES')
  const masterKey = read('SENMON_MASTER_KEY')
  if (masterKey !== undefined && !/^[0-9a-f]{64}$/i.test(masterKey))
    faults.push('SENMON_MASTER_KEY must be 64 hex digits (32 bytes); `openssl rand -hex 32` makes one.')
  if (read('NODE_TLS_REJECT_UNAUTHORIZED') === '0')
    faults.push('NODE_TLS_REJECT_UNAUTHORIZED=0 would send keys to anyone; unset it.')

  const skillNetworks = (read('SENMON_SKILL_NETWORKS') ?? '').split(/[\s,]+/).filter((text) => text !== '')
  for (const text of skillNetworks)
    if (parseNetwork(text) === undefined)
      faults.push(`SENMON_SKILL_NETWORKS holds "${text}"; it must be networks such as 10.1.0.0/16 or fd00::/8.`)

  const databaseUrl = url('DATABASE_URL', ['postgres:', 'postgresql:'])
  const fly = (): FlyConfig => {
    const demand = (name: string): string => {
      const text = read(name)
      if (text === undefined) faults.push(`SENMON_MACHINES=fly needs ${name}: see docs/deploy-fly.md.`)
      return text ?? ''
    }
    const image = demand('SENMON_FLY_IMAGE')
    if (image !== '' && !/@sha256:[0-9a-f]{64}$/.test(image))
      faults.push(
        'SENMON_FLY_IMAGE must end with @sha256: and the digest of the image: a tag can become another image.',
      )
    const size = /^(shared|performance)-(\d{1,2})x:(\d{3,4})$/.exec(read('SENMON_FLY_SIZE') ?? 'shared-2x:1024')
    const memoryMb = Number(size?.[3] ?? 0)
    if (size === null || memoryMb > 2048 || memoryMb % 256 !== 0)
      faults.push(
        'SENMON_FLY_SIZE must be such as shared-2x:1024, with at most 2048 MB: a larger machine is never suspended.',
      )
    const org = demand('FLY_ORG')
    demand('FLY_API_TOKEN')
    demand('SENMON_MACHINE_URL')
    for (const name of ['DATABASE_URL', 'SENMON_MASTER_KEY']) demand(name)
    return {
      token: new Secret(read('FLY_API_TOKEN') ?? ''),
      baseUrl: url('FLY_FLAPS_BASE_URL', ['http:', 'https:']) ?? 'https://api.machines.dev',
      apps: demand('FLY_APP_NAME')
        .split(/[\s,]+/)
        .filter((text) => text !== ''),
      image,
      regions: (read('SENMON_FLY_REGIONS') ?? '').split(/[\s,]+/).filter((text) => text !== ''),
      size: { cpuKind: size?.[1] === 'performance' ? 'performance' : 'shared', cpus: Number(size?.[2] ?? 1), memoryMb },
      issuer: url('SENMON_FLY_ISSUER', ['http:', 'https:']) ?? `https://oidc.fly.io/${org}`,
      machineUrl: url('SENMON_MACHINE_URL', ['http:', 'https:']) ?? '',
      machinesMax: whole('SENMON_FLY_MACHINES_MAX', 50, 1, 100_000),
    }
  }
  const config: Config = {
    hostname: read('SENMON_HOST') ?? '127.0.0.1',
    port: whole('SENMON_PORT', 4000, 0, 65535),
    dataDirectory: resolvePath(read('SENMON_DATA_DIR') ?? '.senmon'),
    databaseUrl: databaseUrl === undefined ? null : new Secret(databaseUrl),
    machines: machines ?? null,
    concurrency: whole('SENMON_CONCURRENCY', 8, 0, 1000),
    ready: whole('SENMON_READY', 1, 0, 1000),
    jobsPerApplication:
      read('SENMON_JOBS_PER_APPLICATION') === undefined ? null : whole('SENMON_JOBS_PER_APPLICATION', 0, 1, 100_000),
    machineLimits: machineLimits(),
    docker: {
      host: read('DOCKER_HOST') ?? null,
      certificates: certificates === undefined ? null : resolvePath(certificates),
      image: read('SENMON_DOCKER_IMAGE') ?? 'senmon-machine',
      runtime: read('SENMON_DOCKER_RUNTIME') ?? null,
    },
    fly: machines === 'fly' ? fly() : null,
    publicUrl: url('SENMON_PUBLIC_URL', ['http:', 'https:']) ?? null,
    providerKeys: secrets(PROVIDER_KEYS),
    baseUrls: Object.fromEntries(
      Object.entries(BASE_URLS).flatMap(([name, provider]) => {
        const value = url(name, ['http:', 'https:'])
        return value === undefined ? [] : [[provider, value]]
      }),
    ),
    skillNetworks: skillNetworks.flatMap((text) => parseNetwork(text) ?? []),
    pricesFile: pricesFile === undefined ? null : resolvePath(pricesFile),
    masterKey: masterKey === undefined ? null : new Secret(masterKey.toLowerCase()),
  }
  return faults.length > 0 ? faults : config
}
