#!/usr/bin/env node
// Starts the command line under Node 24, also when the caller's Node is older: the platform runs TypeScript as it is.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const NODE_MAJOR = 24
const root = fileURLToPath(new URL('..', import.meta.url))
const main = join(root, 'src', 'cli', 'main.ts')

function findNode() {
  const platform = process.platform === 'win32' ? 'win' : process.platform
  const binary = join(root, 'node_modules', `node-${platform}-${process.arch}`, 'bin', 'node')
  return existsSync(binary) ? binary : undefined
}

if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR) {
  process.argv[1] = main
  await import(pathToFileURL(main).href)
} else {
  const node = findNode()
  if (node === undefined) {
    process.stderr.write(
      `senmon needs Node ${NODE_MAJOR}; this is Node ${process.versions.node} and ${root} holds no other. ` +
        `Run \`npm ci\` there, or install Node ${NODE_MAJOR}.\n`,
    )
    process.exit(1)
  }
  const child = spawn(node, [main, ...process.argv.slice(2)], { stdio: 'inherit' })
  // A terminal sends SIGINT to both of us; the child decides what it means, and we live as long as it does.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => child.kill('SIGTERM'))
  child.on('error', (error) => {
    process.stderr.write(`${node} does not start: ${error.message}\n`)
    process.exit(1)
  })
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code ?? 1)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}
