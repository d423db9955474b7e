/** Faults of the pool: what it is given, how it is sized, who has which machine, and what becomes of it. */
import type { Fault } from './fault.ts'

export const faults: readonly Fault[] = [
  {
    name: 'a model is asked by an attempt that stood still for longer than its lease',
    file: 'src/attempt/keeper.ts',
    find: '    await this.#requireLease()\n    const fact',
    replace: '    const fact',
    tests: ['test/attempt/lease-doubt.test.ts'],
  },
  {
    name: 'a lease that could not be renewed counts as renewed',
    file: 'src/attempt/keeper.ts',
    find: 'if (this.#renewedAt < askedAt) await clock.sleep(RETRY_MS, signal)',
    replace: 'this.#renewedAt = askedAt',
    tests: ['test/attempt/lease-doubt.test.ts'],
  },
  {
    name: 'the application that waits longest has the next place, however many it has',
    file: 'src/pool/assign.ts',
    find: 'share.running < chosen.running) chosen = share',
    replace: 'byAge(head, best) < 0) chosen = share',
    tests: ['test/pool/assign.test.ts'],
  },
  {
    name: 'a quota is not kept among the jobs of one look',
    file: 'src/pool/assign.ts',
    find: '    chosen.running += 1\n',
    replace: '',
    tests: ['test/pool/assign.test.ts'],
  },
  {
    name: 'bursts are counted as if they were independent arrivals',
    file: 'src/pool/sizing.ts',
    find: 'Math.ceil(peakedness * machines)',
    replace: 'Math.ceil(machines)',
    tests: ['test/pool/sizing.test.ts'],
  },
  {
    name: 'a pool is one machine too small for what it promises',
    file: 'src/pool/sizing.ts',
    find: 'while (share > miss) {',
    replace: 'while (share > 2 * miss) {',
    tests: ['test/pool/sizing.test.ts'],
  },
]
