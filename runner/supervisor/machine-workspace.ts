/** A machine's workspace: restored before a skill starts, looked at after every tool call. */
import { mkdirSync, lstatSync } from 'node:fs'
import type { Clock } from '../../schema/clock.ts'
import type { BlobLine, BlobParams, WorkspaceLine } from '../../schema/control.ts'
import { PlatformError } from '../../schema/error.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { Json } from '../../schema/json.ts'
import type { MachinePlan } from '../../schema/machine-plan.ts'
import { WorkspaceCapture } from '../workspace/capture.ts'
import { fetchContent } from '../workspace/fetch.ts'
import { keepResult, type KeptResult } from '../workspace/kept-result.ts'
import { WORKSPACE_LIMITS } from '../workspace/limits.ts'
import { restoreTree } from '../workspace/restore.ts'

/** Where the input files are mounted; a mount point in a directory that skills write to must exist before they do. */
const INPUT_NAME = 'input'

export interface MachineWorkspaceOptions {
  readonly plan: MachinePlan
  readonly clock: Clock
  askBlob(params: BlobParams): Promise<Json>
  say(line: BlobLine | WorkspaceLine): Promise<void>
  report(text: string): void
}

export class MachineWorkspace {
  readonly #options: MachineWorkspaceOptions
  readonly #known = new Set<Sha256>()
  readonly #capture: WorkspaceCapture
  #treeHash: Sha256 | null = null
  #last: Promise<void> = Promise.resolve()
  #next: Promise<void> | undefined

  constructor(options: MachineWorkspaceOptions) {
    this.#options = options
    this.#capture = new WorkspaceCapture({
      root: options.plan.workspace,
      reserved: new Set([INPUT_NAME]),
      limits: WORKSPACE_LIMITS,
      known: this.#known,
      clock: options.clock,
      send: (line) => options.say(line),
      report: (text) => options.report(text),
    })
  }

  /** Throws when a tree is not what its hash says, or when the directories are not as the host made them. */
  async restore(treeHash: Sha256 | null, inputTreeHash: Sha256 | null): Promise<void> {
    const { workspace, input } = this.#options.plan
    const both = {
      limits: WORKSPACE_LIMITS,
      known: this.#known,
      fetch: (hash: Sha256) =>
        fetchContent(hash, (params) => this.#options.askBlob(params), WORKSPACE_LIMITS.fileBytes),
    }
    const mountPoint = `${workspace}/${INPUT_NAME}`
    mkdirSync(mountPoint, { recursive: true, mode: 0o755 })
    for (const directory of [workspace, input, mountPoint]) {
      if (!lstatSync(directory).isDirectory())
        throw new PlatformError('workspace_invalid', `${directory} is not a directory.`)
    }
    if (treeHash !== null) await restoreTree(treeHash, { ...both, root: workspace, reserved: new Set([INPUT_NAME]) })
    if (inputTreeHash !== null) await restoreTree(inputTreeHash, { ...both, root: input, reserved: new Set() })
    this.#treeHash = treeHash
  }

  /**
   * Says the tree when it has changed; resolves when all that was written before the call has been looked at.
   * Calls that wait for a look in progress share the next one. Throws `limit_exceeded`.
   */
  look(): Promise<void> {
    this.#next ??= this.#last.then(async () => {
      this.#next = undefined
      const treeHash = await this.#capture.capture()
      if (treeHash === this.#treeHash) return
      await this.#options.say({ type: 'workspace', treeHash })
      this.#treeHash = treeHash
    })
    const look = this.#next
    this.#last = look.catch(() => {})
    return look
  }

  /** Keeps a tool's long answer as a file that the next look finds; undefined when it cannot be kept. */
  keep(text: string): KeptResult | undefined {
    const attempt = <Value>(act: () => Value): Value | undefined => {
      try {
        return act()
      } catch (error) {
        this.#options.report(`A result is not kept: ${error instanceof Error ? error.message : String(error)}`)
        return undefined
      }
    }
    const kept = attempt(() => keepResult(this.#options.plan.workspace, text))
    return kept && { ...kept, remove: () => attempt(() => kept.remove()) }
  }
}
