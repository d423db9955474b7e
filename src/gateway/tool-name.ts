/** Our tool names, `skill/tool`, as providers accept them: letters, digits, `_` and `-`, at most 64. Pure. */
import { sha256 } from '../../schema/hash.ts'

/** What every provider accepts. */
const WIRE_NAME_MAX = 64
/** Names that survive `/` -> `__` in a way that no other name does. */
const PLAIN = /^[A-Za-z][A-Za-z0-9-]*(?:_[A-Za-z0-9-]+)*\/[A-Za-z0-9-]+(?:_[A-Za-z0-9-]+)*$/

function wireName(name: string): string {
  if (PLAIN.test(name) && name.length < WIRE_NAME_MAX) return name.replace('/', '__')
  const safe = name.replaceAll('/', '__').replaceAll(/[^A-Za-z0-9_-]/g, '_')
  const start = /^[A-Za-z_]/.test(safe) ? safe : `_${safe}`
  return `${start.slice(0, WIRE_NAME_MAX - 13)}_${sha256(name).slice(0, 12)}`
}

/** One name for one tool, both ways; the same name in every call, whatever other tools are on offer. */
export interface ToolNames {
  toWire(name: string): string
  /** The name itself when no tool on offer has it: a model may invent one, and the runner says so. */
  fromWire(name: string): string
}

/** Throws TypeError when two of `names` would be one on the wire: a call must never reach the wrong tool. */
export function toolNames(names: readonly string[]): ToolNames {
  const byWire = new Map<string, string>()
  for (const name of names) {
    const wire = wireName(name)
    const taken = byWire.get(wire)
    if (taken !== undefined && taken !== name) throw new TypeError(`the tools ${taken} and ${name} are one on the wire`)
    byWire.set(wire, name)
  }
  return { toWire: wireName, fromWire: (name) => byWire.get(name) ?? name }
}
