/** What an image must have so that a compartment can start in it, said before one is tried: its own words say little. */
import { accessSync, constants, statSync } from 'node:fs'
import { imagePaths, type ImageFacts } from '../../schema/machine-image.ts'

/** A sentence for operators; undefined when nothing is missing. */
export function lackOf(image: ImageFacts, temporary = '/tmp'): string | undefined {
  const { bundle, directory, passwd, preload, libraries } = imagePaths(image)
  const { bwrap, node } = image
  for (const [path, what] of [
    [node, 'Node'],
    [bwrap, 'bubblewrap, which makes the compartments'],
  ] as const)
    if (!can(path, constants.X_OK)) return `The image has no ${path}: that is ${what}.`
  if (!isDirectory(temporary)) return `The image has no ${temporary}: bubblewrap begins every compartment on it.`
  for (const path of [bundle('supervisor'), directory('runner'), bundle('runner'), passwd, preload, libraries])
    if (!can(path, constants.R_OK)) return `The image has no ${path}: runner/image/main.ts makes it.`
  return undefined
}

function can(path: string, mode: number): boolean {
  try {
    accessSync(path, mode)
    return true
  } catch {
    return false
  }
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true
}
