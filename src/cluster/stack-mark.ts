// How a stack's processes are known: each carries the stack's runtime directory in its environment and hands it on to its
// children, so that `down` finds them all, also those whose parent was killed and whose pid nobody wrote down.

import { readdirSync, readFileSync } from "node:fs";
import { type ProcessId, processId } from "../base/process-id.ts";
import { stackPaths } from "./stack.ts";

const variable = "FAIRLEAD_STACK";

/** The environment variable that marks processes of this stack. */
export function stackMark(name: string): Record<string, string> {
  return { [variable]: stackPaths(name).runtime };
}

/** All running processes that carry the stack's mark, but this one. Those of other users cannot be seen, and are not ours. */
export function markedProcesses(name: string): ProcessId[] {
  const mark = `${variable}=${stackPaths(name).runtime}`;
  const found: ProcessId[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue;
    try {
      if (!readFileSync(`/proc/${entry}/environ`, "latin1").split("\0").includes(mark)) continue;
    } catch {
      continue;
    }
    const id = processId(Number(entry));
    if (id) found.push(id);
  }
  return found;
}

/** Whether the stack's control process is kept (`keep-control.sh`): then it is there, or on its way. */
export function hasKeeper(name: string): boolean {
  return markedProcesses(name).some(({ pid }) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes("keep-control.sh");
    } catch {
      return false;
    }
  });
}
