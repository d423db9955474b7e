/** Port: what can start a machine for one job: a local sandbox, Docker, Fly Machines. */
import type { HostLine, MachineLine } from '../../schema/control.ts'
import type { JobId, MachineId } from '../../schema/id.ts'
import type { Lock } from '../../schema/lock.ts'
import type { Resume } from '../../schema/event.ts'
import type { Rider } from '../job/job-log.ts'

export type ProbeResult =
  | { readonly ok: true }
  | {
      readonly ok: false
      readonly reason: string
      readonly fix: string
      /** Nobody could say: whoever was asked did not answer, and may in a moment. Absent means no. */
      readonly mayPass?: true
    }

/** How a job came by its machine: what the log keeps of it beside the proof, the boot id. */
export interface Obtained {
  readonly resume: Resume
  /** The pool's name for it; null for one that no pool keeps. */
  readonly machineId: MachineId | null
  /** How long each part took, in ms: `claim` to have a machine's row, `start` for the provider, `wake` until it was there. */
  readonly phases: { readonly claim: number; readonly start: number; readonly wake: number } | null
}

/** One machine, for one job. What it says is untrusted until parsed; `lines` ends when the machine is gone. */
export interface Machine {
  readonly obtained: Obtained
  /** Its processes that live now, as far as the host can count. */
  processes(): number
  send(line: HostLine): void
  /** Bytes that it was sent and has not read. */
  readonly unreadBytes: number
  /** Throws `protocol_breach` on a line that is too long or not one of ours. */
  readonly lines: AsyncIterable<MachineLine>
  /** Resolves when every process of the machine is gone, with why: an exit code, a signal, oom. Never rejects. */
  readonly ended: Promise<{ readonly reason: string; readonly stderrTail: string }>
  /** Ends it, whatever it is doing. Idempotent; resolves when nothing of it is left. */
  destroy(): Promise<void>
}

export interface MachineHost {
  readonly name: 'local' | 'docker' | 'fly' | 'unsafe-process'
  /** REALLY runs a sandbox and checks a denied read and a denied connect. */
  probe(): Promise<ProbeResult>
  /**
   * The claim of a machine for an attempt whose lease is being written, to go in the same commit; `open` then has it.
   * Whoever has no attempt in the end says so to the rider.
   */
  ahead?(owner: { readonly jobId: JobId; readonly fence: number }): Rider | undefined
  /**
   * A machine that has everything in the lock at hand and waits for its `start` line. Throws `machine_failed`, and
   * `machine_provider_failed` where there was none to be had: that says nothing against the job. Once the signal aborts it
   * waits for no machine that is not there yet.
   */
  open(owner: { readonly jobId: JobId; readonly fence: number }, lock: Lock, signal?: AbortSignal): Promise<Machine>
  close(): Promise<void>
}
