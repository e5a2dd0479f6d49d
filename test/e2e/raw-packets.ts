// TCP segments as they are on the wire: watched on a pod's link, and made by hand (RFC 9293, 3.1). For what no socket would send.

import { FFIType, ptr } from "bun:ffi";
import { openLibc } from "../../src/base/libc.ts";
import { inNetns } from "../../src/base/setns.ts";

const { i32, ptr: pointer, u64, i64, u32 } = FFIType;
const libc = openLibc(
  {
    socket: { args: [i32, i32, i32], returns: i32 },
    recv: { args: [i32, pointer, u64, i32], returns: i64 },
    sendto: { args: [i32, pointer, u64, i32, pointer, u32], returns: i64 },
    close: { args: [i32], returns: i32 },
  },
  "raw sockets cannot be opened",
);
const AF_INET = 2;
const AF_PACKET = 17;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
// Only a socket for all protocols sees what leaves.
const ETH_P_ALL_BIG_ENDIAN = 0x0300;
const IPPROTO_RAW = 255;
const MSG_DONTWAIT = 0x40;

/** Whether this kernel has sockets of SCTP (RFC 9260). Rules about SCTP need none. */
export function hasSctp(): boolean {
  const fd = libc.socket(AF_INET, 1, 132);
  if (fd >= 0) libc.close(fd);
  return fd >= 0;
}

export interface Segment {
  readonly from: string;
  readonly fromPort: number;
  readonly to: string;
  readonly toPort: number;
  readonly seq: number;
  readonly ack: number;
  readonly flags: { readonly syn: boolean; readonly rst: boolean; readonly fin: boolean; readonly ack: boolean };
  readonly length: number;
}

/** Everything over IPv4 and TCP that comes and goes in a namespace, from now on. */
export function watchSegments(place: string): { take(): Segment[]; close(): void } {
  const fd = inNetns(place, () => libc.socket(AF_PACKET, SOCK_DGRAM, ETH_P_ALL_BIG_ENDIAN));
  if (fd < 0) throw new Error("no packet socket");
  const buffer = new Uint8Array(65_536);
  return {
    take() {
      const all: Segment[] = [];
      for (;;) {
        const length = Number(libc.recv(fd, ptr(buffer), BigInt(buffer.length), MSG_DONTWAIT));
        if (length <= 0) return all;
        const segment = read(Buffer.from(buffer.subarray(0, length)));
        if (segment) all.push(segment);
      }
    },
    close: () => void libc.close(fd),
  };
}

function read(packet: Buffer): Segment | undefined {
  if (packet[0]! >> 4 !== 4 || packet[9] !== 6) return undefined;
  const at = (packet[0]! & 15) * 4;
  const bits = packet[at + 13]!;
  return {
    from: packet.subarray(12, 16).join("."),
    to: packet.subarray(16, 20).join("."),
    fromPort: packet.readUInt16BE(at),
    toPort: packet.readUInt16BE(at + 2),
    seq: packet.readUInt32BE(at + 4),
    ack: packet.readUInt32BE(at + 8),
    flags: { fin: (bits & 1) > 0, syn: (bits & 2) > 0, rst: (bits & 4) > 0, ack: (bits & 16) > 0 },
    length: packet.readUInt16BE(2) - at - (packet[at + 12]! >> 4) * 4,
  };
}

/** Sends a segment with ACK set and this text in it, from inside of a namespace. */
export function sendSegment(place: string, one: Omit<Segment, "flags" | "length">, text: string): void {
  const data = Buffer.from(text);
  const packet = Buffer.alloc(40 + data.length);
  const addresses = [one.from, one.to].map((address) => address.split(".").map(Number));
  packet[0] = 0x45;
  packet.writeUInt16BE(packet.length, 2);
  packet[8] = 64;
  packet[9] = 6;
  packet.set(addresses[0]!, 12);
  packet.set(addresses[1]!, 16);
  packet.writeUInt16BE(one.fromPort, 20);
  packet.writeUInt16BE(one.toPort, 22);
  packet.writeUInt32BE(one.seq >>> 0, 24);
  packet.writeUInt32BE(one.ack >>> 0, 28);
  packet[32] = 5 << 4;
  packet[33] = 0x18;
  packet.writeUInt16BE(8_192, 34);
  data.copy(packet, 40);
  // The pseudo header: addresses, protocol, length of the segment.
  const pseudo = Buffer.concat([packet.subarray(12, 20), Buffer.from([0, 6, 0, 20 + data.length])]);
  packet.writeUInt16BE(checksum(Buffer.concat([pseudo, packet.subarray(20)])), 36);
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_INET, 0);
  address.set(addresses[1]!, 4);
  const fd = inNetns(place, () => libc.socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
  if (fd < 0) throw new Error("no raw socket");
  const sent = Number(libc.sendto(fd, ptr(packet), BigInt(packet.length), 0, ptr(address), address.length));
  libc.close(fd);
  if (sent !== packet.length) throw new Error("the segment was not sent");
}

function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at]! << 8) + (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
