/** Bundles as a stranger may hand them over: whatever was changed in one is found, and named. */
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  contentLines,
  printBundleLine,
  readBundle,
  UNBOUNDED,
  type BundleLine,
  type BundleLimits,
  type BundlePart,
} from '../../schema/bundle.ts'
import { chain, genesisHash, type JobEvent, type NewEvent } from '../../schema/event.ts'
import { canonical, sha256, type Sha256 } from '../../schema/hash.ts'
import type { JobId } from '../../schema/id.ts'
import { printTree, type TreeEntry } from '../../schema/tree.ts'
import { jobIdOf } from '../job/given.ts'
import type { Process } from '../attempt/attempt-world.ts'
import { chunksOf, LOCK, runBundledJob, type BundledJob } from '../support/bundled-job.ts'

const open: Process[] = []
let job: BundledJob
let text: string
beforeAll(async () => {
  job = await runBundledJob((process) => open.push(process))
  text = await job.text()
})
afterAll(async () => {
  for (const process of open) await process.attempts.close()
})

async function read(
  bundle: string | Uint8Array,
  limits: BundleLimits = UNBOUNDED,
  size?: number,
): Promise<readonly BundlePart[]> {
  const parts: BundlePart[] = []
  for await (const part of readBundle(chunksOf(bundle, size), limits)) parts.push(part)
  return parts
}
/** What is wrong with a bundle, or "nothing". */
async function faultIn(bundle: string | Uint8Array, limits?: BundleLimits): Promise<string> {
  try {
    await read(bundle, limits)
    return 'nothing'
  } catch (error) {
    if (error instanceof Error && 'code' in error) return `${String(error.code)}: ${error.message}`
    throw error
  }
}

const linesOf = (bundle: string): string[] => bundle.split('\n').slice(0, -1)
const joined = (lines: readonly string[]): string => lines.map((line) => `${line}\n`).join('')

