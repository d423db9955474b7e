/** `senmon start`: the server of this checkout, in the foreground. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import type { Command } from './command.ts'

const MAIN = join(import.meta.dirname, '..', 'main.ts')

export const start: Command = {
  name: 'start',
  usage: '',
  summary: 'Starts everything in one process: API, registry, console, database, machines.',
  details: 'Settings come from the environment; SENMON_PORT and SENMON_DATA_DIR can be given here as well.',
  options: {
    port: { type: 'string', value: 'n', help: 'SENMON_PORT (default 4000).' },
    'data-dir': { type: 'string', value: 'path', help: 'SENMON_DATA_DIR (default .senmon).' },
  },
  arity: [0, 0],
  async perform(call) {
    const environment = {
      ...call.environment,
      ...(call.text('port') === undefined ? {} : { SENMON_PORT: call.text('port') }),
      ...(call.text('data-dir') === undefined ? {} : { SENMON_DATA_DIR: call.text('data-dir') }),
    }
    const server = spawn(process.execPath, [MAIN, 'start'], {
      stdio: 'inherit',
      cwd: call.directory,
      env: environment,
    })
    const pass = () => server.kill('SIGTERM')
    process.once('SIGTERM', pass)
    // The terminal interrupts the server as well; this process only waits for it.
    const stopListening = call.terminal.onInterrupt(() => undefined)
    try {
      return await new Promise<number>((resolve, reject) => {
        server.on('error', reject)
        server.on('exit', (code, signal) => resolve(code ?? (signal === 'SIGINT' || signal === 'SIGTERM' ? 0 : 1)))
      })
    } finally {
      process.off('SIGTERM', pass)
      stopListening()
    }
  },
}
