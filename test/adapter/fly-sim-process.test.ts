/** Machines of the simulator that are real processes: what they keep, what they lose, and that they leave nothing. */
import { spawn } from 'node:child_process'
import { createPublicKey, createVerify } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { request } from 'node:http'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { descendants, findProcess, listProcesses } from '../../src/local/processes.ts'
import { openFlySim, type FlySim } from '../fake/fly-sim/fly-sim.ts'
import { processDriver } from '../fake/fly-sim/process-driver.ts'
import { realClock } from '../support/database.ts'
import { until } from '../support/patience.ts'
import { sandboxMissing } from '../support/sandbox.ts'
import { scratchDirectory } from '../support/scratch.ts'

const missing = await sandboxMissing()

/**
 * Counts its boots in a file, says what it is, starts a child in a group of its own, and counts on while its files are
 * there, so that what a broken driver leaves behind ends with them. TERM ends it with 3; a file `deaf` makes it hear nothing.
 */
const GUEST = `
echo boot >> boots
[ -e deaf ] && trap '' TERM || trap 'exit 3' TERM
echo "$FLY_SIM_BOOT_ID" > boot-id
env > environment
(setsid env -i sh -c 'echo $$ > child; while [ -e child ]; do sleep 0.05; done' &)
echo $$ > pid
echo "hello from $FLY_MACHINE_ID"
while [ -e pid ]; do echo . >> beats; sleep 0.02; done
`
let directory: string
let sim: FlySim
let image: string
beforeAll(async () => {
  directory = scratchDirectory('test')
  image = join(directory, 'image')
  await mkdir(image)
  await writeFile(join(image, 'main.sh'), GUEST)
})
afterAll(async () => {
  await rm(directory, { recursive: true, force: true })
})
afterEach(async () => {
  await sim.close()
  expect(existsSync(join(directory, 'machines'))).toBe(false)
})

async function open(stopTimeout = '5s'): Promise<string> {
  sim = await openFlySim({
    seed: 1,
    profile: 'zero',
    clock: { type: 'real', now: () => realClock.now() },
    driver: processDriver({
      directory: join(directory, 'machines'),
      images: { image: { directory: image, command: ['sh', 'main.sh'] } },
    }),
  })
  await sim.call('POST', '/v1/apps', { app_name: 'pool', org_slug: 'personal' })
  const config = { image: 'image', env: { OURS: 'yes' }, restart: { policy: 'no' } }
  const stop_config = { signal: 'SIGTERM', timeout: stopTimeout }
  const { body } = await sim.call('POST', '/v1/apps/pool/machines', { name: 'one', config: { ...config, stop_config } })
  // The simulator's own answer.
  const { id } = body as { id: string }
  await until(() => fileOf(id, 'pid') !== '' && fileOf(id, 'child') !== '' && fileOf(id, 'beats') !== '')
  return id
}

const fileOf = (id: string, name: string): string => {
  try {
    return readFileSync(join(directory, 'machines', id, 'rootfs', name), 'utf8').trim()
  } catch {
    return ''
  }
}
const stateOf = (id: string): string | undefined => sim.machines().find((one) => one.id === id)?.state
const act = (id: string, verb: string, body: object = {}) =>
  sim.call('POST', `/v1/apps/pool/machines/${id}/${verb}`, body)
/** The guest knows its processes by other numbers than this computer; 0 for one that is not there. */
const pidOf = (id: string, name: string): number => {
  const inside = fileOf(id, name)
  const isIt = ({ pid }: { readonly pid: number }): boolean =>
    statusOf(pid).match(/^NSpid:.*\t(\d+)$/m)?.[1] === inside && /^NSpid:\t\d+\t/m.test(statusOf(pid))
  return descendants(process.pid, listProcesses()).find(isIt)?.pid ?? 0
}
const statusOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8')
  } catch {
    return ''
  }
}
const isLive = (pid: number): boolean => {
  const found = findProcess(pid)
  return found !== undefined && !found.zombie
}
// A shell that waits for a child which stands still before it has become its program waits without a signal: D.
const isStill = (pid: number): boolean => /^State:\s+[TD]/m.test(statusOf(pid))

