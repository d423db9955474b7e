/** Identity tokens as a machine gets them from its own socket: JWTs (RFC 7519) signed with RS256 by a key of the simulator. */
import { createSign, generateKeyPairSync, type KeyObject } from 'node:crypto'
import type { Platform } from './fly-sim.ts'
import type { Machine } from './shapes.ts'

const LIFE_S = 600

export class GuestIdentity {
  readonly #key: { readonly publicKey: KeyObject; readonly privateKey: KeyObject }
  readonly #org: string
  #tokens = 0

  constructor(org: string) {
    this.#key = generateKeyPairSync('rsa', { modulusLength: 2048 })
    this.#org = org
  }

  jwks(): object {
    return { keys: [{ ...this.#key.publicKey.export({ format: 'jwk' }), kid: 'sim', alg: 'RS256', use: 'sig' }] }
  }

  /** For ten minutes from now. */
  token(machine: Machine, app: string, audience: string, platform: Pick<Platform, 'now' | 'issuer'>): string {
    const issuedAt = Math.floor(platform.now() / 1_000)
    const { registry, repository, digest } = machine.image_ref
    const claims = {
      iss: platform.issuer(),
      sub: `${this.#org}:${app}:${machine.name}`,
      aud: audience,
      iat: issuedAt,
      nbf: issuedAt,
      exp: issuedAt + LIFE_S,
      jti: `sim-${++this.#tokens}`,
      app_id: `id-${app}`,
      app_name: app,
      machine_id: machine.id,
      machine_name: machine.name,
      machine_version: machine.instance_id,
      org_id: `id-${this.#org}`,
      org_name: this.#org,
      region: machine.region,
      image: `${registry}/${repository}`,
      image_digest: digest,
    }
    const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
    const signed = `${encode({ alg: 'RS256', typ: 'JWT', kid: 'sim' })}.${encode(claims)}`
    return `${signed}.${createSign('RSA-SHA256').update(signed).sign(this.#key.privateKey, 'base64url')}`
  }
}
