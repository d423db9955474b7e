/**
 * The system calls that nothing inside a compartment may make, as a classic BPF program for the kernel.
 * A deny-list: what is not named passes. bubblewrap adds no filter of its own, and a network namespace alone leaves
 * vsock and netlink open, and io_uring around every other rule.
 */

export type Arch = 'x64' | 'arm64'

/** One `struct sock_filter`. */
export interface Instruction {
  readonly code: number
  /** Instructions to skip when the test holds, and when it does not. */
  readonly jt: number
  readonly jf: number
  readonly k: number
}

const LOAD_WORD = 0x20
const JUMP_EQUAL = 0x15
const JUMP_GREATER_EQUAL = 0x35
const JUMP_ANY_BIT = 0x45
const RETURN = 0x06

export const ALLOW = 0x7fff0000
export const KILL = 0x80000000
/** The verdict that makes a call fail with `errno`. */
export function failWith(errno: number): number {
  return 0x00050000 | errno
}
export const EPERM = 1
export const ENOSYS = 38
export const EAFNOSUPPORT = 97

// Offsets in struct seccomp_data. The low half of an argument comes first: both architectures are little-endian.
const NUMBER_AT = 0
const ARCH_AT = 4
function argumentAt(index: number): number {
  return 16 + 8 * index
}

const AUDIT_ARCH = { x64: 0xc000003e, arm64: 0xc00000b7 } as const
/** Set in the numbers of the x32 calls, which would pass by every rule below. */
const X32_BIT = 0x40000000

/** Calls by their numbers, x64 then arm64; null where the architecture has none. */
const PRIVILEGED: Readonly<Record<string, readonly [number | null, number | null]>> = {
  acct: [163, 89],
  add_key: [248, 217],
  adjtimex: [159, 171],
  bpf: [321, 280],
  chroot: [161, 51],
  clock_adjtime: [305, 266],
  clock_settime: [227, 112],
  delete_module: [176, 106],
  fanotify_init: [300, 262],
  finit_module: [313, 273],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fsopen: [430, 430],
  fspick: [433, 433],
  init_module: [175, 105],
  ioperm: [173, null],
  iopl: [172, null],
  kcmp: [312, 272],
  kexec_file_load: [320, 294],
  kexec_load: [246, 104],
  keyctl: [250, 219],
  listmount: [458, 458],
  lookup_dcookie: [212, 18],
  lsm_set_self_attr: [460, 460],
  mknod: [133, null],
  mknodat: [259, 33],
  modify_ldt: [154, null],
  mount: [165, 40],
  mount_setattr: [442, 442],
  move_mount: [429, 429],
  name_to_handle_at: [303, 264],
  nfsservctl: [180, 42],
  open_by_handle_at: [304, 265],
  open_tree: [428, 428],
  open_tree_attr: [467, 467],
  perf_event_open: [298, 241],
  pidfd_getfd: [438, 438],
  pivot_root: [155, 41],
  process_madvise: [440, 440],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  ptrace: [101, 117],
  quotactl: [179, 60],
  quotactl_fd: [443, 443],
  reboot: [169, 142],
  request_key: [249, 218],
  setdomainname: [171, 162],
  sethostname: [170, 161],
  setns: [308, 268],
  settimeofday: [164, 170],
  statmount: [457, 457],
  swapoff: [168, 225],
  swapon: [167, 224],
  sysfs: [139, null],
  syslog: [103, 116],
  umount2: [166, 39],
  unshare: [272, 97],
  uselib: [134, null],
  userfaultfd: [323, 282],
  vhangup: [153, 58],
  vmsplice: [278, 75],
}

/** Calls that a program must believe absent: it then takes an older way, which the rules below can see through. */
const ABSENT: Readonly<Record<string, readonly [number, number]>> = {
  // Its flags lie behind a pointer, where no filter reaches; the C library falls back to clone.
  clone3: [435, 435],
  io_uring_setup: [425, 425],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
}

const CHECKED = {
  socket: [41, 198],
  socketpair: [53, 199],
  clone: [56, 220],
  ioctl: [16, 29],
  personality: [135, 92],
} as const