describe.skipIf(missing !== undefined)('a machine that is a process', () => {
  it('begins with the files of its image after a stop, and with its own after a lost memory (FD1)', async () => {
    const id = await open()
    expect(fileOf(id, 'environment')).toContain('OURS=yes')
    expect(fileOf(id, 'environment')).toContain(`FLY_MACHINE_ID=${id}`)
    const first = fileOf(id, 'boot-id')
    await act(id, 'suspend')
    await until(() => stateOf(id) === 'suspended')
    sim.befall(id, { as: 'lose' })
    await act(id, 'start')
    await until(() => fileOf(id, 'boots') === 'boot\nboot' && fileOf(id, 'boot-id') !== first)
    await until(() => isLive(pidOf(id, 'pid')))
    await act(id, 'stop')
    await until(() => stateOf(id) === 'stopped')
    await act(id, 'start')
    await until(() => fileOf(id, 'boots') === 'boot')
  })

  it('stands still while it is suspended, and goes on as the same boot', async () => {
    const id = await open()
    const [pid, child, bootId] = [pidOf(id, 'pid'), pidOf(id, 'child'), fileOf(id, 'boot-id')]
    await act(id, 'suspend')
    await until(() => isStill(pid) && isStill(child))
    await act(id, 'start')
    const beats = fileOf(id, 'beats').length
    await until(() => fileOf(id, 'beats').length > beats)
    expect(fileOf(id, 'boots')).toBe('boot')
    expect(fileOf(id, 'boot-id')).toBe(bootId)
  })

  it('takes everything that it began along when it ends, and says how it ended (FD2)', async () => {
    const id = await open()
    // In a group, of parents and with an environment of its own.
    const child = pidOf(id, 'child')
    expect(isLive(child)).toBe(true)
    expect(findProcess(child)).toMatchObject({ group: child, session: child })
    expect(environOf(child)).toBe('')
    await act(id, 'stop')
    await until(() => stateOf(id) === 'stopped' && !isLive(child))
    const { body } = await sim.call('GET', `/v1/apps/pool/machines/${id}/events`)
    expect(body).toContainEqual(
      expect.objectContaining({
        type: 'exit',
        request: expect.objectContaining({
          exit_event: expect.objectContaining({ exit_code: 3, requested_stop: true, oom_killed: false }),
        }),
      }),
    )
  })

  it('is killed when it does not hear the signal', async () => {
    await writeFile(join(image, 'deaf'), '')
    const id = await open('50ms')
    await rm(join(image, 'deaf'))
    await act(id, 'stop')
    await until(() => stateOf(id) === 'stopped')
    const { body } = await sim.call('GET', `/v1/apps/pool/machines/${id}/events`)
    expect(JSON.stringify(body)).toContain('"exit_code":137,"signal":9')
  })

  it('runs commands from outside, and its lines can be read', async () => {
    const id = await open()
    const command = ['sh', '-c', 'cat; echo $FLY_MACHINE_ID; exit 4']
    expect(await act(id, 'exec', { command, stdin: 'in ' })).toMatchObject({
      status: 200,
      body: { exit_code: 4, stdout: `in ${id}\n`, stderr: '' },
    })
    expect(await act(id, 'exec', { command: ['sleep', '9'], timeout: 0.01 })).toMatchObject({ status: 408 })
    await until(() => sim.logs().length > 0)
    expect(sim.logs()).toMatchObject([{ fly: { app: { instance: id, name: 'pool' } }, message: `hello from ${id}` }])
  })

  it('asks for itself alone at its socket, and is told who it is by a token that the keys prove', async () => {
    const id = await open()
    const socket = join(directory, 'machines', id, 'fly', 'api')
    const token = (await post(socket, '/v1/tokens/oidc', { aud: 'senmon' })).text
    const [head = '', claims = '', signature = ''] = token.split('.')
    // The simulator's own keys.
    const { keys } = (await (await fetch(`${sim.url}/__sim/oidc/.well-known/jwks`)).json()) as { keys: [JsonWebKey] }
    const key = createPublicKey({ key: { ...keys[0] }, format: 'jwk' })
    expect(createVerify('RSA-SHA256').update(`${head}.${claims}`).verify(key, signature, 'base64url')).toBe(true)
    const said: unknown = JSON.parse(Buffer.from(claims, 'base64url').toString())
    expect(said).toMatchObject({
      iss: sim.issuer,
      aud: 'senmon',
      machine_id: id,
      app_name: 'pool',
      sub: 'personal:pool:one',
    })
    expect((await post(socket, '/v1/apps/pool/machines/0123456789abcd/suspend', {})).status).toBe(403)
    expect((await post(socket, `/v1/apps/pool/machines/${id}/suspend`, {})).status).toBe(200)
    await until(() => stateOf(id) === 'suspended')
  })

  it('leaves neither process nor file when it is destroyed', async () => {
    const id = await open()
    const [pid, child] = [pidOf(id, 'pid'), pidOf(id, 'child')]
    await sim.call('DELETE', `/v1/apps/pool/machines/${id}?force=true`)
    await until(() => !existsSync(join(directory, 'machines', id)))
    expect([isLive(pid), isLive(child)]).toEqual([false, false])
  })

  it('is gone with its files when the process of the simulator is killed (FD3)', async () => {
    await open()
    const own = join(directory, 'own')
    await mkdir(own)
    await mkdir(join(own, 'image'))
    await writeFile(join(own, 'image', 'main.sh'), GUEST)
    const script = join(import.meta.dirname, '..', 'fixture', 'fly-sim-owner.ts')
    const owner = spawn(process.execPath, [script, own], { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(owner.stdout, 'data')
    const guests = () =>
      descendants(owner.pid ?? 0, listProcesses()).filter(({ pid }) => /^NSpid:\t\d+\t/m.test(statusOf(pid)))
    await until(() => guests().length >= 3)
    const pids = guests().map(({ pid }) => pid)
    owner.kill('SIGKILL')
    await until(() => !pids.some(isLive) && !existsSync(join(own, 'machines')))
    expect(await readdir(own)).toEqual(['image'])
  })
})

function environOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8')
  } catch {
    return ''
  }
}

function post(socketPath: string, path: string, body: object): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, method: 'POST' }, (answer) => {
      let text = ''
      answer.setEncoding('utf8').on('data', (part: string) => (text += part))
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }))
    })
    asked.on('error', reject)
    asked.end(JSON.stringify(body))
  })
}
