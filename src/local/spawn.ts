/** What a server asks of the process that forks for it (`spawner/main.ts`), and what that answers: JSON, a line each. */
import { bytesOf, environmentOf, type Launch } from '../../schema/machine-plan.ts'

export interface Program {
  readonly file: string
  readonly args: readonly string[]
  readonly cwd: string
  /** The whole of it. */
  readonly environment: Readonly<Record<string, string>>
  /** Whom it starts as, where that is somebody else; with the group of the same number. */
  readonly uid?: number
}

/** Bytes for a descriptor, which is then closed. */
export interface Fed {
  readonly fd: number
  readonly base64: string
}

/** What begins in the same moment, its streams in the hands of the program that is asked for. */
export interface Beside extends Program {
  readonly feeds: readonly Fed[]
  readonly ownGroup: boolean
}

export interface Ask {
  readonly id: number
  readonly program: Program
  readonly beside: Beside | null
}

export type Answer =
  | { readonly id: number; readonly type: 'begun'; readonly pids: readonly number[] }
  | { readonly id: number; readonly type: 'failed'; readonly why: string }
  /** After `begun`, once. */
  | { readonly id: number; readonly type: 'ended'; readonly code: number | null; readonly signal: string | null }

/** What a connection of the spawner begins with: of which ask it is, and which descriptor. */
export const LABEL_BYTES = 16

export function printLabel(id: number, fd: number): string {
  return `${id} ${fd}`.padEnd(LABEL_BYTES - 1) + '\n'
}

/** Undefined for what is no label. */
export function parseLabel(text: string): { readonly id: number; readonly fd: number } | undefined {
  const [, id, fd] = /^(\d+) ([0-2]) *\n$/.exec(text) ?? []
  return id === undefined ? undefined : { id: Number(id), fd: Number(fd) }
}

/** `launch` as it begins beside its supervisor: behind `launcher`, which limits it in the same way. */
export function besideOf(launch: Launch, launcher: readonly string[], uid: number | undefined): Beside {
  const { cwd, environment, ownGroup } = launch
  const [file = '', ...args] = [...launcher, launch.file, ...launch.args]
  const feeds = launch.feeds.map((feed) => ({ fd: feed.fd, base64: bytesOf(feed, environment).toString('base64') }))
  const program = { file, args, cwd, environment: environmentOf(launch, environment), feeds, ownGroup }
  return uid === undefined ? program : { ...program, uid }
}
