/** The tools as a model sees them: names, what each takes, what it is told, and what each may do. */
import { McpServer, type CallToolResult, type ToolAnnotations } from '@modelcontextprotocol/server'
import * as z from 'zod'
import type { JsonObject } from '../../schema/json.ts'
import type { AnswerCall } from './direct-calls.ts'
import { everywhere, find, list, MATCHES_MAX, search } from './looking.ts'
import { FileRefusal, parseWorkspacePath, type WorkspacePath } from './path.ts'
import { describe, describePdf, READ_BYTES_MAX, READ_LINES_MAX, readImage, readLines } from './reading.ts'
import { errno, Root } from './root.ts'
import { appendFile, editFile, makeDirectory, move, remove, writeFile } from './writing.ts'

const READS: ToolAnnotations = { readOnlyHint: true, openWorldHint: false }
const ADDS: ToolAnnotations = { readOnlyHint: false, destructiveHint: false, openWorldHint: false }
const CHANGES: ToolAnnotations = { readOnlyHint: false, destructiveHint: true, openWorldHint: false }

const path = z.string().max(4096).describe('Relative to the workspace, like src/main.ts.')

/**
 * The tools, as a server and as what answers a call by itself. `root` is a real path; `names` are the paths that a model
 * may write for it. One for each connection.
 */
export function fileServer(
  version: string,
  root: string,
  names: readonly string[],
): { readonly server: McpServer; readonly answer: AnswerCall } {
  const server = new McpServer({ name: '@senmon/files', version }, { capabilities: { tools: {} } })
  const tools = new FileTools(server, new Root(root), names)
  addReading(tools)
  addLooking(tools)
  addWriting(tools)
  return { server, answer: (name, args) => tools.answer(name, args) }
}

interface ToolText {
  readonly description: string
  readonly annotations: ToolAnnotations
}

type Answer = string | CallToolResult

class FileTools {
  readonly root: Root
  readonly #server: McpServer
  readonly #names: readonly string[]
  /** What performs a call, or undefined for arguments that its tool does not take. */
  readonly #calls = new Map<string, (args: JsonObject) => Promise<CallToolResult> | undefined>()
  #lastChange: Promise<unknown> = Promise.resolve()

  constructor(server: McpServer, root: Root, names: readonly string[]) {
    this.#server = server
    this.root = root
    this.#names = names
  }

  path(text: string): WorkspacePath {
    return parseWorkspacePath(text, this.#names)
  }

  add<Shape extends z.ZodRawShape>(
    name: string,
    text: ToolText,
    shape: Shape,
    perform: (args: z.infer<z.ZodObject<Shape>>) => Promise<Answer>,
  ): void {
    const inputSchema = z.object(shape)
    const call = async (args: z.infer<z.ZodObject<Shape>>): Promise<CallToolResult> => {
      // Changes go one after the other, so that two edits of a file cannot lose one of them; a read that was asked
      // for after a change sees it.
      const act = async (): Promise<Answer> => await perform(args)
      const answer = text.annotations.readOnlyHint ? this.#lastChange.then(act) : this.#inTurn(act)
      return await answer.then(resultOf, refusalOf)
    }
    this.#server.registerTool(name, { ...text, inputSchema }, call)
    this.#calls.set(name, (args) => {
      const { data } = inputSchema.safeParse(args)
      return data === undefined ? undefined : call(data)
    })
  }

  /** Undefined for a tool that there is not, and for arguments that it does not take. */
  answer(name: string, args: JsonObject): Promise<CallToolResult> | undefined {
    return this.#calls
      .get(name)?.(args)
      ?.catch((error: unknown) => failed(error))
  }

  async #inTurn(perform: () => Promise<Answer>): Promise<Answer> {
    const before = this.#lastChange
    const change = before.then(perform)
    this.#lastChange = change.catch(() => undefined)
    return await change
  }
}

/** What the server library makes of an error. */
function failed(error: unknown): CallToolResult {
  const text = error instanceof Error ? error.message : String(error)
  return { content: [{ type: 'text', text }], isError: true }
}

function resultOf(answer: Answer): CallToolResult {
  return typeof answer === 'string' ? { content: [{ type: 'text', text: answer }] } : answer
}

const ERRNO_SENTENCES: Readonly<Record<string, string>> = {
  EACCES: 'The file system does not permit this.',
  EPERM: 'The file system does not permit this.',
  EROFS: 'That part of the workspace is read-only.',
  ENOSPC: 'The disk is full.',
  EDQUOT: 'The disk quota is used up.',
  EFBIG: 'The file would be too large.',
  ELOOP: 'A part of the path is a symbolic link, and links are not followed.',
  ENOENT: 'The file or directory is no longer there.',
  EISDIR: 'That is a directory.',
  ENOTDIR: 'A part of the path is not a directory.',
  EXDEV: 'That would cross from one file system to another.',
  EMFILE: 'Too many files are open.',
  ENXIO: 'That is a FIFO or a device, not a file.',
}

function refusalOf(error: unknown): CallToolResult {
  if (error instanceof FileRefusal) return { content: [{ type: 'text', text: error.message }], isError: true }
  const sentence = ERRNO_SENTENCES[errno(error) ?? '']
  if (sentence === undefined) throw error
  return { content: [{ type: 'text', text: sentence }], isError: true }
}

