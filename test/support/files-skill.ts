/** The built files skill as a process, spoken to by either generation of MCP client. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Client as ClientV2 } from '@modelcontextprotocol/client'
import { StdioClientTransport as TransportV2 } from '@modelcontextprotocol/client/stdio'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/stdio.js'
import * as z from 'zod'

export const BUNDLE = fileURLToPath(new URL('../../plugins/files/dist/main.js', import.meta.url))
export const GENERATIONS = ['v1', 'v2', 'v2, 2026-07-28'] as const
export type Generation = (typeof GENERATIONS)[number]

const toolResult = z.object({
  isError: z.boolean().optional(),
  content: z.array(
    z.object({
      type: z.string(),
      text: z.string().optional(),
      data: z.string().optional(),
      mimeType: z.string().optional(),
    }),
  ),
})

export interface Returned {
  readonly text: string
  readonly isError: boolean
  readonly content: z.infer<typeof toolResult>['content']
}

const toolList = z.object({
  tools: z.array(
    z.object({
      name: z.string(),
      description: z.string(),
      inputSchema: z.looseObject({ type: z.literal('object') }),
      annotations: z.looseObject({ readOnlyHint: z.boolean(), destructiveHint: z.boolean().optional() }),
    }),
  ),
})

export interface FilesSkill {
  readonly call: (name: string, args?: Record<string, unknown>) => Promise<Returned>
  readonly tools: () => Promise<z.infer<typeof toolList>['tools']>
  readonly close: () => Promise<void>
}

export async function buildSkills(): Promise<void> {
  await promisify(execFile)(process.execPath, [fileURLToPath(new URL('../../plugins/build.ts', import.meta.url))])
}

export interface OpenSkill {
  readonly workspace: string
  readonly generation?: Generation
  readonly bundle?: string
  /** Options of Node, before the bundle. */
  readonly nodeArgs?: readonly string[]
}

export async function openFilesSkill(options: OpenSkill): Promise<FilesSkill> {
  const { workspace, generation = 'v2', bundle = BUNDLE, nodeArgs = [] } = options
  const command = { command: process.execPath, args: [...nodeArgs, bundle], env: { SENMON_WORKSPACE: workspace } }
  const client = generation === 'v1' ? await openV1(command) : await openV2(command, generation !== 'v2')
  return {
    call: async (name, args = {}) => {
      const { isError = false, content } = toolResult.parse(await client.callTool({ name, arguments: args }))
      return { text: content.map((part) => part.text ?? '').join(''), isError, content }
    },
    tools: async () => toolList.parse(await client.listTools()).tools,
    close: async () => await client.close(),
  }
}

type Command = ConstructorParameters<typeof TransportV1>[0]

async function openV1(command: Command): Promise<ClientV1> {
  const client = new ClientV1({ name: 'test', version: '1.0.0' })
  await client.connect(new TransportV1(command))
  return client
}

async function openV2(command: Command, newest: boolean): Promise<ClientV2> {
  const versionNegotiation = newest ? { versionNegotiation: { mode: { pin: '2026-07-28' } as const } } : {}
  const client = new ClientV2({ name: 'test', version: '1.0.0' }, versionNegotiation)
  await client.connect(new TransportV2(command))
  return client
}
