/** An image of machines made of this computer's own programs: what runner/image/Dockerfile makes where there is a registry. */
import { execFile } from 'node:child_process'
import { chmodSync, copyFileSync, cpSync, mkdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { IMAGE, imagePaths } from '../../schema/machine-image.ts'
import { ROOT } from './source.ts'

const run = promisify(execFile)
/** The shell is for the skills that have the programs of the system. */
const PROGRAMS = ['/usr/bin/bwrap', '/bin/sh', '/bin/cat', '/bin/ls', '/usr/bin/id']

/** What the image has of ours; `runner` in the place of the bundled one. */
export async function makeImageFiles(directory: string, runner?: string): Promise<void> {
  await run(process.execPath, [join(ROOT, 'runner/image/main.ts'), directory], { env: {} })
  if (runner !== undefined) copyFileSync(runner, imagePaths({ files: directory, home: '' }).bundle('runner'))
}

/** Makes its root directory, in which `node` is empty: whoever runs it puts the binary there. */
export async function makeMachineRoot(root: string): Promise<void> {
  for (const name of ['bin', 'lib', 'lib64', 'sbin']) {
    mkdirSync(join(root, 'usr', name), { recursive: true })
    symlinkSync(`usr/${name}`, join(root, name))
  }
  for (const path of ['proc', 'sys', 'dev', 'etc', 'tmp', 'usr/local/bin'])
    mkdirSync(join(root, path), { recursive: true })
  const { workspace, input, packages } = imagePaths(IMAGE)
  for (const path of [workspace, input, packages]) mkdirSync(join(root, path), { recursive: true })
  // Whoever cannot put a file there can mount one.
  writeFileSync(join(root, IMAGE.node), '', { mode: 0o755 })
  for (const program of PROGRAMS) await copyProgram(program, root)
  await makeImageFiles(join(root, IMAGE.files))
  // The Node of the image finds its libraries where every program does.
  cpSync(imagePaths({ ...IMAGE, files: join(root, IMAGE.files) }).libraries, join(root, 'usr'), {
    recursive: true,
    force: true,
  })
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
