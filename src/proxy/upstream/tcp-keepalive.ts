// TCP keep-alive of connections to endpoints (tcp(7): SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT), which Bun sets only in
// part: the kernel asks an endpoint of which nothing was heard, and breaks the connection when it does not answer. What the policy
// leaves out is the machine's own (net.ipv4.tcp_keepalive_*).

import { FFIType, ptr } from "bun:ffi";
import { openLibc } from "../../base/libc.ts";
import { SOL_SOCKET } from "../../base/own-sockets.ts";
import type { TcpKeepalive } from "../../model/upstream-policies.ts";

const SO_KEEPALIVE = 9;
const SOL_TCP = 6;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;

type SetOption = (fd: number, level: number, name: number, value: never, length: number) => number;

let setOption: SetOption | undefined;

function opened(): SetOption {
  try {
    const { i32, u32, ptr: pointer } = FFIType;
    const symbols = { setsockopt: { args: [i32, i32, i32, pointer, u32], returns: i32 } };
    return openLibc(symbols, "connections cannot be kept alive").setsockopt as never;
  } catch {
    // Without the C library a connection is as good as without the policy.
    return () => 0;
  }
}

/** Has the kernel watch a connection. A descriptor that is closed already is let be. */
export function keepAlive(fd: number, { time, interval, probes }: TcpKeepalive): void {
  setOption ??= opened();
  const set = (level: number, name: number, value: number) =>
    setOption!(fd, level, name, ptr(new Int32Array([value])) as never, 4);
  if (time !== undefined) set(SOL_TCP, TCP_KEEPIDLE, time / 1000);
  if (interval !== undefined) set(SOL_TCP, TCP_KEEPINTVL, interval / 1000);
  if (probes !== undefined) set(SOL_TCP, TCP_KEEPCNT, probes);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
}
