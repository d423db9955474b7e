#!/usr/bin/env node
/** The shell skill as a process: MCP on stdin and stdout, over the directory in SENMON_WORKSPACE. */
import { existsSync, realpathSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { resolve } from 'node:path'
import { serveStdio } from '@modelcontextprotocol/server/stdio'
import { shellServer } from './tools.ts'

/** Filled in when the package is built. */
declare const PACKAGE_VERSION: string | undefined

const version = typeof PACKAGE_VERSION === 'string' ? PACKAGE_VERSION : '0.0.0'
const workspace = realpathSync(resolve(process.env['SENMON_WORKSPACE'] ?? process.cwd()))
const shell = ['/bin/bash', '/bin/sh'].find((path) => existsSync(path)) ?? '/bin/sh'
/** No colours, no pager, a home that can be written; and whatever this process was given. */
const environment = {
  LANG: 'C.UTF-8',
  TERM: 'dumb',
  NO_COLOR: '1',
  PAGER: 'cat',
  GIT_PAGER: 'cat',
  HOME: tmpdir(),
  ...Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  ),
}
serveStdio(() => shellServer({ version, workspace, shell, environment, mark: `${process.pid}.${Date.now()}` }))
