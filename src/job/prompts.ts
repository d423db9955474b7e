/** The prompts that jobs were asked with: instruction and tools, kept once however often they are sent. */
import type { Sha256 } from '../../schema/hash.ts'
import type { Prompt } from '../../schema/message.ts'
import type { ContentStore } from '../workspace/content-store.ts'

export interface Prompts {
  /** The prompt that an event of the caller's own job names. Throws `content_missing`. */
  read(hash: Sha256): Promise<Prompt>
}

export function openPrompts({ content }: { readonly content: ContentStore }): Prompts {
  return {
    // Written before the generation was begun, or checked when its job was imported.
    read: async (hash) => JSON.parse(new TextDecoder().decode(await content.get(hash))) as Prompt,
  }
}
