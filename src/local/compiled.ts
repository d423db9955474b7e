/**
 * What Node compiled of our bundles, kept beside them: a machine lives for one job, and half of its start would be
 * reading the same megabyte of JavaScript again. Node checks what it finds against its version and the source, and
 * compiles as ever where nothing fits.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { SANDBOX_UID, type Mount } from '../sandbox/sandbox.ts'

const MAIN = 'main.mjs'
const CACHE = 'cache'
const COMPILE_MS_MAX = 20_000

/** Where in a directory of `makeCompiled` the bundle is. */
export function mainOf(directory: string): string {
  return join(directory, MAIN)
}

/** Where what was compiled of this bundle is; undefined for one that was not. */
export function cacheOf(bundle: string): string | undefined {
  const cache = join(dirname(bundle), CACHE)
  return existsSync(cache) ? cache : undefined
}

/**
 * How glibc keeps memory that is free (mallopt(3), in bytes): in one arena for all threads, and as little as it can. A
 * machine that waits holds two and a half megabytes less of it.
 */
const SPARING = {
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_THRESHOLD_: '32768',
  MALLOC_TRIM_THRESHOLD_: '16384',
  MALLOC_TOP_PAD_: '0',
}

/** The variables that make Node look there, whatever the directory above is called for it. */
export function cacheEnvironment(cache: string): Readonly<Record<string, string>> {
  return { NODE_COMPILE_CACHE: cache, NODE_COMPILE_CACHE_PORTABLE: '1', ...SPARING }
}

/**
 * Makes a directory of a bundle and of what `node` compiles of it when it is started and finds nothing to do. Whether
 * that came about shows in `cacheOf`: it saves time, and nothing depends on it.
 */
export function makeCompiled(directory: string, text: string, node: string, options: readonly string[]): void {
  mkdirSync(directory)
  writeFileSync(mainOf(directory), text)
  const env = cacheEnvironment(join(directory, CACHE))
  spawnSync(node, [...options, mainOf(directory)], { env, input: '', timeout: COMPILE_MS_MAX, stdio: 'pipe' })
}

/** What a sandbox needs, and what Node runs in it. */
export function compiledInside(bundle: string): {
  readonly mounts: readonly Mount[]
  readonly command: readonly string[]
  readonly environment: Readonly<Record<string, string>>
} {
  const main = join('/runner', MAIN)
  const mounts = [{ source: bundle, target: main, writable: false }]
  const cache = cacheOf(bundle)
  if (cache === undefined) return { mounts, command: [main], environment: {} }
  shareCompiled(cache, SANDBOX_UID, true)
  const target = join('/runner', CACHE)
  return {
    mounts: [...mounts, { source: cache, target, writable: false }],
    command: [main],
    environment: cacheEnvironment(target),
  }
}

/**
 * Node keeps one folder for each uid. Gives it to `uid`, whose processes may read it and not write: in place of our
 * own (`only`), or as well.
 */
export function shareCompiled(cache: string, uid: number, only: boolean): void {
  const [folder] = readdirSync(cache)
  const shared = folder?.replace(/-\d+$/, `-${uid}`)
  if (folder === undefined || shared === undefined || existsSync(join(cache, shared))) return
  if (only) renameSync(join(cache, folder), join(cache, shared))
  else symlinkSync(folder, join(cache, shared))
}
