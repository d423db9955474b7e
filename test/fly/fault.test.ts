/** What answers of the Machines API mean; the words are those that were seen. */
import { expect, it } from 'vitest'
import { faultOf, saysDown, type FlyVerb } from '../../src/fly/fault.ts'

const cases: readonly (readonly [FlyVerb, number, string | null, string, ReturnType<typeof faultOf>])[] = [
  ['create', 503, 'insufficient_capacity', 'out of capacity', 'capacity'],
  ['create', 400, null, 'no capacity', 'capacity'],
  [
    'create',
    403,
    null,
    'organization "x" is using 9 MB of memory in dfw which is over the allowed quota. please consider other regions',
    'capacity',
  ],
  [
    'start',
    409,
    null,
    'aborted: could not reserve resource for machine: insufficient memory available to fulfill request',
    'capacity',
  ],
  ['create', 412, null, "insufficient resources to create new machine with existing volume 'vol_1'", 'capacity'],
  [
    'start',
    409,
    null,
    'machine ID 1 lease currently held by x@tokens.fly.io, expires at 2026-05-14T10:41:08Z',
    'throttled',
  ],
  ['start', 412, null, "failed_precondition: unable to start machine from current state: 'created'", 'state'],
  ['start', 412, null, 'failed_precondition: machine still active, refusing to start', 'state'],
  ['start', 429, null, 'resource_exhausted: rate limit exceeded', 'throttled'],
  ['look', 404, null, 'machine not found', 'gone'],
  ['create', 408, null, 'deadline_exceeded: x', 'ambiguous'],
  ['stop', 500, null, 'http: server closed', 'ambiguous'],
  ['stop', 502, null, '', 'ambiguous'],
  ['create', 401, null, 'Authenticate: token validation error', 'refused'],
  ['create', 422, 'name_taken', 'Validation failed: Name has already been taken', 'nameTaken'],
  ['create', 422, null, 'invalid guest', 'refused'],
  ['stop', 400, null, 'json: cannot unmarshal array into Go value of type main.stopRequest', 'refused'],
]

it.each(cases)('reads %s %i %s %s as %s', (verb, code, status, error, fault) => {
  expect(faultOf(verb, { code, status, error })).toBe(fault)
})

it('takes only what is no answer for an API that is down', () => {
  expect([500, 502, 503, 408].every(saysDown)).toBe(true)
  expect([200, 401, 404, 409, 412, 429].some(saysDown)).toBe(false)
})
