/** Makes what goes into an image of machines: `node runner/image/main.ts <directory>`, in the image, as its builder. */
import { makeImage } from './image.ts'

const [directory] = process.argv.slice(2)
if (directory === undefined) {
  process.stderr.write('usage: node runner/image/main.ts <directory>\n')
  process.exit(2)
}
await makeImage({ directory, state: '/var/lib/senmon-machine', node: process.execPath, uid: 1000 })
