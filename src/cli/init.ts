/** `senmon init`: a package that publishes and runs as it is. */
import { mkdir, writeFile } from 'node:fs/promises'
import { basename, join, relative, resolve } from 'node:path'
import { EDITOR_SCHEMA_NAME, printEditorSchema } from '../../schema/editor-schema.ts'
import { PlatformError } from '../../schema/error.ts'
import { parseExpertKey } from '../../schema/expert-key.ts'
import { EXPERT_KEYWORD } from '../../schema/expert-package.ts'
import type { Command } from './command.ts'

export const init: Command = {
  name: 'init',
  usage: '[directory]',
  summary:
    'Writes senmon.toml with its schema for editors, package.json and a rehearsal: an expert that publishes and runs as it is.',
  details: 'Its package.json names the registry of the server, so that npm never publishes it to another.',
  options: { name: { type: 'string', value: 'name', help: "The package's name; else the directory's." } },
  arity: [0, 1],
  async perform(call) {
    const directory = resolve(call.directory, call.positionals[0] ?? '.')
    const name = call.text('name') ?? basename(directory).toLowerCase()
    const key = parseExpertKey(name)
    if (key === undefined || key.member !== undefined || key.spec !== undefined)
      throw new PlatformError('input_invalid', `"${name}" is not the name of an npm package; give one with --name.`)
    const registry = `${call.url()}/npm/`
    const files = packageFiles(name, registry)
    await mkdir(join(directory, 'rehearsals'), { recursive: true })
    for (const [path, content] of Object.entries(files)) {
      try {
        await writeFile(join(directory, path), content, { flag: 'wx' })
      } catch (cause) {
        if (cause instanceof Error && 'code' in cause && cause.code === 'EEXIST')
          throw new PlatformError('input_invalid', `${join(directory, path)} exists; nothing is overwritten.`, {
            cause,
          })
        throw cause
      }
    }
    const paths = Object.keys(files).map((path) => relative(call.directory, join(directory, path)))
    if (call.json) call.terminal.write(`${JSON.stringify({ name, files: paths })}\n`)
    else
      call.terminal.write(
        `${paths.map((path) => `wrote ${path}`).join('\n')}\n\n` +
          `package.json names ${registry}, so that npm publish publishes there and nowhere else. ` +
          `Then: senmon run ${name} "Hello"\n`,
      )
    return 0
  },
}

/** Without its `publishConfig`, npm would publish to the registry that its user has set: the public one, as a rule. */
function packageFiles(name: string, registry: string): Readonly<Record<string, string>> {
  const manifest = {
    name,
    version: '0.1.0',
    description: 'An expert that answers a greeting.',
    keywords: [EXPERT_KEYWORD],
    license: 'UNLICENSED',
    files: ['senmon.toml', 'rehearsals'],
    publishConfig: { registry },
  }
  return {
    'package.json': `${JSON.stringify(manifest, undefined, 2)}\n`,
    'senmon.toml': printExpertFile(name),
    [EDITOR_SCHEMA_NAME]: printEditorSchema(),
    'rehearsals/hello.toml': REHEARSAL,
  }
}

function printExpertFile(name: string): string {
  return `#:schema ./${EDITOR_SCHEMA_NAME}
# A rehearsal plays recorded turns, offline. Name a real model when you are ready: "anthropic/claude-sonnet-4-5".
model = "rehearsal/hello"

[experts."${name}"]
version = "0.1.0"
description = "Answers a greeting. Give it one."
instruction = """
Greet the user in one sentence.
"""
`
}

const REHEARSAL = `# Recorded turns: the first that fits is played. docs/rehearsals.md says what a turn may hold.
[[turns]]
text = "Hello! It is good to see you here."
`
