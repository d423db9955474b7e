/** What an image lacks, in words that say what to do. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { lackOf } from '../../runner/machine/fitness.ts'
import { imagePaths, type ImageFacts } from '../../schema/machine-image.ts'
import { scratchDirectory } from '../support/scratch.ts'

let root: string
let image: ImageFacts
beforeEach(() => {
  root = scratchDirectory('fitness')
  const at = (path: string): string => join(root, path)
  image = { arch: 'x64', node: at('node'), bwrap: at('bwrap'), files: at('senmon'), home: at('machine') }
  const { bundle, passwd, preload, libraries } = imagePaths(image)
  for (const path of [image.node, image.bwrap, bundle('supervisor'), bundle('runner'), passwd, preload]) {
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, '', { mode: 0o755 })
  }
  for (const path of [libraries, at('tmp')]) mkdirSync(path)
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

it('is nothing where all is there', () => {
  expect(lackOf(image, join(root, 'tmp'))).toBeUndefined()
})

it.each([
  ['node', 'that is Node'],
  ['bwrap', 'bubblewrap, which makes the compartments'],
  ['tmp', 'bubblewrap begins every compartment on it'],
  ['senmon/runner', 'runner/image/main.ts makes it'],
  ['senmon/supervisor/main.mjs', 'runner/image/main.ts makes it'],
  ['senmon/root', 'runner/image/main.ts makes it'],
  ['senmon/passwd', 'runner/image/main.ts makes it'],
])('names %s', (path, why) => {
  rmSync(join(root, path), { recursive: true })
  const lack = lackOf(image, join(root, 'tmp'))
  expect(lack).toContain(`The image has no ${join(root, path)}`)
  expect(lack).toContain(why)
})
