/** What a provider has, against what the rows say. */
import { describe, expect, it } from 'vitest'
import type { MachineId } from '../../schema/id.ts'
import { census, STRAY_MS } from '../../src/pool/census.ts'
import type { Observation } from '../../src/pool/machine-provider.ts'
import { orderMachine, type PooledMachine } from '../../src/pool/machine.ts'

const seen = (name: string, state: Observation['state'] = 'running'): Observation => ({
  machineId: `mch_${name}` as MachineId,
  providerId: name,
  state,
  generation: null,
  createdAt: null,
})
const row = (name: string, change: Partial<PooledMachine> = {}): PooledMachine => ({
  ...orderMachine({ id: `mch_${name}` as MachineId, pool: 'p', place: 'here', generation: 'g', now: 0 }, null),
  providerId: name,
  state: 'ready',
  ...change,
})

describe('a census', () => {
  it('ends what no row knows, once it has been there for a while (CE1)', () => {
    const first = census([seen('a'), seen('b')], [row('a')], new Map(), 1_000)
    expect(first.strays).toEqual([])
    const soon = census([seen('b')], [], first.unknown, STRAY_MS + 999)
    expect(soon.strays).toEqual([])
    const then = census([seen('b')], [], soon.unknown, STRAY_MS + 1_000)
    expect(then.strays).toEqual([seen('b')])
  })

  it('knows a machine by our name for it where the row has not heard of its own (CE1)', () => {
    expect(census([seen('a')], [row('a', { providerId: null, state: 'creating' })], new Map(), 0).unknown.size).toBe(0)
  })

  it('forgets a stranger that was not there once: it begins anew', () => {
    const first = census([seen('b')], [], new Map(), 0)
    const away = census([], [], first.unknown, 1_000)
    expect(census([seen('b')], [], away.unknown, STRAY_MS).strays).toEqual([])
  })

  it('leaves alone what is being ended already', () => {
    expect(census([seen('b', 'destroying'), seen('c', 'gone')], [], new Map(), 0).unknown.size).toBe(0)
  })

  it('has looked at what was not listed, unless it is too young to be (CE2)', () => {
    const rows = [row('old'), row('young', { since: 90_000 }), row('ending', { state: 'retiring' }), row('there')]
    const { missing } = census([seen('there')], rows, new Map(), 100_000)
    expect(missing.map(({ providerId }) => providerId)).toEqual(['old'])
  })
})
