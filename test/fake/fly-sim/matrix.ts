/** What each state answers to each action: the table that the documentation draws, with the words that users saw. */
import type { MachineState } from './shapes.ts'

/** A state, where one state answers in several ways. */
export type Condition =
  | Exclude<MachineState, 'destroyed' | 'launch_failed'>
  /** `created`, and its image is being pulled. */
  | 'pulling'
  /** `stopped` a moment ago. */
  | 'active'
export type MatrixAction = 'start' | 'stop' | 'suspend' | 'update' | 'delete' | 'force' | 'exec'

export type Cell =
  /** Accepted; it moves to that state, or stays. */
  { readonly status: 200; readonly to: MachineState | 'same' } | { readonly status: 409 | 412; readonly error: string }

const goes = (to: MachineState): Cell => ({ status: 200, to })
const same: Cell = { status: 200, to: 'same' }
const no = (error: string): Cell => ({ status: 412, error: `failed_precondition: ${error}` })
const unable = (verb: string, state: string): Cell => no(`unable to ${verb} machine from current state: '${state}'`)
const undead = no('unable to destroy machine, not currently stopped')

type Row = Readonly<Record<MatrixAction, Cell>>
/** Refuses whatever is not named. */
const row = (state: string, cells: Partial<Row>): Row => ({
  start: unable('start', state),
  stop: unable('stop', state),
  suspend: unable('suspend', state),
  update: unable('update', state),
  delete: undead,
  force: goes('destroying'),
  exec: no('machine not running'),
  ...cells,
})
const [dies, stops, replaced] = [goes('destroying'), goes('stopping'), goes('replacing')]

export const MATRIX: Readonly<Record<Condition, Row>> = {
  pulling: row('created', { stop: stops, update: replaced, delete: dies }),
  created: row('created', { start: goes('starting'), stop: stops, update: replaced, delete: dies }),
  // A stop is kept until the start has settled.
  starting: row('starting', { start: no('machine still attempting to start'), stop: same }),
  started: row('started', { start: same, stop: stops, suspend: goes('suspending'), update: replaced, exec: same }),
  suspending: row('suspending', { start: goes('starting'), stop: stops, suspend: same }),
  suspended: row('suspended', {
    start: goes('starting'),
    stop: stops,
    suspend: same,
    update: replaced,
    delete: dies,
  }),
  stopping: row('stopping', { stop: same }),
  active: row('stopped', {
    start: no('machine still active, refusing to start'),
    stop: same,
    update: replaced,
    delete: dies,
  }),
  stopped: row('stopped', { start: goes('starting'), stop: same, update: replaced, delete: dies }),
  failed: row('failed', { start: goes('starting'), stop: stops, update: replaced, delete: dies }),
  replacing: row('replacing', { start: no('machine getting replaced, refusing to start') }),
  destroying: row('destroying', { stop: same, delete: same, force: same }),
}

/** The arrows of the platform: by itself or on an action, a state is left only for these. */
export const ARROWS: Readonly<Record<MachineState, readonly MachineState[]>> = {
  created: ['starting', 'stopping', 'replacing', 'launch_failed', 'destroying'],
  starting: ['started', 'failed', 'launch_failed', 'stopped', 'destroying'],
  started: ['suspending', 'stopping', 'stopped', 'starting', 'replacing', 'destroying'],
  suspending: ['suspended', 'starting', 'stopping', 'stopped', 'destroying'],
  suspended: ['starting', 'stopping', 'stopped', 'replacing', 'destroying'],
  stopping: ['stopped', 'failed', 'destroying'],
  stopped: ['starting', 'replacing', 'destroying'],
  failed: ['starting', 'stopping', 'replacing', 'destroying'],
  replacing: ['starting', 'created', 'stopped', 'destroying'],
  launch_failed: ['destroyed'],
  destroying: ['destroyed'],
  destroyed: [],
}
