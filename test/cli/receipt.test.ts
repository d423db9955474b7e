/** The receipt of a cancel as a person reads it. */
import { describe, expect, it } from 'vitest'
import { printReceipt } from '../../src/cli/receipt.ts'

const receipt = {
  durationMs: 412,
  stopped: {
    runs: [
      { expertKey: 'lead@1.0.0', stepNumber: 2 },
      { expertKey: 'reader@1.0.0', stepNumber: 0 },
    ],
    questions: ['que_00000000000000000000'],
    machine: { host: 'local', skills: ['lead@1.0.0 bank'], processes: 7 },
  },
  inFlight: {
    generations: [{ expertKey: 'reader@1.0.0', stepNumber: 0 }],
    calls: [
      { toolName: 'bank/transfer', effect: 'once', outcome: 'unknown' },
      { toolName: 'bank/\u001b[31mget', effect: 'pure', outcome: 'noEffect' },
    ],
  },
}

describe('a receipt', () => {
  it('says line by line what was stopped, what was cut, and what is unknown', () => {
    expect(printReceipt(receipt)).toBe(`  ended in 0.4 s
  stopped: run of lead@1.0.0 at step 2
  stopped: run of reader@1.0.0 at step 0
  stopped: skill lead@1.0.0 bank
  stopped: machine local with 7 processes
  withdrawn: question que_00000000000000000000
  cut: a generation of reader@1.0.0 for step 1
  in flight: bank/transfer, unknown: it may have taken effect
  in flight: bank/\\u{1b}[31mget, without effect
`)
  })

  it('is nothing for a job without one', () => {
    expect(printReceipt(null)).toBe('')
    expect(printReceipt({})).toBe('')
  })
})
