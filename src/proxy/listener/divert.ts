// Before a process stops listening: what connects from now on goes to others that listen on the same port, while what is in its own
// queue is still accepted. A socket that is closed resets what is in its queue (unless net.ipv4.tcp_migrate_req is set), so that
// connections must cease to come before. By two classic BPF programs (socket(7); neither needs a privilege): one of the port's
// group, which chooses among its sockets by their places (SO_ATTACH_REUSEPORT_CBPF), and one of each socket that is to be closed,
// which lets it hear no SYN any more (SO_ATTACH_FILTER): a client whose SYN gets there all the same says it again a second later.
//
// The places (net/core/sock_reuseport.c): a socket gets the one behind the last when it begins to listen; when one goes, the last
// takes its place; a program's answer behind the last means that the kernel chooses by hash, as if there were no program.

import { FFIType, ptr } from "bun:ffi";
import { lent, openLibc } from "../../base/libc.ts";
import { ownSockets, SOL_SOCKET } from "../../base/own-sockets.ts";

const { i32, u32, ptr: pointer } = FFIType;
const SO_ATTACH_FILTER = 26;
const SO_ACCEPTCONN = 30;
const SO_ATTACH_REUSEPORT_CBPF = 51;
const SO_DETACH_REUSEPORT_BPF = 68;
const purpose = "connections cannot be diverted";

/** One instruction: struct sock_filter { u16 code; u8 jt, jf; u32 k }. */
export type Instruction = readonly [code: number, jt: number, jf: number, k: number];

const LD_W_ABS = 0x20;
const LD_B_ABS = 0x30;
const ALU_ADD_K = 0x04;
const ALU_AND_K = 0x54;
const ALU_MOD_K = 0x94;
const JEQ_K = 0x15;
const RET_K = 0x06;
const RET_A = 0x16;
/** SKF_AD_OFF + SKF_AD_RANDOM: not from the packet, but a random number. */
const random = 0xfffff000 + 56;
/** The byte of a TCP header with its flags. */
const tcpFlags = 13;
const SYN = 0x02;
const ACK = 0x10;

/** How many sockets of each port are going to be closed, and how many others began to listen after all of those. */
export interface Places {
  readonly leaving: number;
  readonly staying: number;
}

/** To any of those that stay, while all are there. */
export function amongStaying({ leaving, staying }: Places): readonly Instruction[] {
  return [
    [LD_W_ABS, 0, 0, random],
    [ALU_MOD_K, 0, 0, staying],
    [ALU_ADD_K, 0, 0, leaving],
    [RET_A, 0, 0, 0],
  ];
}

/**
 * To one of those that stay, while the others go in whichever order: the place behind as many as are to stay is held by one that
 * stays until the last has gone, and means nothing from then on. Where fewer stay than go, only until as many have gone, which is why
 * who takes over listens by as many (`socketsEach`).
 */
export function toOneStaying({ leaving, staying }: Places): readonly Instruction[] {
  return [[RET_K, 0, 0, Math.max(leaving, staying)]];
}

const noSyn: readonly Instruction[] = [
  [LD_B_ABS, 0, 0, tcpFlags],
  [ALU_AND_K, 0, 0, SYN | ACK],
  [JEQ_K, 0, 1, SYN],
  [RET_K, 0, 0, 0],
  [RET_K, 0, 0, 0xffffffff],
];

/**
 * The listening TCP sockets of this process that have one of some ports. All functions throw an Error where the C library cannot be
 * called, and return how many sockets took it.
 */
export const listening = {
  /** Chooses, for every connection that comes to the groups of these sockets from now on. */
  choose: (ports: ReadonlySet<number>, program: readonly Instruction[]): number =>
    set(ports, SO_ATTACH_REUSEPORT_CBPF, program),
  /** Lets the kernel choose again. */
  chooseByHash: (ports: ReadonlySet<number>): number => set(ports, SO_DETACH_REUSEPORT_BPF, undefined),
  /** What connects to these sockets from now on is as if it had got lost; handshakes that have begun are finished. */
  hearNoSyn: (ports: ReadonlySet<number>): number => set(ports, SO_ATTACH_FILTER, noSyn),
};

function openCalls() {
  return openLibc({ setsockopt: { args: [i32, i32, i32, pointer, u32], returns: i32 } }, purpose);
}

let calls: ReturnType<typeof openCalls> | undefined;

/** What does not pass the program is as if it had got lost. Whether the kernel takes it. */
export function attachFilter(fd: number, program: readonly Instruction[]): boolean {
  return attach([fd], SO_ATTACH_FILTER, program) === 1;
}

function set(ports: ReadonlySet<number>, option: number, program: readonly Instruction[] | undefined): number {
  const fds: number[] = [];
  for (const socket of ownSockets(purpose)) {
    if (socket.option(SO_ACCEPTCONN) !== 1) continue;
    const address = socket.address();
    if (address && ports.has(address.port)) fds.push(socket.fd);
  }
  return attach(fds, option, program);
}

function attach(fds: readonly number[], option: number, program: readonly Instruction[] | undefined): number {
  calls ??= openCalls();
  const { setsockopt } = calls;
  const instructions = new Uint8Array(8 * (program?.length ?? 1));
  const view = new DataView(instructions.buffer);
  program?.forEach(([code, jt, jf, k], index) => {
    view.setUint16(index * 8, code, true);
    view.setUint8(index * 8 + 2, jt);
    view.setUint8(index * 8 + 3, jf);
    view.setUint32(index * 8 + 4, k, true);
  });
  // struct sock_fprog { u16 len; struct sock_filter *filter }; an option that takes nothing is given a number.
  const value = new Uint8Array(program === undefined ? 4 : 16);
  if (program !== undefined) {
    new DataView(value.buffer).setUint16(0, program.length, true);
    new DataView(value.buffer).setBigUint64(8, BigInt(ptr(instructions)), true);
  }
  lent(instructions);
  return fds.filter((fd) => setsockopt(fd, SOL_SOCKET, option, ptr(value), value.length) === 0).length;
}
