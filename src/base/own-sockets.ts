// The sockets that this process has open, whoever in it opened them, and what the kernel says of each: for the few options that Bun
// sets for nobody (getsockopt(2), getsockname(2), by bun:ffi). Linux only: the list is /proc/self/fd.

import { FFIType, ptr } from "bun:ffi";
import { readdirSync, readlinkSync } from "node:fs";
import { openLibc } from "./libc.ts";

const { i32, ptr: pointer } = FFIType;
export const SOL_SOCKET = 1;

export interface OwnSocket {
  readonly fd: number;
  /** An option of level SOL_SOCKET that is a number; undefined when the socket has none such. */
  option(name: number): number | undefined;
  /** Its own address, as struct sockaddr; undefined for one that is not of IPv4 or IPv6. */
  address(): { readonly bytes: Buffer; readonly length: number; readonly port: number } | undefined;
}

/** All of them. Throws a UserError where the C library cannot be called; `purpose` is the subject of its sentence. */
export function ownSockets(purpose: string): OwnSocket[] {
  const { getsockname, getsockopt } = openLibc(
    {
      getsockname: { args: [i32, pointer, pointer], returns: i32 },
      getsockopt: { args: [i32, i32, i32, pointer, pointer], returns: i32 },
    },
    purpose,
  );
  return readdirSync("/proc/self/fd")
    .filter(isSocket)
    .map(Number)
    .map((fd) => ({
      fd,
      option(name) {
        const [value, size] = [new Int32Array(1), new Uint32Array([4])];
        return getsockopt(fd, SOL_SOCKET, name, ptr(value), ptr(size)) === 0 ? value[0] : undefined;
      },
      address() {
        const [bytes, size] = [Buffer.alloc(28), new Uint32Array([28])];
        // A Unix socket's name is a path: its family is 1, and an IP socket's is 2 or 10.
        if (getsockname(fd, ptr(bytes), ptr(size)) !== 0 || bytes.readUInt16LE(0) < 2) return undefined;
        return { bytes, length: size[0]!, port: bytes.readUInt16BE(2) };
      },
    }));
}

function isSocket(fd: string): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`).startsWith("socket:");
  } catch {
    return false; // the one that lists the folder
  }
}
