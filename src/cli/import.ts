/** `senmon import`: a bundle becomes a job of the server, to be read and forked. */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { BUNDLE_MEDIA_TYPE } from '../../schema/bundle.ts'
import { PlatformError } from '../../schema/error.ts'
import { isJsonObject } from '../../schema/json.ts'
import type { Command } from './command.ts'

export const importJob: Command = {
  name: 'import',
  usage: '<bundle>',
  summary: 'Brings the job of a bundle to the server, as history: it can be read and forked, and nothing else.',
  details: `The server checks all of it again. A bundle proves that it is whole, not who made it: take one from whom you
trust. A fork of it runs only what is published on the server itself.`,
  options: {},
  arity: [1, 1],
  async perform(call) {
    const name = call.positionals[0] ?? ''
    const path = resolve(call.directory, name)
    const found = await stat(path).catch((cause: unknown) => {
      throw new PlatformError('input_invalid', `The file ${name} cannot be read.`, { cause })
    })
    if (!found.isFile()) throw new PlatformError('input_invalid', `${name} is not a file.`)
    const api = await call.api()
    const data = await api.upload('/expert_jobs/import', BUNDLE_MEDIA_TYPE, createReadStream(path))
    const id = isJsonObject(data['expertJob']) ? data['expertJob']['id'] : undefined
    if (typeof id !== 'string') throw new PlatformError('internal', `${api.url} answered with no job.`)
    call.terminal.write(call.json ? `${JSON.stringify({ jobId: id })}\n` : `${id}\n`)
    return 0
  },
}
