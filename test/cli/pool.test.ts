/** `senmon pool` on 80 columns. */
import { expect, it } from 'vitest'
import { printPools } from '../../src/cli/pool.ts'

it('says why a pool has its size on 80 columns, and obeys no escape of a provider', () => {
  const why = '0.50 jobs per second come, and 0.3 s make a machine ready: 2 of 3 are ready or on their way'
  const lines = printPools({
    queued: 1,
    running: 2,
    pools: [
      {
        name: 'local',
        warmShare: 0.923,
        strays: 1,
        counts: [
          { state: 'ready', count: 2 },
          { state: 'busy', count: 2 },
        ],
        given: [
          { resume: 'resumed', count: 12 },
          { resume: 'created', count: 1 },
        ],
        processes: [
          {
            holder: '["vm",29525,"8000db13-7a52/4932484"]',
            leads: true,
            isSilent: false,
            target: { ready: 3, machines: 6, isPanic: true, why },
            limits: [
              { name: 'memoryBytes', value: 4_294_967_296, keptBy: 'cgroup v1' },
              { name: 'tasks', value: 4096, keptBy: null },
            ],
          },
          { holder: 'b:2', leads: false, isSilent: true, at: '2026-01-01T10:00:00.000Z', target: null },
        ],
        actions: [{ at: '2026-01-01T10:01:02.000Z', type: 'create', machineId: null, why }],
        faults: [{ at: '2026-01-01T10:01:03.000Z', verb: 'start', why: 'no \u001b[31mroom' }],
      },
    ],
  })
  expect(lines.every((line) => line.length <= 80)).toBe(true)
  expect(lines.join('\n')).toBe(`1 job queued, 2 running

pool local
  machines    ready 2, busy 2
  jobs found  resumed 12, created 1 (92% warm)
  strays      1 that nobody knows
  process     29525 on vm leads
    limits    4096 MiB (cgroup v1), 4096 tasks (NOT KEPT)
    wants     3 ready of 6, in a rush
    because   0.50 jobs per second come, and 0.3 s make a machine ready: 2 of 3
              are ready or on their way
  process     b:2 silent since 10:00:00
  10:01:02    create: 0.50 jobs per second come, and 0.3 s make a machine ready:
              2 of 3 are ready or on their way
  10:01:03    start FAILED: no \\u{1b}[31mroom`)
})
