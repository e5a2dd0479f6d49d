// Processes named by pid and start time together, so that a pid that the kernel gave to somebody else is never signalled.

import { readFileSync } from "node:fs";

export interface ProcessId {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat (proc(5)): clock ticks since boot. */
  readonly started: string;
}

/** The identity of a running process; undefined when there is none (or it is a zombie). */
export function processId(pid: number): ProcessId | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the program's name in parentheses, and may hold spaces and parentheses itself.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : { pid, started: fields[19]! };
  } catch {
    return undefined;
  }
}

export function isRunning(id: ProcessId): boolean {
  return processId(id.pid)?.started === id.started;
}

/** Sends a signal to exactly that process; nothing happens when it is gone. */
export function signalProcess(id: ProcessId, signal: NodeJS.Signals): void {
  if (!isRunning(id)) return;
  try {
    process.kill(id.pid, signal);
  } catch {
    // It ended in between.
  }
}
