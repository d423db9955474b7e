/** The runner's configuration: it has no environment of its own, so all of it is fixed here. */
import type { Deadlines } from './skill/compartment.ts'

export const deadlines: Deadlines = { initializeMs: 10_000, callMs: 120_000 }
