/**
 * Our programs as one file each, by esbuild. What such a file holds is read at every start and kept by every machine that
 * waits, so it holds what its program uses, where a library brings more and does not say so.
 */
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { build, stop, type Plugin } from 'esbuild'

/** esbuild leaves a process behind that waits for more, and stopping it breaks what it builds: one after the other. */
export async function alone<Result>(work: () => Promise<Result>): Promise<Result> {
  const turn = builds.then(async () => {
    try {
      return await work()
    } finally {
      await stop()
    }
  })
  builds = turn.then(ignore, ignore)
  return await turn
}

let builds: Promise<void> = Promise.resolve()
function ignore(): void {}

/** The text of the program that begins with `entry`, a path beside this file. Call it in `alone`. */
export async function bundleOf(entry: string, format: 'esm' | 'cjs'): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(entry, import.meta.url))],
    bundle: true,
    write: false,
    platform: 'node',
    target: 'node24',
    format,
    legalComments: 'none',
    logLevel: 'silent',
    minify: true,
    keepNames: true,
    plugins: [onlyEnglish, oneJudge, onlyUsed, onlyAsked],
    ...(format === 'cjs' ? {} : { banner: { js: REQUIRE } }),
  })
  return outputFiles[0]?.text ?? ''
}

/** Bundled CommonJS asks for Node's own modules by require. */
const REQUIRE = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);"

/** zod brings its messages in fifty languages; ours are read by one of them. */
const onlyEnglish: Plugin = {
  name: 'only-english',
  setup(build) {
    const contents = "export { default as en } from './en.js'"
    build.onLoad({ filter: /[/\\]zod[/\\]v4[/\\]locales[/\\]index\.js$/ }, () => ({ contents, loader: 'js' }))
  },
}

/** Our runner brings its own judge of schemas (runner/skill/output-validator.ts): the client's would be a second compiler. */
const oneJudge: Plugin = {
  name: 'one-judge',
  setup(build) {
    const contents = `export const CORS_IS_POSSIBLE = false
      export class DefaultJsonSchemaValidator { constructor() { throw new Error('a client has no judge of schemas') } }`
    build.onLoad({ filter: /[/\\]client[/\\]dist[/\\]shimsNode\.mjs$/ }, () => ({ contents, loader: 'js' }))
  },
}

/** Nothing happens when ajv is loaded, which its package does not say: a program that uses nothing of it goes without. */
const onlyUsed: Plugin = {
  name: 'only-used',
  setup(build) {
    build.onResolve({ filter: /^ajv(\/|$)/ }, async ({ path, pluginData, ...from }) => {
      if (pluginData === onlyUsed) return undefined
      return { ...(await build.resolve(path, { ...from, pluginData: onlyUsed })), sideEffects: false }
    })
  },
}

/**
 * MCP's packages make a schema of every shape in the specification when they are loaded, a thousand objects of zod, and the
 * client a table of them all. Ours asks for a dozen: each of the others is left out where nobody names it, and the table stays
 * empty.
 */
const onlyAsked: Plugin = {
  name: 'only-asked',
  setup(build) {
    const shapes = /[/\\]@modelcontextprotocol[/\\]core[/\\]dist[/\\](schemas|auth)-[\w-]+\.mjs$/
    build.onLoad({ filter: shapes }, async ({ path }) => ({
      contents: unasked(await readFile(path, 'utf8')),
      loader: 'js',
    }))
    const client = /[/\\]@modelcontextprotocol[/\\]client[/\\]dist[/\\]src-[\w-]+\.mjs$/
    build.onLoad({ filter: client }, async ({ path }) => ({
      contents: (await readFile(path, 'utf8')).replaceAll(/^for \(const .*\) register\(key, .*\);$/gm, ''),
      loader: 'js',
    }))
  },
}

/** With every schema made by a call that says it may be left out. A statement ends where the next begins its line. */
function unasked(text: string): string {
  return text.replaceAll(
    /^const (\w+Schema) = ([^]*?);$(?=\n(?:[^\s})\]]|\n))/gm,
    (_, name: string, made: string) => `const ${name} = /* @__PURE__ */ (() => ${made})();`,
  )
}
