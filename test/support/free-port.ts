/** Ports for programs that must be told one before they listen. */
import { createServer } from 'node:net'

/** Below what Linux gives to whoever asks for any port, so that nobody is given it before it is used. */
const PORTS = { first: 10_000, count: 22_000 }
let asked = 0

/** One that nobody listens on, and that no other test is told. */
export async function freePort(): Promise<number> {
  for (;;) {
    // Processes of tests begin at places of their own.
    const port = PORTS.first + ((process.pid * 37 + (asked += 1)) % PORTS.count)
    const server = createServer()
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true))
    })
    if (!isFree) continue
    await new Promise((resolve) => server.close(resolve))
    return port
  }
}
