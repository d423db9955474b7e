/** Who a machine is said to be: every way in which a token can be another's, old, or nobody's. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, SignJWT, type JWTPayload, type CryptoKey } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeId } from '../../schema/id.ts'
import { nameOf } from '../../src/fly/fly-machine.ts'
import { openFlyIdentity } from '../../src/fly/fly-identity.ts'
import { orderMachine, type PooledMachine } from '../../src/pool/machine.ts'
import { fakeClock } from '../fake/fake-clock.ts'

const AUDIENCE = 'https://senmon.example'
const DIGEST = `sha256:${'5e'.repeat(32)}`
const ID = makeId('mch', 1, new Uint8Array(16))
const clock = fakeClock()
const SECOND = Math.floor(clock.now() / 1_000)

let keyServer: Server
let issuer: string
let ours: CryptoKey
let strange: CryptoKey
let publicKey: Uint8Array
let looks = 0

beforeAll(async () => {
  const pair = await generateKeyPair('RS256', { extractable: true })
  ours = pair.privateKey
  strange = (await generateKeyPair('RS256')).privateKey
  const jwk = await exportJWK(pair.publicKey)
  publicKey = Buffer.from(JSON.stringify(jwk))
  keyServer = createServer((_request, response) => {
    looks += 1
    response.end(JSON.stringify({ keys: [{ ...jwk, kid: 'one', alg: 'RS256', use: 'sig' }] }))
  })
  await new Promise<void>((resolve) => keyServer.listen(0, '127.0.0.1', resolve))
  issuer = `http://127.0.0.1:${(keyServer.address() as AddressInfo).port}/org`
})
afterAll(async () => {
  keyServer.closeAllConnections()
  await new Promise((resolve) => keyServer.close(resolve))
})

const machine: PooledMachine = {
  ...orderMachine({ id: ID, pool: 'fly', place: 'machines', generation: 'g', now: clock.now() }, null),
  providerId: 'fly-1',
}
let tokens = 0
const claims = (): JWTPayload => ({
  iss: issuer,
  sub: `org:machines:${nameOf(ID)}`,
  aud: AUDIENCE,
  iat: SECOND,
  nbf: SECOND,
  exp: SECOND + 600,
  jti: `token-${(tokens += 1)}`,
  app_name: 'machines',
  machine_id: 'fly-1',
  machine_name: nameOf(ID),
  image_digest: DIGEST,
})
const sign = (
  change: Readonly<Record<string, unknown>> = {},
  key: CryptoKey | Uint8Array = ours,
  header = { alg: 'RS256', kid: 'one' },
) => {
  // What is undefined is left out.
  const said = JSON.parse(JSON.stringify({ ...claims(), ...change })) as JWTPayload
  return new SignJWT(said).setProtectedHeader(header).sign(key)
}
const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
const open = () =>
  openFlyIdentity({ issuer, keysUrl: `${issuer}/.well-known/jwks`, audience: AUDIENCE, imageDigest: DIGEST, clock })

describe('a token', () => {
  it('says which machine it is, whose name at Fly may not be known yet (FI2)', async () => {
    expect(await open()(await sign(), machine)).toEqual({ providerId: 'fly-1' })
    expect(await open()(await sign(), { ...machine, providerId: null })).toEqual({ providerId: 'fly-1' })
  })

  const early = { iat: SECOND - 500, nbf: SECOND - 500 }
  const WRONG: readonly (readonly [string, () => Promise<string> | string])[] = [
    ['of another issuer (FI1)', () => sign({ iss: 'https://oidc.fly.io/other' })],
    ['for another audience (FI1)', () => sign({ aud: 'https://other.example' })],
    ['without an audience (FI1)', () => sign({ aud: undefined })],
    ['that is over (FI1)', () => sign({ ...early, exp: SECOND - 61 })],
    ['without an end (FI1)', () => sign({ exp: undefined })],
    ['that is not yet valid (FI1)', () => sign({ nbf: SECOND + 61 })],
    ['that was made in times to come (FI1)', () => sign({ iat: SECOND + 3_600 })],
    ['by a key that nobody knows (FI1)', () => sign({}, strange, { alg: 'RS256', kid: 'two' })],
    ['by another key under a known name (FI1)', () => sign({}, strange)],
    ['by nobody (FI1)', () => `${encode({ alg: 'none' })}.${encode(claims())}.`],
    ['by nobody, in other letters (FI1)', () => `${encode({ alg: 'NONE', kid: 'one' })}.${encode(claims())}.`],
    ['by whoever has the public key, as a secret (FI1)', () => sign({}, publicKey, { alg: 'HS256', kid: 'one' })],
    [
      'whose words were changed (FI1)',
      async () => {
        const [head, , signature] = (await sign()).split('.')
        return `${head}.${encode({ ...claims(), machine_id: 'fly-2' })}.${signature}`
      },
    ],
    ['that is none (FI1)', () => 'token'],
    ['of another app (FI2)', () => sign({ app_name: 'web' })],
    ['of another machine under our name (FI2)', () => sign({ machine_id: 'fly-2' })],
    ['of a machine of another name (FI2)', () => sign({ machine_name: nameOf(makeId('mch', 2, new Uint8Array(16))) })],
    ['of a machine without a name at Fly (FI2)', () => sign({ machine_id: undefined })],
    ['of another image (FI2)', () => sign({ image_digest: `sha256:${'00'.repeat(32)}` })],
    ['that says no image (FI2)', () => sign({ image_digest: undefined })],
    ['that was made too long ago, though it is valid (FI3)', () => sign({ ...early, exp: SECOND + 100 })],
    ['without a name of its own (FI3)', () => sign({ jti: undefined })],
  ]
  it.each(WRONG)('%s is refused, without saying why', async (_name, make) => {
    const refusal = await open()(await make(), machine).catch((error: unknown) => error)
    expect(refusal).toMatchObject({
      code: 'unauthenticated',
      message: 'This is no machine of ours in this boot.',
    })
  })

  it('counts once (FI3)', async () => {
    const prove = open()
    const token = await sign()
    await prove(token, machine)
    await expect(prove(token, machine)).rejects.toMatchObject({ code: 'unauthenticated' })
    // One that was refused has not counted: its machine may not have been the right one.
    const other = await sign()
    await expect(prove(other, { ...machine, place: 'web' })).rejects.toMatchObject({ code: 'unauthenticated' })
    expect(await prove(other, machine)).toEqual({ providerId: 'fly-1' })
  })

  it('that nobody can judge, since the keys are away, is refused, and the keys are asked for again (FI1)', async () => {
    const away = openFlyIdentity({
      issuer,
      keysUrl: 'http://127.0.0.1:9/keys',
      audience: AUDIENCE,
      imageDigest: DIGEST,
      clock,
    })
    await expect(away(await sign(), machine)).rejects.toMatchObject({ code: 'unauthenticated' })
    const prove = open()
    const before = looks
    for (let i = 0; i < 5; i++)
      await prove(await sign({}, strange, { alg: 'RS256', kid: `${i}` }), machine).catch(() => {})
    // Unknown keys make nobody ask the issuer each time.
    expect(looks - before).toBeLessThanOrEqual(2)
  })
})
