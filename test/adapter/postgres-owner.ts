/** A process that opens the embedded server of a directory, says so on stdout, and closes it when its stdin ends. */
import { openEmbeddedServer } from '../../src/postgres/embedded-server.ts'
import { quietLog, realClock } from '../support/database.ts'

const [, , directory = ''] = process.argv
try {
  const server = await openEmbeddedServer({ directory, log: quietLog, clock: realClock })
  process.stdout.write(`${JSON.stringify({ pid: server?.pid, adopted: server?.adopted, address: server?.address })}\n`)
  process.stdin.resume()
  await new Promise((resolve) => process.stdin.once('end', resolve))
  await server?.close()
} catch (error) {
  process.stdout.write(`${JSON.stringify({ refused: error instanceof Error ? error.message : String(error) })}\n`)
}
