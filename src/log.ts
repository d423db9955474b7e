/** The structured log of a process: one JSON object a line on stderr; the only user of the stream. */

export type LogFields = Readonly<Record<string, unknown>>

export interface Log {
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
}

const CONTROL = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]/g

/** Text from elsewhere with its control and direction characters made visible. */
export function printable(text: string): string {
  return text.replace(CONTROL, (char) =>
    char === '\n' || char === '\t' ? char : `\\u{${char.codePointAt(0)?.toString(16)}}`,
  )
}

function describe(value: unknown): unknown {
  if (!(value instanceof Error)) return value
  const { name, message, stack, cause } = value
  const code = 'code' in value ? value.code : undefined
  return { name, code, message, stack, ...(cause === undefined ? {} : { cause: describe(cause) }) }
}

/** A log that writes to `write` one line at a time; `now` stamps it. Secrets print themselves as ***. */
export function openLog(write: (line: string) => void, now: () => number): Log {
  const at =
    (level: string) =>
    (message: string, fields: LogFields = {}) => {
      const described = Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, describe(value)]))
      write(`${JSON.stringify({ at: new Date(now()).toISOString(), level, message, ...described })}\n`)
    }
  return { info: at('info'), warn: at('warn'), error: at('error') }
}
