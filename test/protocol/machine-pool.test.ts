/** Pools over GraphQL: what an operator sees, and that nobody else does. */
import { expect, it, onTestFinished } from 'vitest'
import { reportOf } from '../contract/pool-report-store.ts'
import { openDoor } from '../support/door.ts'

const QUERY = `{ machinePool { queued running pools { name warmShare counts { state count }
  processes { holder leads target { ready machines why } limits { name value keptBy } } actions { at type why } } } }`

it('shows pools to a key with the scope operator, and to no other', async () => {
  const door = await openDoor()
  onTestFinished(() => door.close())
  await door.createJob()
  const now = door.clock.now()
  const actions = [{ at: now, type: 'create' as const, machineId: null, why: '1 of 2 are ready' }]
  const limits = [{ name: 'tasks' as const, value: 256, keptBy: null }]
  await door.poolReports.put(reportOf('host 7', now, { given: { resumed: 3, cold: 1 }, actions, limits }), 0)
  door.poolReports.counts = [{ pool: 'local', state: 'ready', count: 2 }]
  expect(await door.ask(QUERY)).toEqual({
    data: {
      machinePool: {
        queued: 1,
        running: 0,
        pools: [
          {
            name: 'local',
            warmShare: 0.75,
            counts: [{ state: 'ready', count: 2 }],
            processes: [
              { holder: 'host 7', leads: true, target: { ready: 2, machines: 4, why: 'the policy says so' }, limits },
            ],
            actions: [{ at: new Date(now).toISOString(), type: 'create', why: '1 of 2 are ready' }],
          },
        ],
      },
    },
  })
  const refused = { errors: [{ extensions: { code: 'permission_denied' } }] }
  expect(await door.ask(QUERY, {}, door.otherKey)).toMatchObject(refused)
  // What an operator's key makes is a key of its application, and no more.
  const made: { data?: { createApiKey: { key: string } } } = await door.ask(
    'mutation { createApiKey { ... on CreatedApiKey { key } } }',
  )
  expect(await door.ask(QUERY, {}, made.data?.createApiKey.key ?? null)).toMatchObject(refused)
})
