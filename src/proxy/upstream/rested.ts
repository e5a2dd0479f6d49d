// Whether a kept connection has ended while nobody looked: its end may lie in the kernel behind the very event that wants to use it,
// and what cannot be sent twice (a POST) would be lost on it. Asked only of connections that have rested, so that busy ones pay nothing.

import { FFIType, ptr } from "bun:ffi";
import { fixed, openLibc } from "../../base/libc.ts";

const POLLIN = 0x0001;
const POLLRDHUP = 0x2000;

/** struct pollfd { int fd; short events; short revents }. */
const question = new Int32Array(fixed(8));
let poll: ((at: number | bigint, count: number, milliseconds: number) => number) | undefined;

function opened(): NonNullable<typeof poll> {
  try {
    const { ptr: pointer, u64, i32 } = FFIType;
    return openLibc({ poll: { args: [pointer, u64, i32], returns: i32 } }, "connections cannot be looked at")
      .poll as never;
  } catch {
    // Without the C library a connection is as good as it was before there was this file.
    return () => 0;
  }
}

/** True when the peer has closed the connection or broken it, or has said something that nobody asked for. One system call. */
export function hasEnded(fd: number): boolean {
  poll ??= opened();
  question[0] = fd;
  question[1] = POLLIN | POLLRDHUP;
  return poll(ptr(question), 1, 0) > 0;
}
