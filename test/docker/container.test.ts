import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { makeId } from '../../schema/id.ts'
import { CONTAINER_UIDS, IMAGE } from '../../schema/machine-image.ts'
import { CONTAINER_LIMITS, containerBody, containerName, LABEL, uidOf } from '../../src/docker/container.ts'
import { imagePlan } from '../../src/sandbox/machine-image.ts'

const machineId = makeId('mch', 1, new Uint8Array(16))
const order = {
  machineId,
  pool: 'docker',
  place: 'here',
  generation: 'g1',
  imageId: 'sha256:1',
  runtime: null,
  hasAppArmor: false,
  limits: CONTAINER_LIMITS,
  plan: imagePlan({ ...IMAGE, arch: 'x64' }),
}
const body = (more: Partial<typeof order> | { runtime: string } = {}) =>
  containerBody({ ...order, ...more }) as {
    User: string
    Env: string[]
    Labels: Record<string, string>
    HostConfig: Record<string, unknown> & { SecurityOpt: string[]; Tmpfs: Record<string, string> }
  }

describe('the order of a container', () => {
  it('has walls on every side', () => {
    expect(body()).toMatchObject({
      NetworkDisabled: true,
      OpenStdin: true,
      StdinOnce: true,
      Tty: false,
      HostConfig: {
        NetworkMode: 'none',
        IpcMode: 'none',
        ReadonlyRootfs: true,
        CapDrop: ['ALL'],
        Privileged: false,
        Memory: CONTAINER_LIMITS.memoryBytes,
        MemorySwap: CONTAINER_LIMITS.memoryBytes,
        PidsLimit: CONTAINER_LIMITS.tasks,
        LogConfig: { Type: 'none' },
      },
    })
    const { SecurityOpt } = body().HostConfig
    expect(SecurityOpt[0]).toBe('no-new-privileges')
    expect(JSON.parse(SecurityOpt[1]?.replace(/^seccomp=/, '') ?? '')).toHaveProperty('syscalls')
  })

  it('mounts nothing of the computer that it runs on', () => {
    for (const name of ['Binds', 'Mounts', 'VolumesFrom', 'Devices', 'CapAdd'])
      expect(body().HostConfig).not.toHaveProperty(name)
  })

  it('bounds every place that can be written', () => {
    for (const how of Object.values(body().HostConfig.Tmpfs))
      expect(how).toMatch(/nosuid,nodev,size=\d+m,nr_inodes=\d+/)
  })

  it('says whose it is', () => {
    expect(body().Labels).toEqual({
      [LABEL.machine]: machineId,
      [LABEL.pool]: 'docker',
      [LABEL.place]: 'here',
      [LABEL.generation]: 'g1',
    })
    expect(containerName(machineId)).toBe(`senmon-${machineId}`)
  })

  it('takes the profile of AppArmor away only where there is one, and another runtime only when it is named', () => {
    expect(body().HostConfig.SecurityOpt).toHaveLength(2)
    expect(body({ hasAppArmor: true }).HostConfig.SecurityOpt).toContain('apparmor=unconfined')
    expect(body().HostConfig).not.toHaveProperty('Runtime')
    expect(body({ runtime: 'runsc' }).HostConfig).toHaveProperty('Runtime', 'runsc')
  })

  it('runs as a user of the few that the image knows, never as root', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
        const uid = uidOf(makeId('mch', 1, bytes))
        expect(uid).toBeGreaterThanOrEqual(CONTAINER_UIDS.first)
        expect(uid).toBeLessThan(CONTAINER_UIDS.first + CONTAINER_UIDS.count)
      }),
    )
  })
})
