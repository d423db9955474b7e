/** Runs a program of the kernel's system call filter as the kernel would. */
/** How the kernel names the architectures. */
export const AUDIT = { x64: 0xc000003e, arm64: 0xc00000b7 } as const

/** What the kernel would do with a call: the bytes, run as the kernel runs them. */
export function verdict(bytes: Uint8Array, audit: number, number: number, args: readonly bigint[] = []): number {
  const call = new DataView(new ArrayBuffer(64))
  call.setUint32(0, number, true)
  call.setUint32(4, audit, true)
  for (const [i, arg] of args.entries()) call.setBigUint64(16 + 8 * i, BigInt.asUintN(64, arg), true)
  const program = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let accumulator = 0
  for (let at = 0; at < program.byteLength / 8; at++) {
    const code = program.getUint16(at * 8, true)
    const k = program.getUint32(at * 8 + 4, true)
    const jump = (holds: boolean) => (at += program.getUint8(at * 8 + (holds ? 2 : 3)))
    if (code === 0x20) accumulator = call.getUint32(k, true)
    else if (code === 0x15) jump(accumulator === k)
    else if (code === 0x25) jump(accumulator > k)
    else if (code === 0x35) jump(accumulator >= k)
    else if (code === 0x54) accumulator = (accumulator & k) >>> 0
    else if (code === 0x45) jump((accumulator & k) !== 0)
    else if (code === 0x06) return k
    else throw new Error(`instruction ${at} has the unknown code ${code}`)
  }
  throw new Error('the program ran off its end')
}
