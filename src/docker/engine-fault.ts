/** What an engine's refusals mean for a pool, and for whoever looks after the computer. Pure. */
import type { ProbeResult } from '../pool/machine-host.ts'
import { ProviderError, type ProviderFault } from '../pool/machine-provider.ts'

/** An answer that is no success. */
export interface EngineRefusal {
  readonly status: number
  /** What the engine says; untrusted text. */
  readonly message: string
}

const NO_ROOM =
  /no space left|cannot allocate memory|resource temporarily unavailable|too many open files|toomanyrequests/i
/** 20.10 answers 500 to some of what later ones call a conflict. */
const WRONG_STATE = /is not paused|is not running|already paused|try unpause|is paused|marked for removal/i

export function faultOf({ status, message }: EngineRefusal): ProviderFault {
  if (status === 404) return /no such container/i.test(message) ? 'gone' : 'refused'
  if (NO_ROOM.test(message)) return 'capacity'
  if (status === 409 || WRONG_STATE.test(message)) return 'state'
  if (status === 429) return 'throttled'
  return status >= 500 ? 'ambiguous' : 'refused'
}

export function refusalError(what: string, refusal: EngineRefusal): ProviderError {
  return new ProviderError(faultOf(refusal), `Docker did not ${what}: ${refusal.message} (${refusal.status}).`)
}

/** Of a request that got no answer: when no connection came about, it cannot have taken effect. */
export function connectionFault(code: string | undefined): ProviderFault {
  return code !== undefined && UNCONNECTED.has(code) ? 'throttled' : 'ambiguous'
}

const UNCONNECTED = new Set(['ENOENT', 'ECONNREFUSED', 'EACCES', 'EPERM', 'ENOTFOUND', 'EHOSTUNREACH', 'ENOTSOCK'])

/** Why no engine answers, and what to do about it. */
export function explainSilence(place: string, code: string | undefined, message: string): ProbeResult {
  const no = (reason: string, fix: string): ProbeResult => ({ ok: false, reason, fix })
  switch (code) {
    case 'ENOENT':
      return no(
        `No Docker engine listens at ${place}.`,
        'Install Docker (https://docs.docker.com/engine/install) and start it, or set DOCKER_HOST to where it listens.',
      )
    case 'ECONNREFUSED':
      return no(
        `The Docker engine at ${place} is not running.`,
        'Start it: `systemctl start docker`, or Docker Desktop.',
      )
    case 'EACCES':
    case 'EPERM':
      return no(
        `This user may not speak to the Docker engine at ${place}.`,
        'Join its group and log in again: `sudo usermod -aG docker $USER`. Who is in it can become root.',
      )
    default:
      return no(`The Docker engine at ${place} does not answer: ${message}.`, 'See that it runs: `docker version`.')
  }
}
