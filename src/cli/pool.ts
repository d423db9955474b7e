/** `senmon pool`: why there are as many machines as there are, in 80 columns. */
import { isJsonObject, type Json, type JsonObject } from '../../schema/json.ts'
import type { Command } from './command.ts'
import { shownLine } from './terminal.ts'

const POOL = `query { machinePool { queued running pools {
  name warmShare strays counts { state count } given { resume count }
  processes { holder at isSilent leads target { ready machines isPanic why } limits { name value keptBy } restraints }
  actions { at type machineId why } faults { at verb why }
} } }`

const WIDTH = 80

export const pool: Command = {
  name: 'pool',
  usage: '',
  summary: 'Says why the pools of machines have the size that they have.',
  details: 'For operators: the key must have the scope operator, as the dev key has.',
  options: {},
  arity: [0, 0],
  async perform(call) {
    const { machinePool } = await (await call.api()).request(POOL, {})
    if (call.json) call.terminal.write(`${JSON.stringify(machinePool)}\n`)
    else for (const line of printPools(machinePool ?? null)) call.terminal.write(`${line}\n`)
    return 0
  },
}

const rows = (value: Json | undefined) => (Array.isArray(value) ? value.filter(isJsonObject) : [])
const text = (value: Json | undefined): string =>
  typeof value === 'string' ? value : typeof value === 'number' ? String(value) : ''
const timeOf = (value: Json | undefined): string => text(value).slice(11, 19)
const plural = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`

/** What the server says, which may be of another version: what it leaves out is left out. */
export function printPools(given: Json): readonly string[] {
  const all = isJsonObject(given) ? given : {}
  const lines = [`${plural(Number(all['queued']), 'job')} queued, ${text(all['running'])} running`]
  for (const one of rows(all['pools'])) {
    const counts = rows(one['counts']).map(({ state, count }) => `${text(state)} ${text(count)}`)
    const found = rows(one['given']).map(({ resume, count }) => `${text(resume)} ${text(count)}`)
    const { warmShare, strays } = one
    const warm = typeof warmShare === 'number' ? ` (${Math.round(warmShare * 100)}% warm)` : ''
    lines.push('', shownLine(`pool ${text(one['name'])}`, WIDTH))
    lines.push(...entry('machines', counts.length > 0 ? counts.join(', ') : 'none'))
    lines.push(...entry('jobs found', found.length > 0 ? `${found.join(', ')}${warm}` : 'nothing yet'))
    if (strays !== 0) lines.push(...entry('strays', `${text(strays)} that nobody knows`))
    for (const process of rows(one['processes'])) {
      const { holder, target, isSilent, leads } = process
      const role = isSilent === true ? `silent since ${timeOf(process['at'])}` : leads === true ? 'leads' : 'follows'
      lines.push(...entry('process', `${printHolder(text(holder))} ${role}`))
      const limits = rows(process['limits']).map(printLimit)
      if (limits.length > 0) lines.push(...entry('  limits', limits.join(', ')))
      if (!isJsonObject(target)) continue
      const panic = target['isPanic'] === true ? ', in a rush' : ''
      lines.push(...entry('  wants', `${text(target['ready'])} ready of ${text(target['machines'])}${panic}`))
      lines.push(...entry('  because', text(target['why'])))
      const { restraints } = process
      for (const one of Array.isArray(restraints) ? restraints : []) lines.push(...entry('  held back', text(one)))
    }
    for (const { at, type, why } of rows(one['actions']))
      lines.push(...entry(timeOf(at), `${text(type)}: ${text(why)}`))
    for (const { at, verb, why } of rows(one['faults']))
      lines.push(...entry(timeOf(at), `${text(verb)} FAILED: ${text(why)}`))
  }
  return lines
}

/** A process as it names itself, `["host",pid,"start"]`, in words; another name as it is. */
function printHolder(holder: string): string {
  const found = /^\["(?<host>[^"\\]*)",(?<pid>\d+),/.exec(holder)?.groups
  return found === undefined ? holder : `${found['pid']} on ${found['host']}`
}

function printLimit({ name, value, keptBy }: JsonObject): string {
  const amount = Number(value)
  const shown = name === 'memoryBytes' ? `${Math.round(amount / 1024 / 1024)} MiB` : `${amount} ${text(name)}`
  return typeof keptBy === 'string' ? `${shown} (${keptBy})` : `${shown} (NOT KEPT)`
}

const INDENT = 14

/** A name and what it is, over as many lines as 80 columns need. */
function entry(name: string, value: string): readonly string[] {
  const lines: string[] = []
  let line = ''
  for (const word of shownLine(value, 1000).split(' ')) {
    if (line !== '' && line.length + 1 + word.length > WIDTH - INDENT) {
      lines.push(line)
      line = ''
    }
    line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line].map((part, i) => `  ${(i === 0 ? name : '').padEnd(INDENT - 2)}${part}`)
}
