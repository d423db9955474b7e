import { describe, expect, it } from 'vitest'
import { reasonOf } from '../../src/docker/attached-machine.ts'
import { isOlder, older } from '../../src/docker/engine.ts'
import { describeEngine, describeImage, observe } from '../../src/docker/engine-answer.ts'
import { connectionFault, explainSilence, faultOf } from '../../src/docker/engine-fault.ts'

describe('a refusal of an engine', () => {
  it.each([
    [404, 'No such container: x', 'gone'],
    [404, 'No such image: x', 'refused'],
    [400, 'Minimum memory limit allowed is 6MB', 'refused'],
    [409, 'Conflict. The container name "/x" is already in use', 'state'],
    [409, 'cannot start a paused container, try unpause instead', 'state'],
    [500, 'Container x is not paused', 'state'],
    [500, 'write /x: no space left on device', 'capacity'],
    [500, 'fork/exec runc: resource temporarily unavailable', 'capacity'],
    [429, 'slow down', 'throttled'],
    [500, 'something else', 'ambiguous'],
    [503, '', 'ambiguous'],
  ] as const)('%i "%s" means %s', (status, message, fault) => {
    expect(faultOf({ status, message })).toBe(fault)
  })

  it.each(['ENOENT', 'ECONNREFUSED', 'EACCES'])('without a connection (%s) nothing took effect', (code) => {
    expect(connectionFault(code)).toBe('throttled')
  })

  it.each(['ECONNRESET', 'EPIPE', undefined])('after one that broke (%s) nobody knows', (code) => {
    expect(connectionFault(code)).toBe('ambiguous')
  })

  it.each([
    ['ENOENT', /docs.docker.com/],
    ['ECONNREFUSED', /systemctl start docker/],
    ['EACCES', /usermod -aG docker/],
    ['ETIMEDOUT', /docker version/],
  ] as const)('a silent engine (%s) has its fix', (code, fix) => {
    expect(explainSilence('/var/run/docker.sock', code, 'x')).toMatchObject({
      ok: false,
      fix: expect.stringMatching(fix),
    })
  })
})

describe('what an engine says', () => {
  const whole = {
    MemoryLimit: true,
    PidsLimit: true,
    CpuCfsQuota: true,
    SecurityOptions: ['name=seccomp,profile=default'],
  }

  it('of itself is enough when it can limit and filter', () => {
    expect(describeEngine({ ...whole, Runtimes: { runc: {} } })).toEqual({ hasAppArmor: false, runtimes: ['runc'] })
    expect(describeEngine({ ...whole, SecurityOptions: ['name=apparmor', 'name=seccomp'] })).toMatchObject({
      hasAppArmor: true,
    })
  })

  it.each([
    [{ MemoryLimit: false }, 'limit memory'],
    [{ PidsLimit: undefined }, 'limit processes'],
    [{ CpuCfsQuota: null }, 'malformed'],
    [{ SecurityOptions: null }, 'filter system calls'],
    [{ SecurityOptions: ['name=seccomplex'] }, 'filter system calls'],
  ])('of itself is not enough: %o', (lack, words) => {
    const said = JSON.parse(JSON.stringify({ ...whole, ...lack })) as never
    expect(describeEngine(said)).toContain(words)
  })

  it('of an image counts when it is one for Linux on an architecture that we know', () => {
    const image = { Id: `sha256:${'a'.repeat(64)}`, Os: 'linux', Architecture: 'arm64' }
    expect(describeImage(image)).toEqual({ id: image.Id, arch: 'arm64' })
    for (const wrong of [{ Id: 'senmon' }, { Os: 'windows' }, { Architecture: 'riscv64' }])
      expect(describeImage({ ...image, ...wrong })).toBeUndefined()
  })

  it('of a container is understood inspected and listed, and a new word is unknown', () => {
    expect(observe(null, { Id: 'a', State: { Status: 'paused' }, Created: '1970-01-01T00:00:01Z' })).toMatchObject({
      state: 'suspended',
      createdAt: 1000,
    })
    expect(observe(null, { Id: 'a', State: 'running', Created: 1 })).toMatchObject({
      state: 'running',
      createdAt: 1000,
    })
    expect(observe(null, { Id: 'a', State: 'hibernating' })).toMatchObject({ state: 'unknown', createdAt: null })
    expect(observe(null, { Id: 7 })).toMatchObject({ state: 'unknown' })
  })

  it.each([
    [null, 'removed'],
    [{ exitCode: 137, oom: true }, 'oom'],
    [{ exitCode: 75, oom: true }, 'oom'],
    [{ exitCode: 0, oom: true }, 'done'],
    [{ exitCode: 137, oom: false }, 'signal 9'],
    [{ exitCode: 69, oom: false }, 'orphaned'],
    [{ exitCode: 1, oom: false }, 'exit code 1'],
  ])('of an end (%o) is a word: %s', (end, reason) => {
    expect(reasonOf(end)).toBe(reason)
  })

  it('of its version is compared number by number', () => {
    expect(isOlder('1.9', '1.41')).toBe(true)
    expect(isOlder('1.41', '1.41')).toBe(false)
    expect(isOlder('2.0', '1.51')).toBe(false)
    expect(older('1.43', '1.51')).toBe('1.43')
  })
})