const AF_UNIX = 1
/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWTIME. */
const NEW_NAMESPACES = 0x7e020080
/** Typing into the terminal of whoever started us. */
const TIOCSTI = 0x5412
const TIOCLINUX = 0x541c
/** personality(0xffffffff) only asks. */
const PERSONALITY_QUERY = 0xffffffff

/** Every denied call with its number and verdict, for the table above and for tests. */
export function deniedCalls(arch: Arch): readonly { name: string; number: number; errno: number }[] {
  const column = arch === 'x64' ? 0 : 1
  const rows = [
    ...Object.entries(PRIVILEGED).map(([name, numbers]) => ({ name, number: numbers[column], errno: EPERM })),
    ...Object.entries(ABSENT).map(([name, numbers]) => ({ name, number: numbers[column], errno: ENOSYS })),
  ]
  return rows.flatMap(({ name, number, errno }) => (number === null ? [] : [{ name, number, errno }]))
}

/** The numbers of the calls whose arguments decide. */
export function checkedCalls(arch: Arch): Readonly<Record<keyof typeof CHECKED, number>> {
  const column = arch === 'x64' ? 0 : 1
  const { socket, socketpair, clone, ioctl, personality } = CHECKED
  return {
    socket: socket[column],
    socketpair: socketpair[column],
    clone: clone[column],
    ioctl: ioctl[column],
    personality: personality[column],
  }
}

function load(offset: number): Instruction {
  return { code: LOAD_WORD, jt: 0, jf: 0, k: offset }
}
function give(verdict: number): Instruction {
  return { code: RETURN, jt: 0, jf: 0, k: verdict }
}
/** Runs `then` when the loaded word equals `k`; `then` must end in a verdict. */
function whenEqual(k: number, then: readonly Instruction[]): readonly Instruction[] {
  return [{ code: JUMP_EQUAL, jt: 0, jf: then.length, k }, ...then]
}

/** The program for one architecture; any other, and the x32 calls, kill the caller. */
export function denyProgram(arch: Arch): readonly Instruction[] {
  const { socket, socketpair, clone, ioctl, personality } = checkedCalls(arch)
  const local = [load(argumentAt(0)), ...whenEqual(AF_UNIX, [give(ALLOW)]), give(failWith(EAFNOSUPPORT))]
  return [
    load(ARCH_AT),
    { code: JUMP_EQUAL, jt: 1, jf: 0, k: AUDIT_ARCH[arch] },
    give(KILL),
    load(NUMBER_AT),
    ...(arch === 'x64' ? [{ code: JUMP_GREATER_EQUAL, jt: 0, jf: 1, k: X32_BIT }, give(KILL)] : []),
    ...deniedCalls(arch).flatMap(({ number, errno }) => whenEqual(number, [give(failWith(errno))])),
    ...whenEqual(socket, local),
    ...whenEqual(socketpair, local),
    ...whenEqual(clone, [
      load(argumentAt(0)),
      { code: JUMP_ANY_BIT, jt: 0, jf: 1, k: NEW_NAMESPACES },
      give(failWith(EPERM)),
      give(ALLOW),
    ]),
    ...whenEqual(ioctl, [
      load(argumentAt(1)),
      ...whenEqual(TIOCSTI, [give(failWith(EPERM))]),
      ...whenEqual(TIOCLINUX, [give(failWith(EPERM))]),
      give(ALLOW),
    ]),
    ...whenEqual(personality, [
      load(argumentAt(0)),
      ...whenEqual(0, [give(ALLOW)]),
      ...whenEqual(PERSONALITY_QUERY, [give(ALLOW)]),
      give(failWith(EPERM)),
    ]),
    give(ALLOW),
  ]
}

/** The bytes that the kernel reads: 8 for each instruction, little-endian. */
export function assemble(program: readonly Instruction[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(program.length * 8))
  for (const [i, { code, jt, jf, k }] of program.entries()) {
    view.setUint16(i * 8, code, true)
    view.setUint8(i * 8 + 2, jt)
    view.setUint8(i * 8 + 3, jf)
    view.setUint32(i * 8 + 4, k, true)
  }
  return new Uint8Array(view.buffer)
}
