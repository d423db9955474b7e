/** A trial of a machine, step by step, on a provider in virtual time: what it says of each that fails, and that nothing is left. */
import { expect, it } from 'vitest'
import type { HostLine, InwardLine, MachineLine } from '../../schema/control.ts'
import { makeId } from '../../schema/id.ts'
import type { Machine } from '../../src/pool/machine-host.ts'
import { ProviderError, type MachineProvider } from '../../src/pool/machine-provider.ts'
import { unfitFault } from '../../src/pool/machine.ts'
import { moveMachine } from '../../src/pool/moves.ts'
import { openLoneRow, tryMachine, type LoneRow } from '../../src/pool/trial.ts'
import { fakeClock, type FakeClock } from '../fake/fake-clock.ts'
import { virtualProvider } from '../fake/virtual-provider.ts'

const ID = makeId('mch', 1, new Uint8Array(16))
const REQUEST = { type: 'request', id: 1 } as const

/** A machine that asks for the content of the tree, then for a generation, and ends when it is told to. */
function working(machine: Machine, restores = true): Machine {
  const heard: (HostLine | InwardLine)[] = []
  let bell = Promise.withResolvers<void>()
  const ended = Promise.withResolvers<{ reason: string; stderrTail: string }>()
  async function next(is: (line: HostLine | InwardLine) => boolean): Promise<HostLine | InwardLine> {
    for (;;) {
      const found = heard.find(is)
      if (found !== undefined) return found
      await bell.promise
    }
  }
  async function* lines(): AsyncGenerator<MachineLine> {
    const start = await next(({ type }) => type === 'start')
    let hash = restores && start.type === 'start' ? start.inputTreeHash : null
    for (let id = 1; hash !== null; id++) {
      yield { ...REQUEST, id, method: 'blob', params: { hash, offset: 0 } }
      const reply = await next((line) => line.type === 'reply' && line.id === id)
      const value = reply.type === 'reply' && reply.ok ? (reply.value as { readonly base64: string }) : { base64: '' }
      const text = Buffer.from(value.base64, 'base64').toString('utf8')
      hash = (/[0-9a-f]{64}/.exec(text)?.[0] ?? null) as typeof hash
    }
    await next(({ type }) => type === 'go')
    yield { ...REQUEST, id: 9, method: 'generate', params: {} as never }
    await next(({ type }) => type === 'cancel')
    ended.resolve({ reason: 'done', stderrTail: '' })
  }
  return {
    ...machine,
    send: (line) => {
      heard.push(line)
      bell.resolve()
      bell = Promise.withResolvers()
    },
    lines: lines(),
    ended: ended.promise,
  }
}

type Connect = Parameters<MachineProvider['connect']>
type Change = (real: MachineProvider, row: LoneRow, clock: FakeClock) => Partial<MachineProvider>

async function tried(change: Change = () => ({})) {
  const clock = fakeClock()
  const real = virtualProvider(clock)
  const row = openLoneRow()
  const provider: MachineProvider = {
    ...real,
    connect: async (...given) => working(await real.connect(...given)),
    ...change(real, row, clock),
  }
  real.watch((news) => {
    if (news.type !== 'up') return
    void row.find(ID).then((machine) => {
      if (machine?.state === 'booting' || machine?.state === 'creating')
        void moveMachine(row, machine, { type: 'up', now: clock.now(), bootId: news.bootId })
    })
  })
  const over: { result?: Awaited<ReturnType<typeof tryMachine>> } = {}
  void tryMachine({ provider, row, id: ID, linesUrl: 'http://here', clock }).then((result) => (over.result = result))
  for (let i = 0; i < 20_000 && over.result === undefined; i++) await clock.advance(100)
  const left = [...real.machines.values()].filter(({ state }) => state !== 'gone')
  return { result: over.result, left }
}

it('passes when every step does, and leaves nothing (TR1)', async () => {
  const { result, left } = await tried()
  expect(result).toMatchObject({ ok: true, resumed: true })
  expect(left).toEqual([])
})

const refused = () => Promise.reject(new ProviderError('refused', 'Fly says no.'))

it.each([
  ['boot', () => ({ create: refused }), /failed to boot: Fly says no/, /fly logs/],
  ['suspend', () => ({ suspend: async () => {} }), /failed to suspend: It was not suspended/, /SENMON_FLY_SIZE/],
  ['resume', () => ({ start: refused }), /failed to resume: Fly says no/, /Fly’s status/],
  [
    'job',
    (real: MachineProvider) => ({ connect: (...given: Connect) => real.connect(...given) }),
    /failed to do a job: It has not come through/,
    /Build the image/,
  ],
  [
    'tree',
    (real: MachineProvider) => ({
      connect: async (...given: Connect) => working(await real.connect(...given), false),
    }),
    /failed to do a job: .* it asked for generate/,
    /Build the image/,
  ],
])('says that it was the %s that failed, and leaves nothing (TR1)', async (_step, change, reason, fix) => {
  const { result, left } = await tried(change)
  expect(result).toMatchObject({ ok: false, reason: expect.stringMatching(reason), fix: expect.stringMatching(fix) })
  expect(left).toEqual([])
})

it('says what a machine says that can do no job (TR1)', async () => {
  const { result, left } = await tried((real, row, clock) => ({
    async create(machine) {
      const made = await real.create(machine)
      void clock.sleep(500).then(async () => {
        const known = await row.find(ID)
        if (known !== undefined)
          await moveMachine(row, known, { type: 'retire', now: clock.now(), fault: unfitFault('It has no /tmp.') })
      })
      return made
    },
  }))
  expect(result).toMatchObject({
    ok: false,
    reason: expect.stringMatching(/failed to boot: It can do no job: It has no \/tmp/),
  })
  expect(left).toEqual([])
})

it('is asked again where the provider is slow to answer, and names a machine that it could not destroy (TR1)', async () => {
  let asked = 0
  const slow = await tried((real) => ({
    destroy: async (machine, mayAct) => {
      if ((asked += 1) < 3) throw new ProviderError('throttled', 'Too often.')
      await real.destroy(machine, mayAct)
    },
  }))
  expect([slow.result?.ok, slow.left]).toEqual([true, []])
  const { result } = await tried(() => ({ destroy: refused }))
  expect(result).toMatchObject({
    ok: false,
    reason: expect.stringMatching(new RegExp(`The machine p-${ID} may be left: Fly says no`)),
    fix: expect.stringMatching(/fly machine destroy/),
  })
})
