// Whether anybody changed nftables rules in a namespace: a netlink socket in the kernel's multicast group for that
// (netlink(7), NETLINK_NETFILTER, NFNLGRP_NFTABLES), read without waiting. Costs a system call a look where reading the rules
// back costs a process. iptables on nft is nftables to the kernel; legacy iptables sends no events.

import { FFIType, ptr } from "bun:ffi";
import type { Disposable } from "../../base/disposal.ts";
import { openLibc } from "./libc.ts";
import { inNetns } from "./setns.ts";

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

/** Follows the namespace at `path`. Undefined where the kernel or the C library does not let us: then one has to look. */
export function nftEvents(path: string | undefined): NftEvents | undefined {
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
      let events = 0;
      // Drained whole. After an overrun (ENOBUFS) one read fails, and what was kept is there at the next look.
      while (open && Number(libc.recv(fd, ptr(buffer), buffer.length, MSG_DONTWAIT)) > 0) events++;
      return events > 0;
    },
    dispose() {
      if (open) libc.close(fd);
      open = false;
    },
  };
}
