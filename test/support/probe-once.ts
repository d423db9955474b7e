/** Before any test that may need a sandbox: looks once whether there is one, and tells those that ask. */
import { probeSandbox, PROBED } from './sandbox.ts'

export async function setup(): Promise<void> {
  process.env[PROBED] = JSON.stringify((await probeSandbox()) ?? null)
}
