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
