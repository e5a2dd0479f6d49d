// Datagrams out of one socket from whichever address they are to come (IP_PKTINFO of ip(7), IPV6_PKTINFO of RFC 3542 §6): for a
// transparent socket also of addresses that are not this machine's.

import { FFIType, ptr } from "bun:ffi";
import { parseIPv4, parseIPv6 } from "../../base/ip.ts";
import { lent, openLibc } from "../../base/libc.ts";
import type { Destination } from "../listener/original-destination.ts";
import { socketAddress } from "../upstream/original-source.ts";

const { i32, i64, ptr: pointer } = FFIType;
const SOL_IP = 0;
const IP_PKTINFO = 8;
const SOL_IPV6 = 41;
const IPV6_PKTINFO = 50;
const MSG_DONTWAIT = 0x40;
/** struct cmsghdr { u64 length; i32 level, type }. */
const header = 16;

function openCalls() {
  return openLibc({ sendmsg: { args: [i32, pointer, i32], returns: i64 } }, "datagrams cannot be answered");
}

let calls: ReturnType<typeof openCalls> | undefined;

/** `family` is the socket's; one of IPv6 sends to IPv4, too. What the kernel does not take is lost. */
export function sendFrom(fd: number, family: 4 | 6, bytes: Buffer, source: string, client: Destination): void {
  calls ??= openCalls();
  const name = family === 6 ? addressOfSix(client) : socketAddress(client.address, client.port);
  const control = controlOf(family, source);
  const vector = new BigUint64Array([bytes.length === 0 ? 0n : BigInt(ptr(bytes)), BigInt(bytes.length)]);
  lent(name, control, bytes, vector);
  const message = new BigUint64Array([
    ...[BigInt(ptr(name)), BigInt(name.length), BigInt(ptr(vector)), 1n],
    ...[BigInt(ptr(control)), BigInt(control.length), 0n],
  ]);
  calls.sendmsg(fd, ptr(message), MSG_DONTWAIT);
}

/** The control message that names the source: of IPv4 struct in_pktinfo { i32; source; address }, of IPv6 in6_pktinfo { source; i32 }. */
export function controlOf(family: 4 | 6, source: string): Buffer {
  const [level, type, length] = family === 6 ? [SOL_IPV6, IPV6_PKTINFO, 20] : [SOL_IP, IP_PKTINFO, 12];
  const bytes = Buffer.alloc(header + ((length + 7) & ~7));
  bytes.writeBigUInt64LE(BigInt(header + length));
  bytes.writeInt32LE(level, 8);
  bytes.writeInt32LE(type, 12);
  if (family === 6) writeSix(bytes, header, source);
  else bytes.writeUInt32BE(parseIPv4(source) ?? 0, header + 4);
  return bytes;
}

/** struct sockaddr_in6. */
function addressOfSix({ address, port }: Destination): Buffer {
  const bytes = socketAddress("::", port);
  writeSix(bytes, 8, address);
  return bytes;
}

/** 16 bytes; of IPv4 as mapped. */
function writeSix(bytes: Buffer, at: number, address: string): void {
  const four = parseIPv4(address);
  const six = four === undefined ? (parseIPv6(address) ?? 0n) : (0xffffn << 32n) | BigInt(four);
  bytes.writeBigUInt64BE(six >> 64n, at);
  bytes.writeBigUInt64BE(six & 0xffff_ffff_ffff_ffffn, at + 8);
}
