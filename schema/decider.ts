/** The two shapes of a pure core: a Decider is told things, a Process says what it is owed. */

export interface Decider<State, Command, Event, Refusal> {
  readonly initial: State
  decide(state: State, command: Command): readonly Event[] | Refusal
  evolve(state: State, event: Event): State
}

export interface Process<State, Event, Effect> {
  readonly initial: State
  evolve(state: State, event: Event): State
  /** What is owed to the world; [] is at rest. */
  pending(state: State): readonly Effect[]
}

/** The state that a history leads to. */
export function replay<State, Event>(
  core: { readonly initial: State; evolve(state: State, event: Event): State },
  events: Iterable<Event>,
): State {
  let state = core.initial
  for (const event of events) state = core.evolve(state, event)
  return state
}

/** Marks a branch that the types rule out. */
export function unreachable(value: never): never {
  throw new TypeError(`unreachable: ${JSON.stringify(value)}`)
}
