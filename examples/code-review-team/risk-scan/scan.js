// Text of a source file → findings. Pure: no files, no streams.

const STRING = /(['"])(?:\\.|(?!\1).)*\1/
const TEMPLATE_WITH_VALUE = /`[^`]*\$\{[^`]*`/
const QUERY = /\b(?:query|execute|raw|all|get|run)\s*\(/
const SQL = /\b(?:select\b.*\bfrom|insert\s+into|update\b.*\bset|delete\s+from)\b/i
const COMMAND = /\b(?:exec|execSync|spawn|spawnSync)\s*\(/
const CREDENTIAL_NAME = /\b\w*(?:api_?key|secret|token|passw(?:or)?d|_key|credential)\w*\s*[:=]\s*/i

/** True when a string is put together from parts: a template with a value in it, or a literal and a plus. */
function isConcatenated(code) {
  return TEMPLATE_WITH_VALUE.test(code) || /(['"])(?:\\.|(?!\1).)*\1\s*\+|\+\s*(['"`])/.test(code)
}

export const RULES = [
  {
    rule: 'eval',
    severity: 'critical',
    advice: 'Text becomes code. Parse the text, or look it up in a table.',
    finds: (code) => /(?<![\w.])eval\s*\(/.test(code) || /\bnew\s+Function\s*\(/.test(code),
  },
  {
    rule: 'shell-concatenation',
    severity: 'critical',
    advice: 'A value becomes part of a shell command. Use execFile with a list of arguments.',
    finds: (code) => COMMAND.test(code) && isConcatenated(code),
  },
  {
    rule: 'sql-concatenation',
    severity: 'critical',
    advice: 'A value becomes part of a statement. Use a placeholder and pass the value beside it.',
    finds: (code) => SQL.test(code) && isConcatenated(code) && (QUERY.test(code) || /=\s*['"`]/.test(code)),
  },
  {
    rule: 'hard-coded-credential',
    severity: 'high',
    advice: 'A credential stands in the code. Read it from the environment, and replace the one that leaked.',
    finds: (code) => {
      const name = CREDENTIAL_NAME.exec(code)
      if (name === null) return false
      const value = STRING.exec(code.slice(name.index + name[0].length))
      return value !== null && value.index === 0 && value[0].length >= 14 && !/\s/.test(value[0])
    },
  },
]

/** Comments are no code; a `//` inside a string is. */
function withoutComment(line) {
  let quote = ''
  for (let i = 0; i < line.length; i++) {
    const char = line[i]
    if (char === '\\') i += 1
    else if (quote !== '') quote = char === quote ? '' : quote
    else if (char === '"' || char === "'" || char === '`') quote = char
    else if (char === '/' && line[i + 1] === '/') return line.slice(0, i)
  }
  return line
}

/** Findings in order of line: { file, line, rule, severity, code, advice }. */
export function scanText(file, text) {
  return text.split('\n').flatMap((line, i) => {
    const code = withoutComment(line)
    return RULES.filter(({ finds }) => finds(code)).map(({ rule, severity, advice }) => ({
      file,
      line: i + 1,
      rule,
      severity,
      code: line.trim().slice(0, 200),
      advice,
    }))
  })
}
