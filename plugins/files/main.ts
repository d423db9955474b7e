#!/usr/bin/env node
/** The files skill as a process: MCP on stdin and stdout, over the directory in SENMON_WORKSPACE. */
import { realpathSync } from 'node:fs'
import { resolve } from 'node:path'
import { serveStdio, StdioServerTransport } from '@modelcontextprotocol/server/stdio'
import { answerDirectly } from './direct-calls.ts'
import { fileServer } from './tools.ts'

/** Filled in when the package is built. */
declare const PACKAGE_VERSION: string | undefined

const named = resolve(process.env['SENMON_WORKSPACE'] ?? process.cwd())
const root = realpathSync(named)
const version = typeof PACKAGE_VERSION === 'string' ? PACKAGE_VERSION : '0.0.0'
const { server, answer } = fileServer(version, root, [...new Set([named, root])])
const rest = answerDirectly(process.stdin, process.stdout, answer)
serveStdio(() => server, { transport: new StdioServerTransport(rest, process.stdout) })
