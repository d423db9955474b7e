/** The tool as a model sees it: what it takes, what it is told, and what comes back. */
import { realpathSync, statSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { McpServer, type CallToolResult, type ServerContext } from '@modelcontextprotocol/server'
import * as z from 'zod'
import { runCommand, type CommandEnd } from './command.ts'

const LINE_CHARACTERS_MAX = 64 * 1024
const TIMEOUT_SECONDS = 120
const TIMEOUT_SECONDS_MAX = 600
/** Whoever waits for the result hears this often that the command is still running. */
const BEAT_MS = 10_000

export interface ShellOptions {
  readonly version: string
  /** A real path. */
  readonly workspace: string
  readonly shell: string
  readonly environment: Readonly<Record<string, string>>
  /** Tells this server's commands from those of others. */
  readonly mark: string
}

export function shellServer(options: ShellOptions): McpServer {
  const server = new McpServer({ name: '@senmon/shell', version: options.version }, { capabilities: { tools: {} } })
  let last: Promise<unknown> = Promise.resolve()
  let count = 0
  server.registerTool(
    'exec',
    {
      description:
        'Runs one line of shell in the workspace and returns what it wrote, stdout and stderr together. ' +
        'There is no network and no input to type. Whatever it leaves running is ended when the line ends.',
      annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: false },
      inputSchema: z.object({
        command: z.string().min(1).max(LINE_CHARACTERS_MAX).describe('A line of shell, like: ls -l && wc -l *.md'),
        cwd: z.string().max(4096).default('.').describe('The directory to run in, relative to the workspace.'),
        timeoutSeconds: z.int().min(1).max(TIMEOUT_SECONDS_MAX).default(TIMEOUT_SECONDS),
      }),
    },
    async ({ command: line, cwd, timeoutSeconds }, context) => {
      const directory = placeOf(options.workspace, cwd)
      if (directory === undefined)
        return refusal(`${JSON.stringify(cwd)} is no directory in the workspace; use a path relative to it.`)
      // One at a time: what a line leaves running is ended with it, and must not be another's.
      const { signal } = context.mcpReq
      const mark = `${options.mark}.${count++}`
      const { shell, environment } = options
      const run = last.then(() =>
        runCommand({ shell, line, directory, environment, timeoutMs: timeoutSeconds * 1000, signal, mark }),
      )
      last = run
      return resultOf(await beating(context, run), timeoutSeconds)
    },
  )
  return server
}

/** The real path of a directory within the workspace. */
function placeOf(workspace: string, cwd: string): string | undefined {
  try {
    const place = realpathSync(isAbsolute(cwd) ? cwd : join(workspace, cwd))
    const isInside = place === workspace || place.startsWith(`${workspace}/`)
    return isInside && statSync(place).isDirectory() ? place : undefined
  } catch {
    return undefined
  }
}

/** Says progress until `run` has ended. */
async function beating(context: ServerContext, run: Promise<CommandEnd>): Promise<CommandEnd> {
  const progressToken = context.mcpReq._meta?.progressToken
  if (progressToken === undefined) return await run
  let progress = 0
  const timer = setInterval(() => {
    progress += 1
    context.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress } }).catch(() => {})
  }, BEAT_MS)
  try {
    return await run
  } finally {
    clearInterval(timer)
  }
}

function resultOf(end: CommandEnd, timeoutSeconds: number): CallToolResult {
  if (end.fault !== null) return refusal(`The shell did not start: ${end.fault}.`)
  const isFine = end.exitCode === 0 && end.cut === null
  const ending = endingOf(end, timeoutSeconds)
  const output = end.output === '' || end.output.endsWith('\n') ? end.output : `${end.output}\n`
  const text = isFine && output !== '' ? output : `${output}[${ending}]`
  return { content: [{ type: 'text', text }], isError: !isFine }
}

function endingOf({ cut, exitCode, signal }: CommandEnd, timeoutSeconds: number): string {
  if (cut === 'timeout') return `ended after ${timeoutSeconds} s, with all that it had started`
  if (cut === 'canceled') return 'canceled'
  return exitCode === null ? `ended by ${signal}` : `exit code ${exitCode}`
}

function refusal(text: string): CallToolResult {
  return { content: [{ type: 'text', text }], isError: true }
}
