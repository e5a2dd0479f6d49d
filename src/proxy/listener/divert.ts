// Before a process stops listening: what connects from now on goes to the other process that listens on the same port, while what is
// in this one's queue is still accepted. A socket that is closed resets what is in its queue (unless net.ipv4.tcp_migrate_req is
// set), so that connections must cease to come before. By a program of the port's group (socket(7), SO_ATTACH_REUSEPORT_CBPF) that
// chooses the second of its sockets; where there is none, the kernel chooses as ever.

import { FFIType, ptr } from "bun:ffi";
import { openLibc } from "../../base/libc.ts";
import { ownSockets, SOL_SOCKET } from "../../base/own-sockets.ts";

const { i32, u32, ptr: pointer } = FFIType;
const SO_ACCEPTCONN = 30;
const SO_ATTACH_REUSEPORT_CBPF = 51;
/** BPF_RET | BPF_K: answers a constant. */
const returnConstant = 0x06;
const purpose = "connections cannot be diverted";

/**
 * Diverts the listening TCP sockets of this process that have one of `ports`; returns how many there were. Throws an Error where the
 * C library cannot be called.
 */
export function divert(ports: ReadonlySet<number>): number {
  const { setsockopt } = openLibc({ setsockopt: { args: [i32, i32, i32, pointer, u32], returns: i32 } }, purpose);
  // struct sock_filter { u16 code; u8 jt, jf; u32 k }, of a struct sock_fprog { u16 len; struct sock_filter *filter }.
  const second = new Uint8Array(8);
  new DataView(second.buffer).setUint16(0, returnConstant, true);
  new DataView(second.buffer).setUint32(4, 1, true);
  const program = new Uint8Array(16);
  new DataView(program.buffer).setUint16(0, 1, true);
  new DataView(program.buffer).setBigUint64(8, BigInt(ptr(second)), true);
  let count = 0;
  for (const socket of ownSockets(purpose)) {
    if (socket.option(SO_ACCEPTCONN) !== 1) continue;
    const address = socket.address();
    if (!address || !ports.has(address.port)) continue;
    if (setsockopt(socket.fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, ptr(program), program.length) === 0) count++;
  }
  return count;
}
