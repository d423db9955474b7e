/** What an answer of the Machines API means: by its code and status first, by its words only where these say too little. Pure. */
import type { ProviderFault } from '../pool/machine-provider.ts'

export type FlyVerb = 'create' | 'list' | 'look' | 'start' | 'stop' | 'suspend' | 'destroy'

export interface FlyAnswer {
  readonly code: number
  /** `status` of the body. */
  readonly status: string | null
  /** `error` of the body. */
  readonly error: string
}

/** No room, in the words of several parts of the API. */
const NO_ROOM =
  /no capacity|out of capacity|could not reserve resource|insufficient (resources|memory)|over the allowed quota|quota/i
const LEASE = /lease currently held/i

/** `nameTaken` is no failure: a machine of this name, which is ours alone, is there already. */
export function faultOf(verb: FlyVerb, { code, status, error }: FlyAnswer): ProviderFault | 'nameTaken' {
  if (status === 'insufficient_capacity' || (code >= 400 && code !== 404 && NO_ROOM.test(error))) return 'capacity'
  if (verb === 'create' && (status === 'name_taken' || (code === 422 && /name.*taken|already exists/i.test(error))))
    return 'nameTaken'
  switch (code) {
    case 404:
      return 'gone'
    case 408:
      return 'ambiguous'
    case 409:
      return LEASE.test(error) ? 'throttled' : 'state'
    case 412:
      return 'state'
    case 429:
      return 'throttled'
    default:
      return code >= 500 ? 'ambiguous' : 'refused'
  }
}

/** Whether the answer says that the API is not there, rather than that it does not want to. */
export function saysDown(code: number): boolean {
  return code >= 500 || code === 408
}
