/** An image of machines made of this computer's own programs: what images/machine/Dockerfile makes where there is a registry. */
import { execFile } from 'node:child_process'
import { chmodSync, copyFileSync, cpSync, mkdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { MACHINE_IMAGE } from '../../src/sandbox/machine-image.ts'
import { PUPPET } from './sandbox.ts'
import { ROOT } from './source.ts'

const run = promisify(execFile)
/** The shell is for the skills that have the programs of the system. */
const PROGRAMS = ['/usr/bin/bwrap', '/bin/sh', '/bin/cat', '/bin/ls', '/usr/bin/id']

export const PUPPET_INSIDE = '/senmon/puppet.mjs'

/** Makes its root directory, in which `node` is empty: whoever runs it puts the binary there. */
export async function makeMachineRoot(root: string): Promise<void> {
  for (const name of ['bin', 'lib', 'lib64', 'sbin']) {
    mkdirSync(join(root, 'usr', name), { recursive: true })
    symlinkSync(`usr/${name}`, join(root, name))
  }
  for (const path of ['proc', 'sys', 'dev', 'etc', 'tmp', 'usr/local/bin'])
    mkdirSync(join(root, path), { recursive: true })
  for (const path of [MACHINE_IMAGE.workspace, MACHINE_IMAGE.input, MACHINE_IMAGE.packages])
    mkdirSync(join(root, path), { recursive: true })
  // Whoever cannot put a file there can mount one.
  writeFileSync(join(root, MACHINE_IMAGE.node), '', { mode: 0o755 })
  for (const program of PROGRAMS) await copyProgram(program, root)
  await run(process.execPath, [join(ROOT, 'images/machine/main.ts'), join(root, 'senmon')], { env: {} })
  copyFileSync(PUPPET, join(root, PUPPET_INSIDE))
  // The Node of the image finds its libraries where every program does.
  cpSync(join(root, 'senmon/root'), join(root, 'usr'), { recursive: true, force: true })
}

async function copyProgram(program: string, root: string): Promise<void> {
  const copy = join(root, 'usr/bin', basename(program))
  copyFileSync(realpathSync(program), copy)
  chmodSync(copy, 0o755)
  const { stdout } = await run('ldd', [program])
  for (const [library] of stdout.matchAll(/\/\S+/g)) {
    const target = join(root, library.startsWith('/usr/') ? library : `usr${library}`)
    mkdirSync(dirname(target), { recursive: true })
    copyFileSync(realpathSync(library), target)
  }
}