describe('a bundle', () => {
  it('gives back the events and the content that it was made of, however its bytes arrive', async () => {
    for (const size of [1, 7, 100_000]) {
      const parts = await read(text, UNBOUNDED, size)
      const given = parts.flatMap((part) => (part.type === 'event' ? [part.event] : []))
      expect(given).toEqual(job.events)
      // In the order in which members were written, too: the title of a question hangs on it.
      const dataOf = (events: readonly JobEvent[]) => events.map(({ data }) => JSON.stringify(data))
      expect(dataOf(given)).toEqual(dataOf(job.events))
      for (const part of parts)
        if (part.type === 'content')
          expect(Buffer.from(part.bytes)).toEqual(Buffer.from(await job.content.get(part.hash)))
      const uses = parts.flatMap((part) => (part.type === 'content' ? part.uses : []))
      expect(uses.toSorted()).toEqual(['file', 'lock', 'prompt', 'prompt', 'tree'])
      expect(parts.at(-1)).toMatchObject({ type: 'end', contents: 5 })
    }
  })

  it('without its files holds the rest, and says so', async () => {
    const parts = await read(await job.text({ files: false }))
    expect(parts[0]).toMatchObject({ type: 'bundle', files: false })
    expect(parts.flatMap((part) => (part.type === 'content' ? part.uses : [])).toSorted()).toEqual([
      'lock',
      'prompt',
      'prompt',
    ])
  })

  it('holds a content of many pieces', async () => {
    const bytes = new Uint8Array(2.5 * 1024 * 1024).map((_, i) => i % 251)
    expect([...contentLines(sha256(bytes), bytes)].map((line) => line.type === 'content' && line.last)).toEqual([
      false,
      false,
      true,
    ])
    expect(await faultIn(made({ 'a.bin': bytes }))).toBe('nothing')
    expect(await faultIn(made({ empty: new Uint8Array() }))).toBe('nothing')
  })

  it('is handed over part by part, each before more is read than its own line (BU3)', async () => {
    let lines = 0
    async function* oneByOne(): AsyncGenerator<Uint8Array, void, void> {
      for (const line of linesOf(text)) {
        lines += 1
        yield new TextEncoder().encode(`${line}\n`)
      }
    }
    let parts = 0
    for await (const part of readBundle(oneByOne())) {
      parts += 1
      expect([part.type, lines]).toEqual([part.type, parts])
    }
    expect(parts).toBe(linesOf(text).length)
  })

  it('shows any changed byte, and names what it is in (BU1)', async () => {
    const bytes = new TextEncoder().encode(text)
    const starts = linesOf(text).map((_, i, all) => Buffer.byteLength(joined(all.slice(0, i))))
    // Aimed: a line first, so that the few short ones are hit as often as the long ones.
    const place = fc.nat(starts.length - 1).chain((line) => {
      const end = (starts[line + 1] ?? bytes.length) - 1
      return fc.integer({ min: starts[line] ?? 0, max: end })
    })
    await fc.assert(
      fc.asyncProperty(place, fc.integer({ min: 1, max: 255 }), async (at, change) => {
        const changed = Uint8Array.from(bytes)
        changed[at] = (changed[at] ?? 0) ^ change
        expect(await faultIn(changed)).toMatch(
          /^bundle_invalid: .*(Event \d+|Content [0-9a-f]{64}|Line \d+|bundle breaks off)/,
        )
      }),
      { numRuns: 1000 },
    )
  })

  it('shows a line that is left out, doubled or moved, and a bundle that breaks off anywhere (BU1)', async () => {
    const lines = linesOf(text)
    for (const [i, line] of lines.entries()) {
      expect(await faultIn(joined(lines.toSpliced(i, 1))), `without line ${i + 1}`).toMatch(/^bundle_invalid/)
      expect(await faultIn(joined(lines.toSpliced(i, 0, line))), `line ${i + 1} twice`).toMatch(/^bundle_invalid/)
    }
    await fc.assert(
      fc.asyncProperty(fc.nat(Buffer.byteLength(text) - 1), async (length) => {
        expect(await faultIn(new TextEncoder().encode(text).subarray(0, length))).toMatch(/^bundle_invalid/)
      }),
      { numRuns: 300 },
    )
  })

  it('shows any changed byte when its end was made to fit, too (BU1)', async () => {
    const lines = linesOf(text).slice(0, -1)
    const place = fc
      .nat(lines.length - 1)
      .chain((line) => fc.tuple(fc.constant(line), fc.nat((lines[line]?.length ?? 1) - 1)))
    await fc.assert(
      fc.asyncProperty(place, fc.integer({ min: 1, max: 127 }), async ([line, at], change) => {
        const old = lines[line] ?? ''
        const code = old.charCodeAt(at)
        const changed = `${old.slice(0, at)}${String.fromCharCode(code ^ change)}${old.slice(at + 1)}`
        expect(await faultIn(ended(joined(lines.with(line, changed)), 5))).toMatch(/^bundle_invalid/)
      }),
      { numRuns: 1000 },
    )
    // Two spellings of one byte: the last has bits that mean nothing.
    const one = made({ a: new TextEncoder().encode('a') })
    const resealed = linesOf(one.replace('"YQ=="', '"YR=="')).slice(0, -1)
    expect(await faultIn(ended(joined(resealed), 3))).toMatch(/Content [0-9a-f]{64} is not base64/)
  })

  it('shows members that changed places, which no hash of a value would (BU1)', async () => {
    const swapped = text.replace('"zone":"z","change":"c"', '"change":"c","zone":"z"')
    expect(swapped).not.toBe(text)
    expect(await faultIn(swapped)).toMatch(/^bundle_invalid: Line \d+ .* do not hash to what it says/)
  })

  it('names the event whose words were changed and hashed anew (BU1)', async () => {
    const at = job.events.findIndex(({ type }) => type === 'generated')
    const forged = chain(job.jobId, at, job.events[at - 1]?.hash ?? genesisHash(job.jobId), 5, [
      { ...job.events[at], data: { ...job.events[at]?.data, finishReason: 'forged' } } as NewEvent,
    ])[0] as JobEvent
    const lines = linesOf(text)
    const { v, jobId, seq, type, runId, expertKey, stepNumber, at: moment, data, prevHash, hash } = forged
    const event = { v, jobId, seq, type, runId, expertKey, stepNumber, at: moment, data, prevHash, hash }
    lines[at + 1] = printBundleLine({ type: 'event', event }).trimEnd()
    expect(await faultIn(joined(lines))).toMatch(new RegExp(`Event ${at + 2} does not follow`))
  })

  it('holds what is named, all of it and once, and nothing else (BU2)', async () => {
    const stray = new TextEncoder().encode('of nobody')
    const more = [...contentLines(sha256(stray), stray)].map((line) => printBundleLine(line).trimEnd())
    const lines = linesOf(text)
    const end = lines.length - 1
    expect(await faultIn(joined(lines.toSpliced(end, 0, ...more)))).toMatch(/is named by nothing before it/)
    const content = lines.findIndex((line) => line.startsWith('{"type":"content"'))
    expect(await faultIn(joined(lines.toSpliced(end, 0, lines[content] ?? '')))).toMatch(/comes twice/)
    expect(await faultIn(joined(lines.toSpliced(content, 1)))).toMatch(/a lock named by event 1, is missing/)
  })

  it.each(['..', '.', 'a/b', '', 'a\u0000b', 'x\u202etxt', 'a\\b', '/etc'])(
    'holds no tree with the name %j',
    async (name) => {
      expect(await faultIn(made({ [name]: new Uint8Array(1) }))).toMatch(/is no tree/)
    },
  )

  it('holds no tree that is other than it says (BU4)', async () => {
    const file: TreeEntry = { type: 'file', name: 'a', hash: sha256('a'), sizeBytes: 2, executable: false }
    expect(await faultIn(made({}, [file], ['a']))).toMatch(/not the size/)
    expect(
      await faultIn(
        made(
          {},
          [
            { ...file, sizeBytes: 1 },
            { ...file, sizeBytes: 1 },
          ],
          ['a'],
        ),
      ),
    ).toMatch(/twice/)
    const missing: TreeEntry = { type: 'directory', name: 'a', hash: sha256('nothing') }
    expect(await faultIn(made({}, [missing]))).toMatch(/a tree named by a in the tree .*, is missing/)
  })

  it('holds no tree that few objects make large (BU4)', async () => {
    const trees: string[] = []
    let below = printTree([{ type: 'file', name: 'a', hash: sha256('a'), sizeBytes: 1, executable: false }])
    for (let level = 0; level < 20; level++) {
      trees.unshift(below.text)
      const { hash } = below
      below = printTree(['l', 'r'].map((name) => ({ type: 'directory', name, hash }) as const))
    }
    expect(await faultIn(madeOf(below.text, [...trees, 'a']))).toMatch(/larger than a workspace may be/)
    const deep = ['a']
    let one = printTree([{ type: 'file', name: 'a', hash: sha256('a'), sizeBytes: 1, executable: false }])
    for (let level = 0; level < 40; level++) {
      deep.unshift(one.text)
      one = printTree([{ type: 'directory', name: 'd', hash: one.hash }])
    }
    expect(await faultIn(madeOf(one.text, deep))).toMatch(/deeper than|larger than/)
  })

  it('holds locks and prompts that are such', async () => {
    const generated = { ...job.events.find(({ type }) => type === 'generated') } as Extract<
      JobEvent,
      { type: 'generated' }
    >
    const withPrompt = (prompt: string) =>
      bundleOf(
        jobIdOf(1),
        [created(canonical(LOCK)), { ...generated, data: { ...generated.data, promptHash: sha256(prompt) } }],
        [canonical(LOCK), prompt],
      )
    expect(await faultIn(withPrompt('{"instruction":"Do.","tools":[]}'))).toBe('nothing')
    expect(await faultIn(withPrompt('{"instruction":"Do."}'))).toMatch(/is no prompt: tools/)
    expect(await faultIn(withPrompt('{"tools":[],"instruction":"Do."}'))).toMatch(
      /is no prompt: it is not the one text/,
    )
    const [lead] = Object.values(LOCK.experts)
    const robbed = {
      ...LOCK,
      experts: { [LOCK.coordinator]: { ...lead, skills: { files: { type: 'mcpStdioSkill' } } } },
    }
    for (const lock of ['[]', '{}', '7', canonical(robbed), canonical({ ...LOCK, coordinator: 'constructor' })])
      expect(await faultIn(bundleOf(jobIdOf(1), [created(lock)], [lock]))).toMatch(/is no lock/)
  })

  it('is refused when an event of it is of a shape that no fold expects', async () => {
    const started = { ...job.events.find(({ type }) => type === 'runStarted') } as JobEvent
    const bad: readonly (readonly [NewEvent, RegExp])[] = [
      [{ ...started, data: { query: 7 } } as never, /Event 2 is no runStarted: it is wrong at data/],
      [{ ...started, runId: 'nobody' } as never, /Event 2 is no runStarted/],
      [created(canonical(LOCK)), /Event 2 stands where no job is created/],
      [
        { ...created('x'), type: 'jobFinished', data: { outcome: 'completed', reason: 'x' } } as never,
        /Event 2 is no jobF/,
      ],
      [{ ...created('x'), type: 'jobRested', data: { questionIds: 7 } } as never, /Event 2 is no jobRested/],
    ]
    const lock = canonical(LOCK)
    for (const [event, why] of bad)
      expect(await faultIn(bundleOf(jobIdOf(1), [created(lock), event], [lock]))).toMatch(why)
    const owned = { ...created(lock), data: { ...created(lock).data, id: jobIdOf(2) } } as unknown as NewEvent
    expect(await faultIn(bundleOf(jobIdOf(1), [owned], [lock]))).toMatch(/Event 1 is no jobCreated/)
  })

  it('may hold an event of a type that is not known yet, for whoever only looks', async () => {
    const lock = canonical(LOCK)
    const bundle = bundleOf(
      jobIdOf(1),
      [created(lock), { ...created(lock), type: 'jobSang', data: {} } as never],
      [lock],
    )
    expect(await faultIn(bundle)).toBe('nothing')
    expect(await faultIn(bundle, { ...UNBOUNDED, unknownEvents: false })).toMatch(/Event 2 is of a type/)
  })

  it('is bounded where its reader says so', async () => {
    expect(await faultIn(text, { ...UNBOUNDED, bytes: 1000 })).toMatch(/^input_too_large/)
    expect(await faultIn(text, { ...UNBOUNDED, eventBytes: 1000 })).toMatch(/^input_too_large/)
    expect(await faultIn(`${'x'.repeat(9 * 1024 * 1024)}\n`)).toMatch(
      /^bundle_invalid: Line 1 .*longer than \d+ bytes\.$/,
    )
  })
})

