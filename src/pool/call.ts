/** What one call of an application brings to any door: who asks, through which verbs, and when it is over. */
import type { Clock } from '../../schema/clock.ts'
import type { Applications, Caller } from '../application/applications.ts'
import type { ExpertSource } from '../expert/expert-source.ts'
import type { SkillSource } from '../expert/skill-source.ts'
import type { Bundles } from '../job/bundles.ts'
import type { Forks } from '../job/forks.ts'
import type { Jobs } from '../job/jobs.ts'
import type { Prompts } from '../job/prompts.ts'
import type { PoolViews } from './pool-reports.ts'
import type { Secrets } from '../secret/secrets.ts'
import type { Workspaces } from '../workspace/workspaces.ts'

/** The verbs that the doors are doors to. */
export interface Verbs {
  readonly jobs: Jobs
  readonly forks: Forks
  readonly bundles: Bundles
  readonly prompts: Prompts
  readonly applications: Applications
  readonly secrets: Secrets
  readonly experts: ExpertSource
  readonly skills: SkillSource
  readonly workspaces: Workspaces
  readonly pools: PoolViews
}

/** One stream's place: set by each event as it is resolved, read by whoever writes the frame. */
export interface Cursor {
  seq: number | null
}

export interface Call extends Verbs {
  readonly caller: Caller
  readonly clock: Clock
  /** Aborts when the client has left or the server closes. */
  readonly signal: AbortSignal
  /** The client's `Last-Event-ID`; 0 for none. */
  readonly lastEventId: number
  readonly cursor: Cursor
}