function addReading(tools: FileTools): void {
  const { root } = tools
  tools.add(
    'read_file',
    {
      description: `Reads a text file, whole or in part; at most ${READ_LINES_MAX} lines or ${READ_BYTES_MAX} bytes a call.`,
      annotations: READS,
    },
    {
      path,
      offset: z.int().min(1).default(1).describe('First line to read; 1 is the first.'),
      limit: z.int().min(1).max(READ_LINES_MAX).default(READ_LINES_MAX).describe('How many lines.'),
      numbered: z.boolean().default(false).describe('Puts the number of each line and a tab before it.'),
      byteOffset: z.int().min(0).optional().describe('First byte to read, in place of lines: for very long lines.'),
    },
    async (args) => await readLines(root, tools.path(args.path), args),
  )
  tools.add(
    'read_image',
    { description: 'Shows a PNG, JPEG, GIF or WebP image of at most 3.75 MiB.', annotations: READS },
    { path },
    async (args) => {
      const from = tools.path(args.path)
      const { base64, mediaType, sizeBytes } = await readImage(root, from)
      const text = `${from.shown}: ${mediaType}, ${sizeBytes} bytes`
      return {
        content: [
          { type: 'text', text },
          { type: 'image', data: base64, mimeType: mediaType },
        ],
      }
    },
  )
  tools.add(
    'read_pdf',
    { description: 'Says what a PDF is (path, size, version, pages); its text is not extracted.', annotations: READS },
    { path },
    async (args) => await describePdf(root, tools.path(args.path)),
  )
  tools.add(
    'file_info',
    { description: 'Says what is at a path: type, size, media type, time of the last change.', annotations: READS },
    { path },
    async (args) => await describe(root, tools.path(args.path)),
  )
}

function addLooking(tools: FileTools): void {
  const { root } = tools
  const start = path.optional().describe('Where to start; the whole workspace when left out.')
  const startOf = (text: string | undefined): WorkspacePath => (text === undefined ? everywhere : tools.path(text))
  tools.add(
    'list_directory',
    { description: 'Lists a directory: directories end in a slash, files have their size.', annotations: READS },
    { path: start, depth: z.int().min(1).max(8).default(1).describe('How many levels; 1 is the directory alone.') },
    async (args) => await list(root, startOf(args.path), args.depth),
  )
  tools.add(
    'find',
    {
      description: 'Finds files and directories by name. Does not look into .git and node_modules.',
      annotations: READS,
    },
    {
      glob: z
        .string()
        .min(1)
        .max(256)
        .describe('Like *.ts, matched against names; with a slash against paths: src/**/*.ts.'),
      path: start,
    },
    async (args) => await find(root, startOf(args.path), args.glob),
  )
  tools.add(
    'search',
    {
      description: 'Searches the content of text files, line by line. Does not look into .git and node_modules.',
      annotations: READS,
    },
    {
      pattern: z.string().min(1).max(1000).describe('Text to find as it is, or a regular expression with regex: true.'),
      path: start,
      glob: z.string().min(1).max(256).optional().describe('Only files whose name (with a slash: path) matches.'),
      regex: z.boolean().default(false).describe('Reads the pattern as a JavaScript regular expression.'),
      ignoreCase: z.boolean().default(false),
      context: z.int().min(0).max(5).default(0).describe('Lines shown before and after each match.'),
      maxMatches: z.int().min(1).max(MATCHES_MAX).default(MATCHES_MAX),
    },
    async (args) => await search(root, startOf(args.path), { ...args, matchesMax: args.maxMatches }),
  )
}

function addWriting(tools: FileTools): void {
  const { root } = tools
  const content = z.string().max(4 * 1024 * 1024)
  tools.add(
    'write_file',
    {
      description: 'Writes a whole text file, replacing what is there; makes the directories above it.',
      annotations: { ...CHANGES, idempotentHint: true },
    },
    { path, content },
    async (args) => await writeFile(root, tools.path(args.path), args.content),
  )
  tools.add(
    'edit_file',
    {
      description:
        'Replaces exact text in a file. Each oldText must occur exactly once, unless replaceAll is set. ' +
        'Several edits are applied in order, all or none.',
      annotations: { ...CHANGES, idempotentHint: false },
    },
    {
      path,
      edits: z
        .array(
          z.object({
            oldText: z.string().describe('The text to replace, exactly as it is in the file.'),
            newText: z.string(),
            replaceAll: z.boolean().default(false),
          }),
        )
        .min(1)
        .max(100),
    },
    async (args) => await editFile(root, tools.path(args.path), args.edits),
  )
  tools.add(
    'append_file',
    {
      description: 'Adds text at the end of a file, which is made when missing.',
      annotations: { ...ADDS, idempotentHint: false },
    },
    { path, content },
    async (args) => await appendFile(root, tools.path(args.path), args.content),
  )
  tools.add(
    'make_directory',
    { description: 'Makes a directory and those above it.', annotations: { ...ADDS, idempotentHint: true } },
    { path },
    async (args) => await makeDirectory(root, tools.path(args.path)),
  )
  tools.add(
    'move',
    { description: 'Moves or renames a file or directory.', annotations: { ...CHANGES, idempotentHint: false } },
    { from: path, to: path, overwrite: z.boolean().default(false).describe('Replaces a file that is there.') },
    async (args) => await move(root, tools.path(args.from), tools.path(args.to), args.overwrite),
  )
  tools.add(
    'delete',
    { description: 'Deletes a file or a directory.', annotations: { ...CHANGES, idempotentHint: false } },
    { path, recursive: z.boolean().default(false).describe('Deletes a directory with all that is in it.') },
    async (args) => await remove(root, tools.path(args.path), args.recursive),
  )
}