function created(lock: string): NewEvent {
  return {
    v: 1,
    type: 'jobCreated',
    runId: null,
    expertKey: null,
    stepNumber: null,
    data: {
      expertKey: LOCK.coordinator,
      query: 'the query',
      userId: null,
      model: null,
      maxSteps: null,
      lockHash: sha256(lock),
      inputTreeHash: null,
    },
  }
}

/** A bundle of any events and contents, in that order, with every hash as it must be. */
function bundleOf(jobId: JobId, events: readonly NewEvent[], contents: readonly (string | Uint8Array)[]): string {
  const chained = chain(jobId, 0, genesisHash(jobId), 1000, events)
  const lines: BundleLine[] = [
    {
      type: 'bundle',
      format: 1,
      jobId,
      events: chained.length,
      headHash: chained.at(-1)?.hash ?? ('' as Sha256),
      files: true,
    },
    ...chained.map((event) => {
      const { v, seq, type, runId, expertKey, stepNumber, at, data, prevHash, hash } = event
      return {
        type: 'event',
        event: { v, jobId, seq, type, runId, expertKey, stepNumber, at, data, prevHash, hash },
      } as const
    }),
    ...contents.flatMap((content) => {
      const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content
      return [...contentLines(sha256(bytes), bytes)]
    }),
  ]
  return ended(lines.map(printBundleLine).join(''), contents.length)
}

/** Lines with the end that fits them. */
function ended(lines: string, contents: number): string {
  return `${lines}${printBundleLine({ type: 'end', contents, hash: sha256(lines) })}`
}

/** A bundle of a job whose workspace is this tree object; contents follow it. */
function madeOf(tree: string, contents: readonly (string | Uint8Array)[]): string {
  const lock = canonical(LOCK)
  const changed = { ...created(lock), type: 'workspaceChanged', data: { treeHash: sha256(tree) } } as NewEvent
  return bundleOf(jobIdOf(1), [created(lock), changed], [lock, tree, ...contents])
}

function made(
  files: Readonly<Record<string, Uint8Array>>,
  more: readonly TreeEntry[] = [],
  contents: readonly string[] = [],
): string {
  const own = Object.entries(files).map(([name, bytes]): TreeEntry => ({
    type: 'file',
    name,
    hash: sha256(bytes),
    sizeBytes: bytes.length,
    executable: false,
  }))
  return madeOf(printTree([...own, ...more]).text, [...Object.values(files), ...contents])
}
