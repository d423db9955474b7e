/** `senmon verify`: whether a bundle is what its hashes say, with nothing but the bundle. */
import { readBundle, type BundlePart, type ContentUse } from '../../schema/bundle.ts'
import { openBundle } from './bundle-source.ts'
import type { Command } from './command.ts'

export interface BundleSum {
  readonly jobId: string
  readonly events: number
  readonly headHash: string
  readonly steps: number
  /** The job it was forked from last, and the hash of the last fact that it copied. */
  readonly forkedFrom: { readonly jobId: string; readonly seq: number; readonly hash: string } | null
  readonly contents: Readonly<Record<ContentUse, number>>
  readonly contentBytes: number
  readonly files: boolean
}

export const verify: Command = {
  name: 'verify',
  usage: '<bundle|job>',
  summary: 'Checks every hash of a bundle: events, chain, locks, prompts, trees and files. Needs no server.',
  details: 'Given a job, it checks what the server has of it, without the files unless --files is given.',
  options: { files: { type: 'boolean', help: 'Of a job: the files of its workspace, too.' } },
  arity: [1, 1],
  async perform(call) {
    const count = tally()
    const chunks = await openBundle(call, call.positionals[0] ?? '', { files: call.flag('files') })
    for await (const part of readBundle(chunks)) count.add(part)
    const sum = count.sum()
    call.terminal.write(`${call.json ? JSON.stringify(sum) : printBundle(sum)}\n`)
    return 0
  },
}

/** Counts the parts of a bundle as they are read. */
export function tally(): { add(part: BundlePart): void; sum(): BundleSum } {
  const contents: Record<ContentUse, number> = { lock: 0, prompt: 0, tree: 0, file: 0 }
  let sum: Omit<BundleSum, 'contents'> = {
    jobId: '',
    events: 0,
    headHash: '',
    steps: 0,
    forkedFrom: null,
    contentBytes: 0,
    files: true,
  }
  return {
    add(part) {
      if (part.type === 'bundle') {
        const { jobId, events, headHash, files } = part
        sum = { ...sum, jobId, events, headHash, files }
      } else if (part.type === 'content') for (const use of part.uses) contents[use] += 1
      else if (part.type === 'end') sum = { ...sum, contentBytes: part.bytes }
      else if (part.event.type === 'stepFinished') sum = { ...sum, steps: sum.steps + 1 }
      else if (part.event.type === 'jobForked') {
        const { parentJobId: jobId, parentSeq: seq, parentHash: hash } = part.event.data
        sum = { ...sum, forkedFrom: { jobId, seq, hash } }
      }
    },
    sum: () => ({ ...sum, contents }),
  }
}

export function printBundle({ jobId, events, steps, headHash, contents, contentBytes, files }: BundleSum): string {
  const counted = (count: number, one: string): string => `${count} ${one}${count === 1 ? '' : 's'}`
  const kept = [
    counted(contents.lock, 'lock'),
    counted(contents.prompt, 'prompt'),
    ...(files ? [counted(contents.tree, 'tree'), counted(contents.file, 'file')] : []),
  ]
  return [
    `${jobId}: ${counted(events, 'event')}, ${counted(steps, 'step')}; the chain holds, its head is ${headHash}`,
    `${kept.join(', ')} (${contentBytes} bytes) hash to their names${files ? '' : '; the files were left out'}`,
  ].join('\n')
}
