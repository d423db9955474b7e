#!/usr/bin/env node
/** The files skill as a process: MCP on stdin and stdout, over the directory in SENMON_WORKSPACE. */
import { realpathSync } from 'node:fs'
import { resolve } from 'node:path'
import { serveStdio } from '@modelcontextprotocol/server/stdio'
import { fileServer } from './tools.ts'

/** Filled in when the package is built. */
declare const PACKAGE_VERSION: string | undefined

const named = resolve(process.env['SENMON_WORKSPACE'] ?? process.cwd())
const root = realpathSync(named)
const version = typeof PACKAGE_VERSION === 'string' ? PACKAGE_VERSION : '0.0.0'
serveStdio(() => fileServer(version, root, [...new Set([named, root])]))
