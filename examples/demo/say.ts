/** What the demo prints, and how it says that something is not so. */

export function say(line: string): void {
  console.log(`  ${plain(line).replaceAll('\n', '\n  ')}`)
}

export function saySection(title: string): void {
  console.log(`\n${title}`)
}

/** Experts write text, not instructions to a terminal. */
function plain(text: string): string {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]/g, '�')
}

/** Something that the demo shows is not so; the message says what, without a full stop. */
export class DemoFailure extends Error {
  override readonly name = 'DemoFailure'
}

export function expectThat(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new DemoFailure(otherwise)
}
