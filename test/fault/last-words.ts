/** Faults of what the owner of a job is told of machines that got nowhere. */
import type { Fault } from './fault.ts'

const tests = ['test/attempt/last-words.test.ts', 'test/attempt/attempts.test.ts']

export const faults: readonly Fault[] = [
  {
    name: 'a secret of a job stands in the last words of its machine',
    file: 'src/attempt/keeper.ts',
    find: 'return lastWords(said, await secretsOfLock(secrets, applicationId, lock))',
    replace: 'return lastWords(said, (await secretsOfLock(secrets, applicationId, lock)).slice(1))',
    tests,
  },
  {
    name: 'last words have no end',
    file: 'src/attempt/last-words.ts',
    find: 'words.length <= LAST_WORDS_CHARS_MAX ? words',
    replace: 'words.length >= LAST_WORDS_CHARS_MAX ? words',
    tests,
  },
  {
    name: 'last words say where on the disk of the host something stands',
    file: 'src/attempt/last-words.ts',
    find: `.replace(DIRECTORIES, '')`,
    replace: '',
    tests,
  },
  {
    name: 'a job that failed tells of its last machine alone',
    file: 'src/job/barren.ts',
    find: '[...barrenEnds, printEnd(end)]',
    replace: '[printEnd(end)]',
    tests: ['test/job/attempt.test.ts'],
  },
]
