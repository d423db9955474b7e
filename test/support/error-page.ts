/** docs/errors.md, printed from the catalogue; sections are the comments that the catalogue is sorted by. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { CATALOGUE, isErrorCode, KINDS, type ErrorCode } from '../../schema/error.ts'
import { ROOT } from './source.ts'

const HEAD = `# Errors

Every "no" of the platform has a code. A code says the fact, is never renamed and never means anything else; the message
beside it says what happened this time, with names and ids in it; the hint says what to do. Over GraphQL an expected
"no" of a mutation is a \`Refusal { code message hint }\` in the result; anything else is an error whose
\`extensions.code\` holds the code. Over REST the body is \`{ code, error, reason }\`. The command line prints
\`[code] message\` and exits by kind.

This page is printed from \`schema/error.ts\` by \`npx vitest run test/schema/error-page.test.ts --update\`; a test keeps
the two the same.

## Kinds
`

/** Codes by the subject under which the catalogue lists them, in its order. */
export function subjects(): readonly { readonly subject: string; readonly codes: readonly ErrorCode[] }[] {
  const text = readFileSync(join(ROOT, 'schema', 'error.ts'), 'utf8')
  const start = text.indexOf('export const CATALOGUE')
  const catalogue = text.slice(start, text.indexOf('} as const satisfies', start))
  const found: { subject: string; codes: ErrorCode[] }[] = []
  for (const [, subject, code] of catalogue.matchAll(/^ {2}(?:\/\/ (.+)|(\w+): \{)/gm)) {
    if (subject !== undefined) found.push({ subject, codes: [] })
    else if (code !== undefined && isErrorCode(code)) found.at(-1)?.codes.push(code)
  }
  return found
}

export function printErrorPage(): string {
  const kinds = Object.entries(KINDS).map(
    ([name, { httpStatus, exitCode, retryable }]) =>
      `| \`${name}\` | ${httpStatus} | ${exitCode} | ${retryable ? 'yes' : 'no'} |`,
  )
  const sections = subjects().map(({ subject, codes }) => {
    const rows = codes.map((code) => `| \`${code}\` | \`${CATALOGUE[code].kind}\` | ${cell(CATALOGUE[code].hint)} |`)
    const title = `${subject.charAt(0).toUpperCase()}${subject.slice(1)}`
    return [`## ${title}`, '', '| code | kind | what to do |', '| --- | --- | --- |', ...rows].join('\n')
  })
  const table = ['| kind | HTTP status | exit code | worth trying again |', '| --- | --- | --- | --- |', ...kinds]
  return `${HEAD}\n${table.join('\n')}\n\n${sections.join('\n\n')}\n`
}

/** A pipe would end the cell; an angle bracket outside of code would begin HTML. */
function cell(text: string): string {
  const spans = text.replaceAll('|', '\\|').split('`')
  return spans.map((span, i) => (i % 2 === 0 ? span.replaceAll('<', '&lt;') : span)).join('`')
}
