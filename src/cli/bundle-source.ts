/** Where a bundle comes from: a file, or the server that has the job. */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { PlatformError } from '../../schema/error.ts'
import { parseId } from '../../schema/id.ts'
import type { Call } from './command.ts'

/** The bytes of the bundle that an argument names. A job is asked for without its files unless they are wanted. */
export async function openBundle(
  call: Call,
  name: string,
  options: { readonly files: boolean },
): Promise<AsyncIterable<Uint8Array>> {
  const path = resolve(call.directory, name)
  const isFile = await stat(path).then(
    (found) => found.isFile(),
    () => false,
  )
  if (isFile) return createReadStream(path)
  const jobId = parseId('job', name)
  if (jobId === undefined) throw new PlatformError('input_invalid', `${name} is neither a file nor a job's id.`)
  return (await call.api()).download(bundlePath(jobId, options))
}

export function bundlePath(jobId: string, { files }: { readonly files: boolean }): string {
  return `/expert_jobs/${jobId}/bundle${files ? '' : '?files=false'}`
}
