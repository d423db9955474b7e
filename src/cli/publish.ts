/** `senmon publish`: puts a package that others publish on npm into this registry, byte for byte, with all that it needs. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { publish as send } from 'libnpmpublish'
import { isErrorCode, PlatformError } from '../../schema/error.ts'
import { isJsonObject } from '../../schema/json.ts'
import type { Api } from './api.ts'
import type { Command } from './command.ts'
import { fetchWithNpm, resolveWithNpm, type FetchedPackage, type NpmPackage } from './npm-packages.ts'
import { shownLine } from './terminal.ts'

/** One run of npm packs so many: a run each would take a second each. */
const PACKED_AT_ONCE = 40
type SendManifest = Parameters<typeof send>[0]

export const publish: Command = {
  name: 'publish',
  usage: '<npm package>',
  summary: 'Takes a package that others publish on npm, with all that it needs, into this registry.',
  details:
    'npm finds and fetches it, as `npm install` would, and runs no script of it; the packages then belong to your\n' +
    'application, as versions that never change. Your own packages you publish with `npm publish`.',
  options: {},
  arity: [1, 1],
  async perform(call) {
    const [spec = ''] = call.positionals
    if (!/^(?:@[\w.~-]+\/)?[\w~-][\w.~-]*(?:@[\w.^~+-]+)?$/.test(spec))
      throw new PlatformError(
        'input_invalid',
        `"${spec}" is not a package on npm: write name or name@version. A directory is published with npm publish.`,
      )
    const api = await call.api()
    const directory = await mkdtemp(join(tmpdir(), 'senmon-publish-'))
    try {
      await writeFile(join(directory, 'package.json'), '{"private":true}')
      const run = { directory, environment: call.environment }
      const packages = await resolveWithNpm(spec, run)
      const isThere = await Promise.all(packages.map((one) => isPublished(api, one)))
      const there = packages.filter((_, index) => isThere[index] === true)
      const absent = packages.filter((_, index) => isThere[index] !== true)
      for (let from = 0; from < absent.length; from += PACKED_AT_ONCE) {
        for (const one of await fetchWithNpm(absent.slice(from, from + PACKED_AT_ONCE), run)) {
          call.terminal.note(`${shownLine(`publishing ${one.name}@${one.version}`)}\n`)
          await sendPackage(api, one, one.name === packages.at(-1)?.name && one.version === packages.at(-1)?.version)
        }
      }
      const { name = '', version = '' } = packages.at(-1) ?? {}
      if (call.json) call.terminal.write(`${JSON.stringify({ name, version, published: absent, there })}\n`)
      else
        call.terminal.write(
          `${shownLine(`${name}@${version} is here: ${absent.length} packages published, ${there.length} were.`)}\n`,
        )
      return 0
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  },
}

/** Whether it is there with the same bytes. Throws `version_frozen` when it is there with others. */
async function isPublished(api: Api, { name, version, integrity }: NpmPackage): Promise<boolean> {
  const known = (await api.published(name))[version]
  if (known !== undefined && known !== integrity)
    throw new PlatformError('version_frozen', `${name}@${version} is published here with other bytes than on npm.`)
  return known !== undefined
}

/** Only the package that was asked for becomes `latest`; what it needs is found by version. */
async function sendPackage(api: Api, one: FetchedPackage, isAsked: boolean): Promise<void> {
  try {
    // npm's type of a manifest is that of package.json, which this is.
    await send(one.manifest as unknown as SendManifest, Buffer.from(one.tarball), {
      ...api.npmOptions(),
      access: 'public',
      defaultTag: isAsked ? 'latest' : 'needed',
    })
  } catch (cause) {
    const body = cause instanceof Error && 'body' in cause && isJsonObject(cause.body) ? cause.body : {}
    const code = typeof body['code'] === 'string' && isErrorCode(body['code']) ? body['code'] : 'package_invalid'
    const why = typeof body['message'] === 'string' ? body['message'] : String(cause)
    throw new PlatformError(code, `${one.name}@${one.version} is not taken: ${why}`, { cause })
  }
}
