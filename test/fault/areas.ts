/** Reads the lists of faults: each file of this folder that is not part of the machinery is an area. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Fault } from './fault.ts'

const MACHINERY = new Set(['areas.ts', 'fault.ts', 'main.ts', 'fault.test.ts'])

export async function listAreas(): Promise<readonly string[]> {
  const names = await readdir(import.meta.dirname)
  return names.filter((name) => !MACHINERY.has(name)).map((name) => name.replace(/\.ts$/, ''))
}

export async function readFaults(areas: readonly string[]): Promise<readonly Fault[]> {
  const faults: Fault[] = []
  for (const area of areas) {
    const module: { readonly faults: readonly Fault[] } = await import(join(import.meta.dirname, `${area}.ts`))
    faults.push(...module.faults)
  }
  return faults
}

/** What was asked for names nothing. */
export class NoSuchFault extends Error {}

/** The faults of the areas asked for, or those with certain words in their name: `local`, `local:outlives its server`. */
export async function chooseFaults(asked: readonly string[], areas: readonly string[]): Promise<readonly Fault[]> {
  const chosen = new Set<Fault>()
  for (const one of asked.length > 0 ? asked : areas) {
    const [area = '', ...words] = one.split(':')
    if (!areas.includes(area)) throw new NoSuchFault(`no faults of ${area}; there are ${areas.join(', ')}`)
    const found = (await readFaults([area])).filter(({ name }) => name.includes(words.join(':')))
    if (found.length === 0) throw new NoSuchFault(`no fault of ${area} has "${words.join(':')}" in its name`)
    for (const fault of found) chosen.add(fault)
  }
  return [...chosen]
}
