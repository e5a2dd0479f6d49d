// What benchmarks measure of other processes, and how they sum runs up.

import { readFileSync } from "node:fs";

/** CPU time that a process has used, in microseconds (proc(5), fields 14 and 15, in ticks of 10 ms). */
export function cpuTime(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

/**
 * Gives this process (or another) and all that it starts from now on real-time priority (round robin, sched(7); a higher one goes
 * before), so that whatever else the machine does is not measured as somebody's latency. Returns what to add to the title; none where
 * it is not allowed.
 */
export function undisturbed(priority = 20, pid = process.pid): string {
  const { success } = Bun.spawnSync(["chrt", "-a", "-r", "-p", String(priority), String(pid)]);
  return success ? ", real-time priority" : "";
}

export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
