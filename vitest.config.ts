/** Two suites: `core` needs no network and no other process; `whole` uses Postgres, sandboxes, npm and a browser. */
import { defineConfig } from 'vitest/config'

const whole = ['test/adapter/**/*.test.ts', 'test/protocol/**/*.test.ts', 'test/system/**/*.test.ts']
// graphql must be one module for vitest's runner and for Node's: see docs/decisions. Without `import`: it would also
// hold for `require`, and pg's own require of pg-pool would get a module object for a class.
const setupFiles = ['test/support/scratch-end.ts']
const ssr = { resolve: { conditions: ['module-sync', 'node'] } }

export default defineConfig({
  test: {
    pool: 'forks',
    // Half of what the tests of whole platforms do is waiting for their processes.
    maxWorkers: 2,
    projects: [
      {
        ssr,
        test: {
          name: 'core',
          setupFiles,
          include: ['test/**/*.test.ts'],
          exclude: whole,
          testTimeout: 60_000,
          // What they import is most of what they cost, and none of it keeps anything.
          isolate: false,
        },
      },
      {
        ssr,
        test: {
          name: 'whole',
          setupFiles,
          globalSetup: ['test/support/probe-once.ts'],
          include: whole,
          testTimeout: 120_000,
          hookTimeout: 240_000,
        },
      },
    ],
  },
})
