/** A value that prints as ***: in templates, in JSON, in the console, in an inspector. */

const values = new WeakMap<Secret, string>()

export class Secret {
  constructor(value: string) {
    values.set(this, value)
  }

  /** The value itself. Call it where the value is used, never where it is only passed on. */
  reveal(): string {
    return values.get(this) ?? ''
  }

  toString(): string {
    return '***'
  }

  toJSON(): string {
    return '***'
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '***'
  }
}
