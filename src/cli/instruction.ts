/** An instruction as an argument: its text, or `@file`. */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { PlatformError } from '../../schema/error.ts'
import type { Call } from './command.ts'

/** Throws input_invalid when the file cannot be read. */
export async function readInstruction(call: Call, text: string): Promise<string> {
  if (!text.startsWith('@')) return text
  try {
    return await readFile(resolve(call.directory, text.slice(1)), 'utf8')
  } catch (cause) {
    throw new PlatformError('input_invalid', `The file ${text.slice(1)} cannot be read.`, { cause })
  }
}
