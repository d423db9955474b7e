/** A skill on the network whose one tool, `hold`, returns when the test says so: what a job waits in, however slow all is. */
import { startStreamable, type HttpServer } from './mcp-servers.ts'

export interface HeldCalls extends HttpServer {
  /** Lines of the expert file that give an expert the tool `far/hold`; its server must allow 127.0.0.1. */
  readonly skillOf: (expert: string) => string
  /** How often `hold` was called. */
  readonly calls: () => number
  /** From now on calls are held; resolves when the first of them is there. */
  readonly hold: () => Promise<void>
  /** Those that are held return, and all that follow at once. */
  readonly release: () => void
}

/** What a server is told that may reach it. */
export const HELD_ENV = { SENMON_SKILL_NETWORKS: '127.0.0.1' } as const
export const HOLD = { tool: 'far/hold' } as const

export async function startHeldCalls(): Promise<HeldCalls> {
  let calls = 0
  let came = Promise.withResolvers<void>()
  let gate: PromiseWithResolvers<void> | undefined
  const server = await startStreamable({
    hold: async () => {
      calls += 1
      came.resolve()
      await gate?.promise
      return 'held'
    },
  })
  return {
    ...server,
    skillOf: (expert) => `[experts."${expert}".skills."far"]\ntype = "mcpHttpSkill"\nendpoint = "${server.url}"\n`,
    calls: () => calls,
    hold() {
      gate = Promise.withResolvers()
      came = Promise.withResolvers()
      return came.promise
    },
    release() {
      gate?.resolve()
      gate = undefined
    },
  }
}
