// Whether anybody changed nftables rules in a namespace: a netlink socket in the kernel's multicast group for that
// (netlink(7), NETLINK_NETFILTER, NFNLGRP_NFTABLES), read without waiting. Costs a system call a look where reading the rules
// back costs a process. iptables on nft is nftables to the kernel; legacy iptables sends no events.

import { FFIType, ptr } from "bun:ffi";
import type { Disposable } from "../../base/disposal.ts";
import type { IpFamily } from "../../base/ip.ts";
import { openLibc } from "../../base/libc.ts";
import { inNetns } from "../../base/setns.ts";

export interface NftEvents extends Disposable {
  /** Whether rules changed since the last call. */
  changed(): boolean;
}

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_NETFILTER = 12;
/** enum nfnetlink_groups, linux/netfilter/nfnetlink.h. */
const NFNLGRP_NFTABLES = 7;
const MSG_DONTWAIT = 0x40;

const functions = {
  socket: { args: [FFIType.i32, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  bind: { args: [FFIType.i32, FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
  recv: { args: [FFIType.i32, FFIType.ptr, FFIType.u64, FFIType.i32], returns: FFIType.i64 },
  close: { args: [FFIType.i32], returns: FFIType.i32 },
} as const;

/** enum nf_inet_addr, linux/netfilter.h; tables of both families at once are `inet`. */
const nfprotoInet = 1;
const nfproto: Readonly<Record<IpFamily, number>> = { 4: 2, 6: 10 };

/** Follows one family's rules in the namespace at `path`. Undefined where the kernel or the C library does not let us: then one has to look. */
export function nftEvents(path: string | undefined, family: IpFamily): NftEvents | undefined {
  const libc = openLibc(functions, "nftables events cannot be followed");
  const fd = inNetns(path, () => libc.socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (fd < 0) return undefined;
  // struct sockaddr_nl: family, padding, port id (the kernel gives one), groups as bits.
  const address = new DataView(new ArrayBuffer(12));
  address.setUint16(0, AF_NETLINK, true);
  address.setUint32(8, 1 << (NFNLGRP_NFTABLES - 1), true);
  if (libc.bind(fd, ptr(address.buffer), 12) !== 0) {
    libc.close(fd);
    return undefined;
  }
  const buffer = new Uint8Array(64 * 1024);
  let open = true;
  return {
    changed() {
      let changed = false;
      // Drained whole. After an overrun (ENOBUFS) one read fails, and what was kept is there at the next look.
      for (;;) {
        const length = open ? Number(libc.recv(fd, ptr(buffer), buffer.length, MSG_DONTWAIT)) : 0;
        if (length <= 0) return changed;
        changed ||= concerns(new DataView(buffer.buffer, 0, length), family);
      }
    },
    dispose() {
      if (open) libc.close(fd);
      open = false;
    },
  };
}

/**
 * Whether one of a datagram's messages is about this family: after the header (struct nlmsghdr, 16 bytes, its length first) comes
 * the family (struct nfgenmsg). The mark at a transaction's end has none.
 */
export function concerns(datagram: DataView, family: IpFamily): boolean {
  const header = 16;
  for (let at = 0; at + header < datagram.byteLength; ) {
    const of = datagram.getUint8(at + header);
    if (of === nfproto[family] || of === nfprotoInet) return true;
    const length = datagram.getUint32(at, true);
    at += Math.max(header, (length + 3) & ~3);
  }
  return false;
}
