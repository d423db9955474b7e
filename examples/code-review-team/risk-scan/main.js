#!/usr/bin/env node
// An MCP server on stdio, by hand: one JSON-RPC message a line. One tool, `scan`.
import { lstatSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { extname, join, relative, resolve, sep } from 'node:path'
import { createInterface } from 'node:readline'
import { scanText } from './scan.js'

const PROTOCOL_VERSION = '2025-11-25'
const ENDINGS = new Set(['.js', '.mjs', '.cjs', '.jsx', '.ts', '.mts', '.cts', '.tsx'])
const FILE_BYTES_MAX = 1024 * 1024
const FILES_MAX = 2000

const root = realpathSync(process.env.SENMON_WORKSPACE || process.cwd())

const TOOL = {
  name: 'scan',
  description:
    'Scans source files for risky calls: eval, shell commands and SQL put together from strings, credentials in code. Findings are file:line.',
  inputSchema: {
    type: 'object',
    properties: {
      path: { type: 'string', description: 'A file or directory, relative to the workspace; all of it when left out.' },
    },
    additionalProperties: false,
  },
  annotations: { readOnlyHint: true, openWorldHint: false },
}

/** Source files at or below `path`, sorted; symbolic links are not followed. */
function listSources(path) {
  const state = lstatSync(path)
  if (state.isFile()) return ENDINGS.has(extname(path)) && state.size <= FILE_BYTES_MAX ? [path] : []
  if (!state.isDirectory()) return []
  return readdirSync(path)
    .toSorted()
    .filter((name) => name !== 'node_modules' && name !== '.git')
    .flatMap((name) => listSources(join(path, name)))
}

function scan({ path = '.' }) {
  const start = resolve(root, path)
  if (start !== root && !start.startsWith(root + sep)) return failure(`${path} is not inside the workspace.`)
  let files
  try {
    // The real path as well: a link on the way may lead out.
    if (realpathSync(start) !== start) return failure(`${path} leads through a symbolic link.`)
    files = listSources(start)
  } catch {
    return failure(`There is nothing readable at ${path}.`)
  }
  if (files.length > FILES_MAX) return failure(`${path} holds ${files.length} source files; name a smaller part.`)
  const findings = files.flatMap((file) => scanText(relative(root, file), readFileSync(file, 'utf8')))
  const lines = findings.map(
    ({ file, line, rule, severity, code, advice }) => `${file}:${line} [${severity}] ${rule}: ${code}\n  ${advice}`,
  )
  const count = `${findings.length} finding${findings.length === 1 ? '' : 's'} in ${files.length} file${files.length === 1 ? '' : 's'}`
  return { content: [{ type: 'text', text: [count, ...lines].join('\n') }] }
}

function failure(text) {
  return { content: [{ type: 'text', text }], isError: true }
}

function answer({ method, params }) {
  switch (method) {
    case 'initialize':
      return {
        protocolVersion: PROTOCOL_VERSION,
        capabilities: { tools: {} },
        serverInfo: { name: '@example/risk-scan', version: '1.0.0' },
      }
    case 'ping':
      return {}
    case 'tools/list':
      return { tools: [TOOL] }
    case 'tools/call':
      return params?.name === TOOL.name ? scan(params.arguments ?? {}) : failure(`There is no tool ${params?.name}.`)
    default:
      return undefined
  }
}

function send(message) {
  process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
}

createInterface({ input: process.stdin }).on('line', (line) => {
  let message
  try {
    message = JSON.parse(line)
  } catch {
    send({ id: null, error: { code: -32700, message: 'That line is not JSON.' } })
    return
  }
  if (message.id === undefined) return
  const result = answer(message)
  if (result === undefined) send({ id: message.id, error: { code: -32601, message: `There is no ${message.method}.` } })
  else send({ id: message.id, result })
})
