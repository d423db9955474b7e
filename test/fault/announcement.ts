/** Faults in what processes of one database tell each other. */
import type { Fault } from './fault.ts'

const file = 'src/postgres/announcements.ts'
const tests = ['test/postgres/announcements.test.ts']

export const faults: readonly Fault[] = [
  {
    name: 'a process that has company announces as if it were alone',
    file,
    find: 'return this.#clock.now() - this.#heardAt >= ALONE_MS',
    replace: 'return true',
    tests,
  },
  {
    name: 'a process that is alone announces as if it had company',
    file,
    find: 'return this.#clock.now() - this.#heardAt >= ALONE_MS',
    replace: 'return false',
    tests,
  },
  {
    name: 'a newcomer waits for what was kept',
    file,
    find: '    if (wasAlone) this.#alarm.resolve()\n',
    replace: '',
    tests,
  },
  {
    name: 'what could not be said is forgotten',
    file,
    find: '      for (const item of items) this.add(item, wasUrgent)\n',
    replace: '',
    tests,
  },
  {
    name: 'a process with nothing to tell is not heard',
    file,
    find: 'if (this.#due.size === 0) return HELLO_MS',
    replace: 'if (this.#due.size === 0) return 60 * HELLO_MS',
    tests,
  },
  {
    name: 'who has just connected takes itself to be alone',
    file,
    find: '    this.#heardAt = this.#clock.now()\n    let saidAt',
    replace: '    let saidAt',
    tests,
  },
  {
    name: 'a job that waits for a machine is announced with the rest',
    file,
    find: '|| (isUrgent && !this.#isUrgent)',
    replace: '',
    tests,
  },
  {
    name: 'all that follows an urgent announcement is urgent',
    file,
    find: '    this.#isUrgent = false\n    try',
    replace: '    try',
    tests,
  },
  {
    name: 'a process closes with announcements unsaid',
    file,
    find: '    if (this.#due.size > 0) await this.#say(say)\n',
    replace: '',
    tests,
  },
  {
    name: 'a clock that is set back silences a process',
    file,
    find: '      if (saidAt > now) saidAt = now\n',
    replace: '',
    tests,
  },
  {
    name: 'what another says is taken for nothing',
    file: 'src/postgres/wake-ups.ts',
    find: '        this.#announcements.heard()\n',
    replace: '',
    tests: ['test/adapter/postgres-job-log.test.ts'],
    suite: 'whole',
  },
  {
    name: 'a process waits for ever for its last word',
    file: 'src/postgres/wake-ups.ts',
    find: "signal.addEventListener('abort', giveUp, { signal: over.signal })",
    replace: 'void giveUp',
    tests: ['test/adapter/postgres-job-log.test.ts'],
    suite: 'whole',
  },
]
