/**
 * Which files of a directory that several servers share are in use, and the removal of those that are not: each new
 * version of Senmon or Node leaves a hundred megabytes there otherwise.
 *
 * US1 What a server that lives has said it uses stays.
 * US2 What nobody uses goes after a day, since a server of before this file says nothing.
 * US3 What a server was making or trying when it died goes with the next start.
 */
import { mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findProcess } from './processes.ts'

const USES = 'uses'
const UNUSED_MS = 24 * 60 * 60 * 1000
/** What is made anew when it is needed: copies of Node, of bundles and of skills. */
const SWEPT = /^(node|runner|supervisor|heap|skill|making|canary|probe|dead)-/
/** What is of one server alone, by its pid. */
const OWN = /^(?:making|canary|probe|dead|spawner)-(\d+)(?:-|$)/

export interface Uses {
  /** To be said before it is looked whether the file is there. */
  add(name: string): void
}

/** This server's uses of `directory`; `now` is epoch ms. */
export function openUses(directory: string, now: number): Uses {
  const uses = join(directory, USES)
  const own = join(uses, `${process.pid}-${findProcess(process.pid)?.startedAt ?? ''}`)
  mkdirSync(own, { recursive: true, mode: 0o755 })
  for (const owner of readdirSync(uses)) {
    const [pid, startedAt] = owner.split('-')
    if (findProcess(Number(pid))?.startedAt === startedAt) continue
    rmSync(join(uses, owner), { recursive: true, force: true })
  }
  for (const name of readdirSync(directory)) {
    const [, maker] = OWN.exec(name) ?? []
    if (maker !== undefined && findProcess(Number(maker)) === undefined)
      rmSync(join(directory, name), { recursive: true, force: true })
    else if (SWEPT.test(name)) sweep(directory, name, now)
  }
  const said = new Set<string>()
  return {
    add(name) {
      // Once: every job says it of its skills.
      if (!said.has(name)) writeFileSync(join(own, name), '')
      said.add(name)
    },
  }
}

function sweep(directory: string, name: string, now: number): void {
  const path = join(directory, name)
  const dead = join(directory, `dead-${process.pid}-${name}`)
  try {
    // A rename does not change when a file was last written, but when its inode was last touched.
    if (now - statSync(path).ctimeMs < UNUSED_MS || isUsed(directory, name)) return
    // Somebody may begin to use it now: it is taken away first, and given back when somebody has.
    renameSync(path, dead)
    if (isUsed(directory, name)) renameSync(dead, path)
  } catch {
    // Another server was quicker.
  }
  rmSync(dead, { recursive: true, force: true })
}

function isUsed(directory: string, name: string): boolean {
  const uses = join(directory, USES)
  return readdirSync(uses).some((owner) => {
    try {
      return readdirSync(join(uses, owner)).includes(name)
    } catch {
      return false // it has just been swept
    }
  })
}
