/** An image that cannot do jobs, as the real first process of a machine finds it: whoever waits for the machine hears why. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { imagePaths } from '../../schema/machine-image.ts'
import { openSpawnedMachines, type SpawnedMachines } from '../support/machine-spawn.ts'
import { JOB_ID, lockOf } from '../support/machine-drive.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()
let machines: SpawnedMachines | undefined
afterEach(async () => {
  await machines?.close()
  machines = undefined
})

const runnerOf = (files: string): string => imagePaths({ files, home: '' }).bundle('runner')

it.skipIf(missing !== undefined).each([
  ['lacks a file', (files: string) => rmSync(runnerOf(files)), /The image has no \S+\/runner\/main\.mjs/],
  [
    'has a runner that does not start',
    (files: string) => writeFileSync(runnerOf(files), "process.stderr.write('no such thing'); process.exit(3)"),
    /No compartment comes up in it \(runner_ended\): The runner ended without done \(exit code 3\)\. no such thing/,
  ],
  [
    'cannot restore a tree',
    (files: string) => {
      const home = join(dirname(files), 'machine-1')
      mkdirSync(home)
      writeFileSync(join(home, 'workspace-prime'), 'in the way')
    },
    /No compartment comes up in it \(supervisor_failed\): It cannot make itself ready: .*workspace-prime/,
  ],
])('%s', async (_how, spoil, why) => {
  machines = await openSpawnedMachines(undefined, spoil)
  const attempt = { jobId: JOB_ID, fence: 1 }
  await expect(machines.host.open(attempt, lockOf({}))).rejects.toMatchObject({
    code: 'machine_failed',
    message: expect.stringMatching(why),
  })
})
