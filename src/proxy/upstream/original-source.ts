// Sockets towards endpoints that bear a client's own address (IP_TRANSPARENT, ip(7); Envoy's original_src): made, marked, bound and
// set on their way here, and handed to Bun as descriptors (of UDP: made by Bun, and bound anew here). Routing is the operator's: answers to that address must come back to this
// machine, and be delivered to it (by the mark and a local route, docs/proxy.md). Needs CAP_NET_ADMIN.

import { FFIType, ptr } from "bun:ffi";
import { closeSync } from "node:fs";
import { lastErrorCode } from "../../base/errno.ts";
import { UserError } from "../../base/errors.ts";
import { ipFamily, parseIPv4, parseIPv6 } from "../../base/ip.ts";
import { openLibc } from "../../base/libc.ts";
import { SOL_SOCKET } from "../../base/own-sockets.ts";

const { i32, u32, ptr: pointer } = FFIType;
const AF_INET = 2;
const AF_INET6 = 10;
/** SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC. */
const streamSocket = 1 | 0o4000 | 0o2000000;
const SOL_IP = 0;
const SOL_IPV6 = 41;
const IP_TRANSPARENT = 19;
const IPV6_TRANSPARENT = 75;
const IP_BIND_ADDRESS_NO_PORT = 24;
const SO_MARK = 36;
const SO_REUSEADDR = 2;
const SO_REUSEPORT = 15;
/** SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC. */
const datagramSocket = 2 | 0o4000 | 0o2000000;
const purpose = "connections cannot be made with other addresses than one's own";

/** Whose address a connection bears. */
export interface Source {
  readonly address: string;
  /** SO_MARK of its packets; absent or 0: none. */
  readonly mark?: number | undefined;
  /** Of UDP; absent or 0: any. */
  readonly port?: number;
}

function openCalls() {
  return openLibc(
    {
      socket: { args: [i32, i32, i32], returns: i32 },
      setsockopt: { args: [i32, i32, i32, pointer, u32], returns: i32 },
      bind: { args: [i32, pointer, u32], returns: i32 },
      connect: { args: [i32, pointer, u32], returns: i32 },
    },
    purpose,
  );
}

let calls: ReturnType<typeof openCalls> | undefined;

function libc(): NonNullable<typeof calls> {
  calls ??= openCalls();
  return calls;
}

function set(fd: number, level: number, name: number, value: number): boolean {
  const number = new Uint32Array([value]);
  return libc().setsockopt(fd, level, name, ptr(number), 4) === 0;
}

/** Lets a socket have addresses that are not this machine's, and take connections to them. False without CAP_NET_ADMIN. */
export function makeTransparent(fd: number, family: 4 | 6): boolean {
  return family === 6 ? set(fd, SOL_IPV6, IPV6_TRANSPARENT, 1) : set(fd, SOL_IP, IP_TRANSPARENT, 1);
}

/**
 * For datagrams to other addresses, on a port that is shared; of IPv6 also those of IPv4. Throws a UserError when this process may not
 * make it, an Error with `code` when it cannot be made.
 */
export function transparentSocket(family: 4 | 6): number {
  const fd = libc().socket(family === 6 ? AF_INET6 : AF_INET, datagramSocket, 0);
  if (fd >= 0 && makeTransparent(fd, family) && set(fd, SOL_SOCKET, SO_REUSEPORT, 1)) return fd;
  const code = lastErrorCode();
  if (fd >= 0) closeSync(fd);
  if (code === "EPERM") throw new UserError("a transparent listener needs CAP_NET_ADMIN (or root)");
  throw Object.assign(new Error(`a socket for datagrams to other addresses cannot be made (${code})`), { code });
}

/** Throws a UserError when this process may not make such sockets. */
export function checkOriginalSource(mark: number | undefined): void {
  const fd = libc().socket(AF_INET, streamSocket, 0);
  const may = makeTransparent(fd, 4) && (!mark || set(fd, SOL_SOCKET, SO_MARK, mark));
  closeSync(fd);
  if (!may) throw new UserError("connections with the client's address need CAP_NET_ADMIN (or root)");
}

/**
 * A descriptor on its way to the endpoint; that it could not even begin (no route) shows when it is waited for, as any failure to
 * connect does. Throws an Error when it cannot be made: addresses of two families, no more descriptors.
 */
export function connectFrom({ address, mark }: Source, to: string, port: number): number {
  const family = ipFamily(address);
  if (family === undefined || family !== ipFamily(to)) throw new Error(`${address} cannot be connected from to ${to}`);
  const fd = libc().socket(family === 6 ? AF_INET6 : AF_INET, streamSocket, 0);
  if (fd < 0) throw new Error("no socket can be made");
  const from = socketAddress(address, 0);
  const there = socketAddress(to, port);
  const bound =
    makeTransparent(fd, family) &&
    (!mark || set(fd, SOL_SOCKET, SO_MARK, mark)) &&
    // The port is chosen by where it goes to: one address has no more than 28,000 of them to share out.
    set(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1) &&
    libc().bind(fd, ptr(from), from.length) === 0;
  if (!bound) {
    closeSync(fd);
    throw new Error(`${address} cannot be had`);
  }
  libc().connect(fd, ptr(there), there.length);
  return fd;
}

/**
 * Gives a UDP socket that has an address of the machine's and a peer another address, and the peer again: Bun makes it, so that Bun
 * waits for its datagrams. A socket whose address was the kernel's choice loses it with its peer, and can be bound anew
 * (connect(2), AF_UNSPEC). Throws an Error when it cannot be: addresses of two families, no privilege, no route; it then hears nobody.
 */
export function speakFrom(fd: number, { address, mark, port: own = 0 }: Source, to: string, port: number): void {
  const family = ipFamily(address);
  if (family === undefined || family !== ipFamily(to)) throw new Error(`${address} cannot be sent from to ${to}`);
  const nobody = Buffer.alloc(28); // AF_UNSPEC is 0
  const from = socketAddress(address, own);
  const there = socketAddress(to, port);
  const done =
    libc().connect(fd, ptr(nobody), nobody.length) === 0 &&
    makeTransparent(fd, family) &&
    (!mark || set(fd, SOL_SOCKET, SO_MARK, mark)) &&
    // Several clients of one destination have a socket each on its port.
    (!own || set(fd, SOL_SOCKET, SO_REUSEADDR, 1)) &&
    libc().bind(fd, ptr(from), from.length) === 0 &&
    libc().connect(fd, ptr(there), there.length) === 0;
  if (!done) throw new Error(`${address} cannot be had`);
}

/** struct sockaddr_in or sockaddr_in6 of an address that is one. */
export function socketAddress(address: string, port: number): Buffer {
  const four = parseIPv4(address);
  const bytes = Buffer.alloc(four === undefined ? 28 : 16);
  bytes.writeUInt16LE(four === undefined ? AF_INET6 : AF_INET);
  bytes.writeUInt16BE(port, 2);
  if (four !== undefined) bytes.writeUInt32BE(four, 4);
  else {
    const six = parseIPv6(address) ?? 0n;
    bytes.writeBigUInt64BE(six >> 64n, 8);
    bytes.writeBigUInt64BE(six & 0xffff_ffff_ffff_ffffn, 16);
  }
  return bytes;
}
