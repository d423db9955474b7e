/** `senmon export`: a job as one file, checked while it is written. */
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { resolve } from 'node:path'
import { finished } from 'node:stream/promises'
import { BUNDLE_SUFFIX, readBundle } from '../../schema/bundle.ts'
import { bundlePath } from './bundle-source.ts'
import type { Command } from './command.ts'
import { parseJobId } from './follow.ts'
import { printBundle, tally } from './verify.ts'

export const exportJob: Command = {
  name: 'export',
  usage: '<job>',
  summary: 'Writes a job into one file: its log, its locks and prompts, its files. The file proves itself.',
  details: `A job that is not finished is written as far as it has come. Secrets are in no bundle; what tools returned and
models wrote is.`,
  options: {
    out: { type: 'string', value: 'file', help: `Where to (default: <job>${BUNDLE_SUFFIX}).` },
    'no-files': { type: 'boolean', help: 'Leave out the files of the workspace; such a bundle cannot be imported.' },
  },
  arity: [1, 1],
  async perform(call) {
    const jobId = parseJobId(call.positionals[0])
    const path = resolve(call.directory, call.text('out') ?? `${jobId}${BUNDLE_SUFFIX}`)
    const chunks = await (await call.api()).download(bundlePath(jobId, { files: !call.flag('no-files') }))
    // The name appears with a whole bundle or not at all.
    const beside = `${path}.part`
    const file = createWriteStream(beside)
    const written = finished(file)
    const count = tally()
    try {
      for await (const part of readBundle(copied(chunks, file))) count.add(part)
      file.end()
      await written
      await rename(beside, path)
    } catch (error) {
      file.destroy()
      await written.catch(() => undefined)
      await rm(beside, { force: true })
      throw error
    }
    if (call.json) call.terminal.write(`${JSON.stringify({ ...count.sum(), path })}\n`)
    else {
      call.terminal.write(`${path}\n`)
      call.terminal.note(`${printBundle(count.sum())}\n`)
    }
    return 0
  },
}

async function* copied(
  chunks: AsyncIterable<Uint8Array>,
  file: ReturnType<typeof createWriteStream>,
): AsyncGenerator<Uint8Array, void, void> {
  for await (const chunk of chunks) {
    if (!file.write(chunk)) await once(file, 'drain')
    yield chunk
  }
}
