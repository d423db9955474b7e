/** The README's commands, run as its reader would run them, in its order, against a server that is up. */
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPlatform, type Platform } from '../support/platform.ts'
import { runProgram } from '../support/program.ts'
import { ROOT } from '../support/source.ts'
import { scratchDirectory } from '../support/scratch.ts'

/** Fenced blocks of a language, in order. */
function blocks(text: string, language: string): readonly string[] {
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map(
    ([, block]) => block ?? '',
  )
}

const readme = await readFile(join(ROOT, 'README.md'), 'utf8')
const sibling = await readFile(join(ROOT, 'README.ja.md'), 'utf8')
const hello = await readFile(join(ROOT, 'examples/hello-expert/README.md'), 'utf8')

describe('the READMEs', () => {
  it('show the same commands in both languages', () => {
    const commands = (text: string) => [...blocks(text, 'sh').slice(1), ...blocks(text, 'ts')]
    expect(commands(sibling)).toEqual(commands(readme))
    expect(commands(readme).length).toBeGreaterThan(5)
  })
})

describe('the tour', () => {
  let platform: Platform
  let directory: string
  const port = () => new URL(platform.url).port

  beforeAll(async () => {
    directory = scratchDirectory('reader')
    await mkdir(join(directory, '.senmon'))
    platform = await startPlatform({ directory: join(directory, '.senmon') })
    // A checkout as far as the commands see one, so that the real one stays as it is.
    await mkdir(join(directory, 'node_modules/.bin'), { recursive: true })
    await symlink(join(ROOT, 'bin/senmon.js'), join(directory, 'node_modules/.bin/senmon'))
    await symlink(join(ROOT, 'node_modules/graphql-sse'), join(directory, 'node_modules/graphql-sse'))
    await symlink(join(ROOT, 'examples'), join(directory, 'examples'))
  })
  afterAll(async () => {
    await platform?.stop()
    await rm(directory, { recursive: true, force: true })
  })

  const shell = (script: string) =>
    runProgram('sh', ['-c', script.replaceAll('127.0.0.1:4000', `127.0.0.1:${port()}`)], {
      cwd: directory,
      env: { SENMON_URL: platform.url, npm_config_update_notifier: 'false' },
    })
  const runnable = (script: string) => !/^npm (ci|start)|anthropic\//m.test(script)

  it('works from the first command to the last', { timeout: 240_000 }, async () => {
    const scripts = blocks(readme, 'sh').filter(runnable)
    const commands = scripts.flatMap((script) => script.replaceAll('\\\n', ' ').trim().split('\n'))
    expect(commands.length).toBeGreaterThan(10)
    for (const command of commands) {
      const { code, stdout, stderr } = await shell(command)
      // The team asks before it writes, and here is nobody at the prompt.
      const isAsking = command.includes('run code-reviewer')
      expect({ command, code, stderr: code === 0 ? '' : stderr }).toEqual({
        command,
        code: isAsking ? 5 : 0,
        stderr: isAsking ? stderr : '',
      })
      if (isAsking) await answer(stderr)
      if (command.includes('run my-expert')) expect(stdout).toBe('Hello! It is good to see you here.\n')
      if (command.includes('--verify')) expect(stdout).toContain('the chain holds')
      if (command.startsWith('curl'))
        expect(JSON.parse(stdout)).toMatchObject({ data: { createJob: { status: 'queued' } } })
    }
  })

  async function answer(said: string): Promise<void> {
    const command = /^Answer with: (senmon answer \S+ \S+ yes)$/m.exec(said)?.[1]
    expect(command, said).toBeDefined()
    const { code, stdout, stderr } = await shell(`npx ${command}`)
    expect({ code, stdout, stderr: code === 0 ? '' : stderr }).toMatchObject({ code: 0 })
    expect(stdout).toContain('REPORT.md')
  }

  it('subscribes with the snippet as it stands', async () => {
    const { jobs } = await platform.graphql<{ jobs: { nodes: readonly { id: string }[] } }>(
      '{ jobs(first: 1, expertName: "code-reviewer") { nodes { id } } }',
    )
    const jobId = jobs.nodes[0]?.id
    const head = `import { createClient } from 'graphql-sse'\nconst key = ${JSON.stringify(platform.key)}\nconst jobId = ${JSON.stringify(jobId)}\n`
    const snippet = (blocks(readme, 'ts')[0] ?? '').replaceAll('127.0.0.1:4000', `127.0.0.1:${port()}`)
    await writeFile(join(directory, 'watch.mjs'), head + snippet)
    const { code, stdout } = await runProgram(process.execPath, ['watch.mjs'], { cwd: directory })
    expect(code).toBe(0)
    expect(stdout.match(/stepNumber: 1\b/g)).toHaveLength(2)
  })

  it('has a smallest expert whose own page works, too', async () => {
    for (const command of blocks(hello, 'sh').filter(runnable).join('').trim().split('\n')) {
      const { code, stdout, stderr } = await shell(command)
      expect({ command, code, stderr: code === 0 ? '' : stderr }).toEqual({ command, code: 0, stderr: '' })
      if (command.includes('run hello-expert')) expect(stdout).toBe('Hello, Senmon! It is good to see you here.\n')
    }
  })

  it('leaves nothing written when the human says no', async () => {
    const query = 'Review input/payments.js for security flaws.'
    const file = 'examples/code-review-team/sample/payments.js'
    const asked = await shell(`npx senmon run code-reviewer "${query}" --file ${file}`)
    expect(asked.code).toBe(5)
    const command = /^Answer with: (senmon answer \S+ \S+) yes$/m.exec(asked.stderr)?.[1]
    const { code, stdout } = await shell(`npx ${command} no`)
    expect(code).toBe(0)
    expect(stdout).toContain('I wrote nothing')
    const items = await platform.fetch(`/expert_jobs/${command?.split(' ')[2]}/workspace_instance/items`)
    expect(items.status).toBe(200)
    expect(await items.text()).not.toContain('REPORT.md')
  })
})
