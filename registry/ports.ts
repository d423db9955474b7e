/** What the registry needs of the platform it is embedded in; each port is as narrow as its use. */
import type { Sha256 } from '../schema/hash.ts'
import type { ApplicationId } from '../schema/id.ts'
import type { ToolDefinition } from '../schema/message.ts'
import type { ServedSkill } from '../schema/tool-pin.ts'

/** Bytes by their hash. */
export interface Content {
  /** Durable when it resolves. */
  put(bytes: Uint8Array): Promise<Sha256>
  /** Throws when the bytes are missing or no longer hash to their name. */
  get(hash: Sha256): Promise<Uint8Array>
}

/** Who is asking. */
export interface Publisher {
  readonly applicationId: ApplicationId
  readonly name: string
  /** `publish` or `*` may write; anybody known may read. */
  readonly scopes: readonly string[]
}

export interface RegistryLog {
  info(message: string, fields?: Readonly<Record<string, unknown>>): void
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void
  error(message: string, fields?: Readonly<Record<string, unknown>>): void
}

/** Starts a skill for the sake of its list of tools. */
export interface SkillLister {
  /** All its tools, `pick` and `omit` aside; or why they are not known, as half a sentence. */
  list(skill: ServedSkill): Promise<readonly ToolDefinition[] | { readonly unlisted: string }>
}
