/** Faults of what stays on disk of skills that were installed. */
import type { Fault } from './fault.ts'

const installer = {
  file: 'registry/installer.ts',
  tests: ['test/adapter/registry-installer.test.ts'],
  suite: 'whole',
} as const

export const faults: readonly Fault[] = [
  {
    name: 'an installation stays for ever (IN4)',
    find: 'return age >= (',
    replace: 'return age < 0 && age >= (',
    ...installer,
  },
  {
    name: 'an installation that is asked for goes by the day it was made (IN4)',
    find: 'if (await touch(target, now)) return target\n  await mkdir',
    replace: 'if (await exists(target)) return target\n  await mkdir',
    ...installer,
  },
  {
    name: 'what is being installed is taken for left behind (IN4)',
    find: "name.startsWith('.') ? SWEEP_MS",
    replace: "name.startsWith('.') ? 0",
    ...installer,
  },
  {
    name: 'what a machine was given goes while it lives (IN5)',
    find: 'kept.add(given)',
    replace: 'void given',
    ...installer,
  },
  {
    name: 'one machine that ends takes away what another was given (IN5)',
    find: 'kept.delete(given)',
    replace: 'kept.size > 0 && (kept.clear(), true)',
    ...installer,
  },
  {
    name: 'what a machine was given stays for ever (IN5)',
    find: 'ended.then(forget, forget)',
    replace: 'ended.then(() => {}, () => {}).finally(() => forget.length)',
    ...installer,
  },
]
