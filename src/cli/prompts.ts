/** What each generation of a job was asked with, as text or JSON. */
import { readBundle } from '../../schema/bundle.ts'
import type { JobEvent } from '../../schema/event.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { Message, Prompt } from '../../schema/message.ts'
import { SentPrompts } from '../../schema/sent-prompt.ts'
import type { Call } from './command.ts'
import { shown, styled } from './terminal.ts'

interface Asked {
  readonly event: JobEvent
  readonly hash: Sha256
  readonly messages: readonly Message[]
}

/** Resolves to the exit code. */
export async function showPrompts(call: Call, chunks: AsyncIterable<Uint8Array>): Promise<number> {
  const sent = new SentPrompts()
  const asked: Asked[] = []
  const prompts = new Map<Sha256, Prompt>()
  for await (const part of readBundle(chunks)) {
    if (part.type === 'event') {
      const found = sent.add(part.event)
      if (found !== undefined) asked.push({ event: part.event, ...found })
    } else if (part.type === 'content' && part.uses.includes('prompt'))
      // The reader has checked what it is.
      prompts.set(part.hash, JSON.parse(new TextDecoder().decode(part.bytes)) as Prompt)
  }
  const told = new Set<Sha256>()
  const before = new Map<string | null, readonly Message[]>()
  for (const one of asked) {
    const prompt = prompts.get(one.hash)
    if (prompt === undefined) continue
    if (call.json) writeJson(call, one, prompt)
    else {
      const isNew = !told.has(one.hash)
      write(call, one, isNew ? prompt : undefined, before.get(one.event.runId) ?? [])
    }
    told.add(one.hash)
    before.set(one.event.runId, one.messages)
  }
  return 0
}

function writeJson({ terminal }: Call, { event, hash, messages }: Asked, { instruction, tools }: Prompt): void {
  const { seq, runId, expertKey, stepNumber } = event
  const asked = { seq, runId, expertKey, stepNumber, promptHash: hash, instruction, tools, messages }
  terminal.write(`${JSON.stringify(asked)}\n`)
}

/** What the same run was asked with before is not said again; what is said is said whole. */
function write(
  { terminal }: Call,
  { event, hash, messages }: Asked,
  prompt: Prompt | undefined,
  before: readonly Message[],
): void {
  const { seq, expertKey, runId, stepNumber } = event
  const title = `event ${seq}: step ${stepNumber} of ${expertKey}, ${runId}, was asked with prompt ${hash}`
  terminal.write(`${styled(terminal, 'bold', shown(title))}\n`)
  const say = (head: string, text: string): void =>
    terminal.write(`${styled(terminal, 'dim', head)}\n${text === '' ? '' : `${shown(text)}\n`}`)
  if (prompt === undefined) say('[the same instruction and tools as before]', '')
  else {
    say('[instruction]', prompt.instruction)
    for (const { name, description, inputSchema } of prompt.tools)
      say(`[tool ${shown(name)}]`, `${description}\n${JSON.stringify(inputSchema)}`)
  }
  const isPrefix = before.every((message, i) => JSON.stringify(message) === JSON.stringify(messages[i]))
  const skipped = isPrefix ? before.length : 0
  if (skipped > 0) say(`[${skipped} messages as before]`, '')
  for (const message of messages.slice(skipped)) say(`[${message.role}]`, printMessage(message))
  terminal.write('\n')
}

function printMessage({ content }: Message): string {
  return content.map((part) => ('text' in part && part.type === 'text' ? part.text : JSON.stringify(part))).join('\n')
}
