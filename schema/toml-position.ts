/**
 * Where each key of a TOML text stands. smol-toml says a line only for syntax errors, so this walks the text once
 * more; it expects a text that smol-toml has accepted, and where it loses the thread it says less, never wrong.
 */

export interface Position {
  /** From 1. */
  readonly line: number
  readonly column: number
}

/** A key's path, array indexes included, to the place where it is first written. */
export type Positions = (path: readonly (string | number)[]) => Position | undefined

/** Nothing below is looked for; without it, one dotted key of a megabyte would cost its square. */
const DEPTH_MAX = 24

class Walk {
  readonly #text: string
  readonly #places = new Map<string, number>()
  readonly #counts = new Map<string, number>()
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  walk(): Positions {
    let table: readonly (string | number)[] = []
    while ((this.#skipBlank(true), this.#at < this.#text.length)) {
      const before = this.#at
      if (this.#text[this.#at] === '[') table = this.#header()
      else this.#member(table)
      if (this.#at === before) this.#at++
    }
    return (path) => {
      const at = this.#places.get(JSON.stringify(path))
      if (at === undefined) return undefined
      const line = this.#text.slice(0, at).split('\n').length
      return { line, column: at - this.#text.lastIndexOf('\n', at - 1) }
    }
  }

  #note(path: readonly (string | number)[], at: number): void {
    if (path.length > DEPTH_MAX) return
    const key = JSON.stringify(path)
    if (!this.#places.has(key)) this.#places.set(key, at)
  }

  #header(): readonly (string | number)[] {
    const start = this.#at
    const isArray = this.#text.startsWith('[[', start)
    this.#at += isArray ? 2 : 1
    let path: (string | number)[] = []
    for (const part of this.#keys().slice(0, DEPTH_MAX)) {
      path.push(part)
      const count = this.#counts.get(JSON.stringify(path))
      if (count !== undefined) path.push(count - 1)
    }
    if (isArray) {
      const last = path.at(-1)
      if (typeof last === 'number') path = path.slice(0, -1)
      const key = JSON.stringify(path)
      const count = this.#counts.get(key) ?? 0
      this.#counts.set(key, count + 1)
      this.#note(path, start)
      path = [...path, count]
    }
    this.#note(path, start)
    while (this.#text[this.#at] === ']') this.#at++
    return path
  }

  #member(table: readonly (string | number)[]): void {
    const start = this.#at
    const path = [...table]
    for (const part of this.#keys().slice(0, DEPTH_MAX)) {
      path.push(part)
      this.#note(path, start)
    }
    if (this.#text[this.#at] !== '=') return
    this.#at++
    this.#value(path)
  }

  /** A dotted key; leaves `at` behind it and the blanks that follow. */
  #keys(): string[] {
    const parts: string[] = []
    for (;;) {
      this.#skipBlank(false)
      const quote = this.#text[this.#at]
      if (quote === '"' || quote === "'") {
        const start = this.#at
        this.#string()
        const raw = this.#text.slice(start + 1, this.#at - 1)
        parts.push(quote === '"' ? unescape(raw) : raw)
      } else {
        const bare = /^[A-Za-z0-9_-]+/.exec(this.#text.slice(this.#at, this.#at + 256))?.[0]
        if (bare === undefined) return parts
        this.#at += bare.length
        parts.push(bare)
      }
      this.#skipBlank(false)
      if (this.#text[this.#at] !== '.') return parts
      this.#at++
    }
  }

  #value(path: readonly (string | number)[]): void {
    this.#skipBlank(false)
    const first = this.#text[this.#at]
    if (first === '"' || first === "'") return this.#string()
    if (first === '[') return this.#list(path)
    if (first === '{') return this.#inlineTable(path)
    while (this.#at < this.#text.length && !/[\n,\]}#]/.test(this.#text[this.#at] ?? '')) this.#at++
  }

  #list(path: readonly (string | number)[]): void {
    this.#at++
    for (let index = 0; ; index++) {
      this.#skipBlank(true)
      if (this.#at >= this.#text.length || this.#text[this.#at] === ']') break
      this.#note([...path, index], this.#at)
      const before = this.#at
      this.#value([...path, index])
      this.#skipBlank(true)
      if (this.#text[this.#at] === ',') this.#at++
      if (this.#at === before) break
    }
    this.#at++
  }

  #inlineTable(path: readonly (string | number)[]): void {
    this.#at++
    for (;;) {
      this.#skipBlank(true)
      if (this.#at >= this.#text.length || this.#text[this.#at] === '}') break
      const before = this.#at
      this.#member(path)
      this.#skipBlank(true)
      if (this.#text[this.#at] === ',') this.#at++
      if (this.#at === before) break
    }
    this.#at++
  }

  #string(): void {
    const quote = this.#text[this.#at] ?? '"'
    const isLong = this.#text.startsWith(quote.repeat(3), this.#at)
    const end = isLong ? quote.repeat(3) : quote
    this.#at += end.length
    while (this.#at < this.#text.length && !this.#text.startsWith(end, this.#at)) {
      this.#at += quote === '"' && this.#text[this.#at] === '\\' ? 2 : 1
    }
    this.#at += end.length
    // Up to two quotes may stand right before the closing three.
    if (!isLong) return
    while (this.#text[this.#at] === quote) this.#at++
  }

  #skipBlank(lines: boolean): void {
    for (; this.#at < this.#text.length; this.#at++) {
      const char = this.#text[this.#at] ?? ''
      if (char === '#' && lines) {
        const end = this.#text.indexOf('\n', this.#at)
        this.#at = end === -1 ? this.#text.length : end
      } else if (!(char === ' ' || char === '\t' || (lines && (char === '\n' || char === '\r')))) return
    }
  }
}

function unescape(raw: string): string {
  if (!raw.includes('\\')) return raw
  try {
    return String(JSON.parse(`"${raw.replace(/\\U([0-9a-fA-F]{8})/g, (_, hex: string) => codePoint(hex))}"`))
  } catch {
    return raw
  }
}

function codePoint(hex: string): string {
  return String.fromCodePoint(Number.parseInt(hex, 16))
}

/** The places of all keys of a TOML text. */
export function locateKeys(text: string): Positions {
  return new Walk(text).walk()
}
