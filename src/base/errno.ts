// Why a call of the C library failed. Bun's own calls throw errors with a code; those through bun:ffi only return -1.

import { FFIType, type Pointer, read } from "bun:ffi";
import { getSystemErrorName } from "node:util";
import { openLibc } from "./libc.ts";

let place: Pointer | undefined;

/** `EADDRINUSE`, …: of the call that has just failed. Nothing may come between the two. */
export function lastErrorCode(): string {
  // Of the thread, so that its place stays.
  place ??= Number(
    openLibc({ __errno_location: { args: [], returns: FFIType.ptr } }, "errors are not told").__errno_location(),
  ) as Pointer;
  return getSystemErrorName(-read.i32(place, 0));
}
