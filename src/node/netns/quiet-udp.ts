// Takes a UDP port's sockets of this process out of the kernel's choice, so that the other sockets of the port (SO_REUSEPORT) get
// all that comes from now on, while what waits in them already is still read and answered: a socket that is connected (connect(2))
// hears its peer only, and may still send to anybody (udp(7)).

import { FFIType, ptr } from "bun:ffi";
import { openLibc } from "../../base/libc.ts";
import { ownSockets } from "../../base/own-sockets.ts";

const { i32, u32, ptr: pointer } = FFIType;
const SO_TYPE = 3;
const SOCK_DGRAM = 2;
/** tcpmux: nobody sends UDP from there (IANA), and we are at this address ourselves. */
const nobody = 1;
const purpose = "UDP sockets cannot be made quiet";

/** Works on sockets in whichever network namespace. Returns how many there were. */
export function stopReceiving(port: number): number {
  const { connect } = openLibc({ connect: { args: [i32, pointer, u32], returns: i32 } }, purpose);
  let count = 0;
  for (const socket of ownSockets(purpose)) {
    if (socket.option(SO_TYPE) !== SOCK_DGRAM) continue;
    const address = socket.address();
    if (address?.port !== port) continue;
    address.bytes.writeUInt16BE(nobody, 2);
    if (connect(socket.fd, ptr(address.bytes), address.length) === 0) count++;
  }
  return count;
}
