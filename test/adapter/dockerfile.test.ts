/** The image of machines as far as it can be tried without an engine: that what is copied is there, and is enough. */
import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
import { IMAGE, imagePaths } from '../../schema/machine-image.ts'
import { programPath } from '../support/program.ts'
import { sandboxMissing } from '../support/sandbox.ts'
import { ROOT } from '../support/source.ts'
import { scratchDirectory } from '../support/scratch.ts'

const missing = await sandboxMissing()
const run = promisify(execFile)
const made: string[] = []
afterEach(() => {
  for (const directory of made.splice(0)) rmSync(directory, { recursive: true, force: true })
})

interface Instruction {
  readonly word: string
  readonly text: string
}

/** Each with its continued lines joined; comments are none. */
function instructionsOf(file: string): readonly Instruction[] {
  const text = readFileSync(join(ROOT, file), 'utf8')
    .replaceAll(/^#.*\n/gm, '')
    .replaceAll('\\\n', ' ')
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => ({ word: line.split(' ')[0] ?? '', text: line.slice(line.indexOf(' ') + 1).replaceAll(/ +/g, ' ') }))
}

/** Sources of the repository that go into the build. */
const copied = (all: readonly Instruction[]): readonly string[] =>
  all
    .filter(({ word, text }) => word === 'COPY' && !text.startsWith('--from='))
    .flatMap(({ text }) => text.split(' ').slice(0, -1))

/** What `node` is given in the build: our own program, which makes the files. */
function programOf(all: readonly Instruction[]): readonly string[] {
  const line = all.find(({ word, text }) => word === 'RUN' && text.includes('main.ts'))?.text ?? ''
  return line.slice(line.lastIndexOf('node ') + 'node '.length).split(' ')
}

describe('the image of machines', () => {
  const all = instructionsOf('runner/image/Dockerfile')

  it('copies what is there, and nothing that the engine is not sent', () => {
    const ignored = readFileSync(join(ROOT, 'runner/image/Dockerfile.dockerignore'), 'utf8').trim().split('\n')
    expect(ignored[0]).toBe('*')
    expect(copied(all).length).toBeGreaterThan(3)
    for (const source of copied(all)) {
      expect([source, existsSync(join(ROOT, source))]).toEqual([source, true])
      expect(ignored).toContain(`!${source}`)
    }
    const stages = all.flatMap(({ word, text }) => (word === 'FROM' ? [/ AS (\w+)/.exec(text)?.[1]] : []))
    for (const { word, text } of all)
      if (word === 'COPY' && text.startsWith('--from=')) expect(stages).toContain(/--from=(\w+)/.exec(text)?.[1])
  })

  it('runs no script of a package but esbuild’s, and lets nobody become root by bubblewrap', () => {
    const runs = all.filter(({ word }) => word === 'RUN').map(({ text }) => text)
    expect(runs.filter((text) => text.includes('npm ')).every((text) => text === 'npm ci --ignore-scripts')).toBe(true)
    expect(runs.at(-1)).toContain('chmod u-s /usr/bin/bwrap')
    expect(all.at(-1)?.word).toBe('ENTRYPOINT')
    for (const { word, text } of all) if (word === 'ENV' || word === 'ARG') expect(text).not.toMatch(/TOKEN|KEY|SECRET/)
  })

  it.skipIf(missing !== undefined)('is made of what is copied alone', async () => {
    const directory = scratchDirectory('image')
    made.push(directory)
    const source = join(directory, 'source')
    mkdirSync(source)
    const isSent = (path: string): boolean => !['node_modules', 'dist'].includes(basename(path))
    for (const path of copied(all)) cpSync(join(ROOT, path), join(source, path), { recursive: true, filter: isSent })
    symlinkSync(join(ROOT, 'node_modules'), join(source, 'node_modules'))
    const [script = '', target = ''] = programOf(all)
    const output = join(directory, 'output')
    const fresh = { cwd: source, env: { PATH: programPath() } }
    await run(process.execPath, [script, output], fresh)
    // Everything that the last stage names is in what was copied into it.
    const entry = JSON.parse(all.at(-1)?.text ?? '') as readonly string[]
    const inImage = (path: string): string => join(output, path.slice(target.length))
    for (const path of entry) if (path.startsWith(`${target}/`)) expect(existsSync(inImage(path))).toBe(true)
    // It was made for where it is copied to, and everything that a machine is told of is there.
    const { bundle, cache, passwd, preload, libraries } = imagePaths(IMAGE)
    expect(target).toBe(IMAGE.files)
    const files = [bundle('machine'), bundle('supervisor'), bundle('runner'), cache('supervisor'), cache('runner')]
    for (const path of [...files, passwd, preload, `${libraries}/lib`, `${libraries}/lib64`])
      expect([path, existsSync(inImage(path))]).toEqual([path, true])
    expect(entry).toEqual([IMAGE.node, '--max-old-space-size=256', bundle('machine')])
    // A container has files of its own mounted there, and its root is read-only.
    const { workspace, input, packages } = imagePaths(IMAGE)
    expect(all.filter(({ word }) => word === 'RUN').at(-1)?.text).toContain(
      `mkdir -p ${workspace} ${input} ${packages}`,
    )
  })
})
