import { chmodSync, copyFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { explainBubblewrap } from '../../src/local/probe.ts'
import { judgeProbe } from '../../src/pool/probe.ts'
import { JOB_ID, lockOf } from '../support/machine-drive.ts'
import { openHost, openSandboxes, sandboxMissing } from '../support/sandbox.ts'
import { scratchDirectory } from '../support/scratch.ts'

const missing = await sandboxMissing()
const whole = {
  uid: 1000,
  read: 'ENOENT',
  connected: 'EAFNOSUPPORT',
  capabilities: '0000000000000000',
  noNewPrivileges: '1',
  seccomp: '2',
}

let directory: string
beforeAll(() => {
  directory = scratchDirectory('test', '/var/tmp')
  chmodSync(directory, 0o755)
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

async function probeWith(bwrap: string) {
  const opened = await openHost((options) => openSandboxes({ ...options, bwrap }))
  try {
    return await opened.host.probe()
  } finally {
    await opened.close()
  }
}

describe('the probe of sandboxes', () => {
  it('says how to install bubblewrap where it is missing, and opens nothing', async () => {
    const bwrap = join(directory, 'absent')
    expect(await probeWith(bwrap)).toMatchObject({
      ok: false,
      fix: expect.stringContaining('apt-get install bubblewrap'),
    })
    const opened = await openHost((options) => openSandboxes({ ...options, bwrap }))
    await expect(opened.host.open({ jobId: JOB_ID, fence: 1 }, lockOf({}))).rejects.toMatchObject({
      code: 'machine_failed',
    })
    await opened.close()
  })

  it.skipIf(missing !== undefined)('refuses a setuid bubblewrap', async () => {
    const bwrap = join(directory, 'setuid-bwrap')
    copyFileSync('/usr/bin/bwrap', bwrap)
    chmodSync(bwrap, 0o4755)
    expect(await probeWith(bwrap)).toMatchObject({ ok: false, reason: expect.stringContaining('setuid') })
  })

  it('is not fooled by a program that isolates nothing', async () => {
    const bwrap = join(directory, 'shim')
    writeFileSync(bwrap, '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; exit 0\n', { mode: 0o755 })
    expect(await probeWith(bwrap)).toMatchObject({ ok: false })
  })

  it('names the fix for a kernel that refuses user namespaces', () => {
    for (const stderr of [
      'bwrap: setting up uid map: Permission denied',
      'bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted',
      'bwrap: No permissions to create new namespace',
    ])
      expect(explainBubblewrap(stderr)).toMatchObject({ ok: false, fix: expect.stringContaining('apparmor_restrict') })
  })

  it('takes a sandbox for whole only when every proof is there', () => {
    expect(judgeProbe(JSON.stringify(whole))).toEqual({ ok: true })
    const holes: readonly Partial<typeof whole>[] = [
      { uid: 0 },
      { read: 'open' },
      { read: 'EACCES' },
      { connected: 'open' },
      { capabilities: '0000000000000400' },
      { noNewPrivileges: '0' },
      { seccomp: '0' },
    ]
    for (const hole of holes) expect(judgeProbe(JSON.stringify({ ...whole, ...hole }))).toMatchObject({ ok: false })
    for (const text of ['', '{}', 'null', '[]']) expect(judgeProbe(text)).toMatchObject({ ok: false })
  })
})
