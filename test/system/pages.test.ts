/** The pages of docs: every command in them, run as a reader would who has come to the end of the README. */
import { cp, mkdir, readdir, readFile, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { npmPublish, startLightly, type Platform } from '../support/platform.ts'
import { runProgram } from '../support/program.ts'
import { sandboxMissing } from '../support/sandbox.ts'
import { lastBlock, readShellPage } from '../support/shell-page.ts'
import { ROOT } from '../support/source.ts'
import { scratchDirectory } from '../support/scratch.ts'

const missing = await sandboxMissing()
const pages = await Promise.all(
  (await readdir(join(ROOT, 'docs')))
    .filter((name) => name.endsWith('.md'))
    .map(async (name) => ({ name, page: readShellPage(await readFile(join(ROOT, 'docs', name), 'utf8')) })),
)

describe('a page', () => {
  const page = ['# A', '```toml', '```', '```sh', 'a=1', '```', '<!-- not run: no key here -->', '```sh', 'b', '```']

  it('is one script of its sh blocks, without those that say why they are not run', () => {
    const { script, blocks, left } = readShellPage(page.join('\n'))
    expect(script).toBe("set -eu\necho '#block 4' >&2\na=1\n")
    expect({ blocks, left }).toEqual({ blocks: [4], left: [{ line: 8, reason: 'no key here' }] })
    expect(lastBlock('x\n#block 4\nit broke\n')).toEqual({ line: 4, said: 'it broke\n' })
  })

  it('is refused when a block never ends, or is left out for no reason', () => {
    expect(() => readShellPage('```sh\na')).toThrow('never ends')
    expect(() => readShellPage('<!-- not run: -->\n```sh\na\n```')).toThrow('does not say why')
  })
})

describe.skipIf(missing !== undefined)('the commands of', () => {
  let platform: Platform
  const directories: string[] = []

  beforeAll(async () => {
    platform = await startLightly()
    for (const name of ['risk-scan', 'security-analyst', 'code-reviewer'])
      await npmPublish(platform, join(ROOT, 'examples/code-review-team', name))
    await npmPublish(platform, join(ROOT, 'examples/hello-expert'))
  })
  afterAll(async () => {
    await platform?.stop()
    for (const directory of directories) await rm(directory, { recursive: true, force: true })
  })

  /** A checkout as far as the commands see one, so that the real one stays as it is. */
  async function openCheckout(): Promise<string> {
    const directory = scratchDirectory('page')
    directories.push(directory)
    await mkdir(join(directory, '.senmon'))
    await cp(join(platform.dataDirectory, 'dev-key'), join(directory, '.senmon/dev-key'))
    await mkdir(join(directory, 'node_modules/.bin'), { recursive: true })
    await symlink(join(ROOT, 'bin/senmon.js'), join(directory, 'node_modules/.bin/senmon'))
    for (const name of ['examples', 'docs']) await cp(join(ROOT, name), join(directory, name), { recursive: true })
    return directory
  }

  it.each(pages.filter(({ page }) => page.blocks.length > 0))('docs/$name work', { timeout: 300_000 }, async (one) => {
    const directory = await openCheckout()
    const { host } = new URL(platform.url)
    const script = [
      `printf 'registry=http://${host}/npm/\\n//${host}/npm/:_authToken=%s\\n' "$(cat .senmon/dev-key)" > .senmon/npmrc`,
      one.page.script.replaceAll('127.0.0.1:4000', host),
    ].join('\n')
    const { code, stderr } = await runProgram('sh', ['-c', script], {
      cwd: directory,
      env: { SENMON_URL: platform.url, npm_config_update_notifier: 'false' },
    })
    const { line, said } = lastBlock(stderr)
    expect({ code, line: code === 0 ? line : `docs/${one.name}:${line}`, said: code === 0 ? '' : said }).toEqual({
      code: 0,
      line: one.page.blocks.at(-1),
      said: '',
    })
  })
})
