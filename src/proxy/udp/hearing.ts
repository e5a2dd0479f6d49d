// A socket of datagrams that several processes listen by (SO_REUSEPORT) and that is to hear nothing more, while what is in its queue is
// still read and answers still leave by it. The kernel gives nothing to a socket of such a group that has a peer
// (net/core/sock_reuseport.c, reuseport_select_sock_by_hash), except what that peer sends: it gets itself as its peer.

import { FFIType, ptr } from "bun:ffi";
import { parseIPv4, parseIPv6 } from "../../base/ip.ts";
import { openLibc } from "../../base/libc.ts";
import { SOL_SOCKET } from "../../base/own-sockets.ts";
import type { Instruction } from "../listener/divert.ts";
import type { Destination } from "../listener/original-destination.ts";
import { socketAddress } from "../upstream/original-source.ts";

const { i32, u32, ptr: pointer } = FFIType;
const SO_REUSEADDR = 2;
const anywhere: Readonly<Record<string, string>> = { "0.0.0.0": "127.0.0.1", "::": "::1" };

function openCalls() {
  return openLibc(
    {
      connect: { args: [i32, pointer, u32], returns: i32 },
      setsockopt: { args: [i32, i32, i32, pointer, u32], returns: i32 },
    },
    "a listener cannot be left",
  );
}

const LD_H_ABS = 0x28;
const LD_W_ABS = 0x20;
const JEQ_K = 0x15;
const RET_K = 0x06;
/** SKF_NET_OFF: from the IP header on, instead of that of UDP. */
const networkHeader = 0xfff00000;

/** Of datagrams, those of one client: by its port and the end of its address (classic BPF, socket(7)). */
export function fromClient({ address, port }: Destination): readonly Instruction[] {
  const four = parseIPv4(address);
  const end = four ?? Number((parseIPv6(address) ?? 0n) & 0xffff_ffffn);
  return [
    [LD_H_ABS, 0, 0, 0],
    [JEQ_K, 0, 3, port],
    [LD_W_ABS, 0, 0, networkHeader + (four === undefined ? 20 : 12)],
    [JEQ_K, 0, 1, end],
    [RET_K, 0, 0, 0xffffffff],
    [RET_K, 0, 0, 0],
  ];
}

let calls: ReturnType<typeof openCalls> | undefined;

/**
 * The socket is bound to `address` and `port`; one that is bound to all addresses can only be read from then on. Nobody is kept from
 * the port by it any more. False when the kernel refuses (a loopback interface that is down): it hears on.
 */
export function hearNoMore(fd: number, address: string, port: number): boolean {
  calls ??= openCalls();
  const { connect, setsockopt } = calls;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, ptr(new Uint32Array([1])), 4);
  const itself = socketAddress(anywhere[address] ?? address, port);
  return connect(fd, ptr(itself), itself.length) === 0;
}

/** Gives a socket that hears nothing any more another peer. False when that cannot be reached. */
export function hearAgain(fd: number, { address, port }: Destination): boolean {
  calls ??= openCalls();
  const peer = socketAddress(address, port);
  return calls.connect(fd, ptr(peer), peer.length) === 0;
}
