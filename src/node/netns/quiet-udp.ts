// Takes a UDP port's sockets of this process out of the kernel's choice, so that the other sockets of the port (SO_REUSEPORT) get
// all that comes from now on, while what waits in them already is still read and answered: a socket that is connected (connect(2))
// hears its peer only, and may still send to anybody (udp(7)).

import { FFIType, ptr } from "bun:ffi";
import { readdirSync, readlinkSync } from "node:fs";
import { openLibc } from "../../base/libc.ts";

const { i32, u32, ptr: pointer } = FFIType;
const SOL_SOCKET = 1;
const SO_TYPE = 3;
const SOCK_DGRAM = 2;
/** tcpmux: nobody sends UDP from there (IANA), and we are at this address ourselves. */
const nobody = 1;

/** Works on sockets in whichever network namespace. Returns how many there were. */
export function stopReceiving(port: number): number {
  const { getsockname, getsockopt, connect } = openLibc(
    {
      getsockname: { args: [i32, pointer, pointer], returns: i32 },
      getsockopt: { args: [i32, i32, i32, pointer, pointer], returns: i32 },
      connect: { args: [i32, pointer, u32], returns: i32 },
    },
    "UDP sockets cannot be made quiet",
  );
  let count = 0;
  for (const name of readdirSync("/proc/self/fd")) {
    if (!isSocket(name)) continue;
    const fd = Number(name);
    const [type, typeLength] = [new Int32Array(1), new Uint32Array([4])];
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, ptr(type), ptr(typeLength)) !== 0 || type[0] !== SOCK_DGRAM) continue;
    const address = Buffer.alloc(28);
    const length = new Uint32Array([address.length]);
    if (getsockname(fd, ptr(address), ptr(length)) !== 0 || address.readUInt16BE(2) !== port) continue;
    address.writeUInt16BE(nobody, 2);
    if (connect(fd, ptr(address), length[0]!) === 0) count++;
  }
  return count;
}

function isSocket(fd: string): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`).startsWith("socket:");
  } catch {
    return false; // the one that lists the folder
  }
}
