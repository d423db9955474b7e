/** A program, run to its end as somebody at a shell would run it. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { ROOT } from './source.ts'

export interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface ProgramOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
}

/** What Node compiled of a program, which its next start need not compile again. */
export const COMPILED = { NODE_COMPILE_CACHE: join(ROOT, 'node_modules/.cache/senmon-tests') } as const

/** PATH and HOME are this process's own; nothing else of its environment goes along. Never rejects for an exit code. */
export function runProgram(command: string, args: readonly string[], options: ProgramOptions = {}): Promise<Finished> {
  const { PATH = '', HOME = '' } = process.env
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: options.cwd, env: { PATH, HOME, ...COMPILED, ...options.env } })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, stdout, stderr }))
    child.stdin.end(options.input ?? '')
  })
}

/** The PATH of whoever runs the tests, for programs that are given nothing else. */
export function programPath(): string {
  return process.env['PATH'] ?? ''
}
