/**
 * The file of a heap, as far as we look into it. Node ends it with what V8 compiled of Node's own modules, half of the file: those
 * that a program uses are in its heap already, and each process that begins with it would read the rest and keep it in memory.
 *
 * The format is Node's own (`SnapshotData` in its src/node_snapshotable.cc): how many modules there are, and for each its name
 * and its bytes with their lengths before them, up to the end of the file. Numbers have 64 bits, the lowest first.
 */

const NUMBER_BYTES = 8
const MODULES_MAX = 2000
const NAME_BYTES_MAX = 100
const NAME = /^[\w/-]+$/

/** The same heap with no module compiled; undefined where the file does not end as it is said to. */
export function withoutCodeCache(file: Buffer): Buffer | undefined {
  for (let at = 0; at + 2 * NUMBER_BYTES < file.length; at++) {
    // The length of a short name, and its first letter or `_`: cheap to look at, and seldom there.
    if (file[at + 9] !== 0 || file[at + 15] !== 0 || file[at + 8] === 0 || (file[at + 16] ?? 0) < 95) continue
    if (isCodeCache(file, at)) return Buffer.concat([file.subarray(0, at), Buffer.alloc(NUMBER_BYTES)])
  }
  return undefined
}

function isCodeCache(file: Buffer, from: number): boolean {
  const count = numberAt(file, from)
  if (count === 0 || count > MODULES_MAX) return false
  let at = from + NUMBER_BYTES
  for (let modules = 0; modules < count; modules++) {
    const nameBytes = numberAt(file, at)
    if (nameBytes === 0 || nameBytes > NAME_BYTES_MAX) return false
    at += NUMBER_BYTES
    if (!NAME.test(file.toString('latin1', at, at + nameBytes))) return false
    at += nameBytes
    at += NUMBER_BYTES + numberAt(file, at)
    if (at > file.length) return false
  }
  return at === file.length
}

/** More than any length there is where none can be. */
function numberAt(file: Buffer, at: number): number {
  return at + NUMBER_BYTES > file.length ? Infinity : Number(file.readBigUInt64LE(at))
}
