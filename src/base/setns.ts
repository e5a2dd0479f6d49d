// Doing something inside a network namespace and coming back, in one synchronous stretch (setns(2), CLONE_NEWNET). A socket
// stays in the namespace that it was made in, so that one process can listen in many. Not for anything that waits:
// the namespace belongs to the thread, and whatever runs on it meanwhile would be in the wrong one.

import { FFIType } from "bun:ffi";
import { closeSync, openSync } from "node:fs";
import { UserError } from "./errors.ts";
import { openLibc } from "./libc.ts";

const CLONE_NEWNET = 0x40000000;

interface Libc {
  setns(fd: number, type: number): number;
}

let libc: Libc | undefined;
let home = -1;

function load(): Libc {
  if (libc) return libc;
  const { setns } = openLibc(
    { setns: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } },
    "network namespaces cannot be entered",
  );
  home = openSync("/proc/thread-self/ns/net", "r");
  libc = { setns: (fd, type) => setns(fd, type) };
  return libc;
}

/**
 * Runs `work` with this thread in the namespace at `path` (`/run/netns/x`, `/proc/PID/ns/net`), and returns what it
 * returns. Without a path, runs it where we are. `work` must not be asynchronous, must not start threads (so: literal
 * addresses, no name look-ups), and must not call `inNetns` itself.
 */
export function inNetns<T>(path: string | undefined, work: () => T): T {
  if (path === undefined) return work();
  const { setns } = load();
  const fd = openSync(path, "r");
  try {
    if (setns(fd, CLONE_NEWNET) !== 0) throw new UserError(`cannot enter the network namespace ${path} (not root?)`);
    try {
      return work();
    } finally {
      if (setns(home, CLONE_NEWNET) !== 0) {
        // Going on in the wrong namespace would open sockets in it from now on.
        process.stderr.write(`fairlead: cannot leave the network namespace ${path}\n`);
        process.abort();
      }
    }
  } finally {
    closeSync(fd);
  }
}
