/** A directory that is gone when the demo is, and the author's npm in it. */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { DemoFailure } from './say.ts'

const PUBLISH_MS = 60_000

export interface Scratch extends AsyncDisposable {
  path(name: string): string
  readText(path: string): Promise<string>
  /** Publishes a directory with the npm of this machine; gives npm's own line, `+ name@version`. */
  npmPublish(directory: string, platform: { readonly url: string; readonly key: string }): Promise<string>
}

/** `environment` is the caller's, of which npm needs the path alone. */
export async function openScratch(environment: Readonly<Record<string, string | undefined>>): Promise<Scratch> {
  const root = await mkdtemp(join(tmpdir(), 'senmon-demo-'))
  return {
    path: (name) => join(root, name),
    readText: (path) => readFile(path, 'utf8'),
    async npmPublish(directory, { url, key }) {
      const home = join(root, 'author')
      await mkdir(home, { recursive: true })
      const registry = `${url}/npm/`
      const token = `${registry.replace(/^https?:/, '')}:_authToken=${key}`
      await writeFile(join(home, '.npmrc'), `registry=${registry}\n${token}\nupdate-notifier=false\n`, { mode: 0o600 })
      // The author's shell knows nothing of the npm that runs this demo: its npm_config_* must not leak in.
      const env = { PATH: environment['PATH'], HOME: home, npm_config_cache: join(root, 'npm-cache') }
      try {
        const { stdout } = await promisify(execFile)('npm', ['publish', directory], {
          cwd: home,
          env,
          timeout: PUBLISH_MS,
        })
        return stdout.trim()
      } catch (error) {
        const said = error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error)
        throw new DemoFailure(`npm publish of ${directory} did not work:\n${said.trim()}`)
      }
    },
    [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true, maxRetries: 5 }),
  }
}
