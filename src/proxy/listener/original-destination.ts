// Where a connection wanted to go before the kernel's rules sent it here (REDIRECT; getsockopt SO_ORIGINAL_DST of
// linux/netfilter_ipv4.h, IP6T_SO_ORIGINAL_DST of netfilter_ipv6/ip6_tables.h). Asked of the connection's socket, in whichever
// network namespace that is.

import { FFIType, ptr } from "bun:ffi";
import { formatIPv4, formatIPv6 } from "../../base/ip.ts";
import { openLibc } from "../../base/libc.ts";

export interface Destination {
  readonly address: string;
  readonly port: number;
}

const { i32, ptr: pointer } = FFIType;
const SOL_IP = 0;
const SOL_IPV6 = 41;
const SO_ORIGINAL_DST = 80;
/** Of a sockaddr_in6, the larger of the two. */
const addressBytes = 28;

type GetSockOpt = (fd: number, level: number, name: number, value: number, length: number) => number;

let getsockopt: GetSockOpt | undefined;

function load(): GetSockOpt {
  getsockopt ??= openLibc(
    { getsockopt: { args: [i32, i32, i32, pointer, pointer], returns: i32 } },
    "original destinations cannot be asked for",
  ).getsockopt as unknown as GetSockOpt;
  return getsockopt;
}

/** Throws a UserError when it cannot be asked for on this machine: to be called before one listens. */
export function checkOriginalDestination(): void {
  load();
}

/** Undefined when the connection was not sent here by a rule (and nothing tracks it). `peer` is the client's address. */
export function originalDestination(fd: number, peer: string): Destination | undefined {
  const six = peer.includes(":") && !/^::ffff:\d+\./i.test(peer);
  const address = Buffer.alloc(addressBytes);
  const length = new Uint32Array([addressBytes]);
  const level = six ? SOL_IPV6 : SOL_IP;
  if (load()(fd, level, SO_ORIGINAL_DST, ptr(address) as never, ptr(length) as never) !== 0) return undefined;
  // sockaddr_in: family, port, address; sockaddr_in6: family, port, flow, address.
  const port = address.readUInt16BE(2);
  if (!six) return { address: formatIPv4(address.readUInt32BE(4)), port };
  return { address: formatIPv6((address.readBigUInt64BE(8) << 64n) | address.readBigUInt64BE(16)), port };
}
