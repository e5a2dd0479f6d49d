// Processes named by pid and start time together, so that a pid that the kernel gave to somebody else is never signalled.

import { readFileSync, rmSync } from "node:fs";

export interface ProcessId {
  readonly pid: number;
  /** Clock ticks since boot: field 22 of /proc/PID/stat (proc(5)). */
  readonly started: string;
}

/** The identity of a running process; undefined when there is none, or only its corpse. */
export function processId(pid: number): ProcessId | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The name in parentheses may contain anything; fields are counted from its end. Field 3 is the state.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? undefined : { pid, started: fields[19]! };
  } catch {
    return undefined;
  }
}

/** Whether there is a process of this number, whichever it is. */
export function answersSignals(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

export function isRunning(id: ProcessId): boolean {
  return processId(id.pid)?.started === id.started;
}

/** The process that a pid file (`PID START`) names, if it still runs. */
export function runningProcess(pidFile: string): ProcessId | undefined {
  let text: string;
  try {
    text = readFileSync(pidFile, "utf8");
  } catch {
    return undefined;
  }
  const match = /^([0-9]+) ([0-9]+)\s*$/.exec(text);
  if (!match) return undefined;
  const id: ProcessId = { pid: Number(match[1]), started: match[2]! };
  return isRunning(id) ? id : undefined;
}

/** Sends a signal to this very process; to nobody when its number belongs to another by now. */
export function signalProcess(target: ProcessId, name: NodeJS.Signals): void {
  if (isRunning(target)) send(target.pid, name);
}

/** The same for the whole process group that it leads. */
export function signalGroup(target: ProcessId, name: NodeJS.Signals): void {
  if (isRunning(target)) send(-target.pid, name);
}

/** Ends the processes that pid files name, with all that they started: for a removal after who started them is gone. */
export function killByPidFiles(pidFiles: readonly string[]): void {
  for (const pidFile of pidFiles) {
    const found = runningProcess(pidFile);
    if (found) {
      signalGroup(found, "SIGKILL");
      signalProcess(found, "SIGKILL");
    }
    rmSync(pidFile, { force: true });
  }
}

function send(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // Ended meanwhile, or it leads no group.
  }
}
