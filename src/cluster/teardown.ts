// `fairlead down`: nothing of a stack remains, however it ended. Works from names and marks alone, so that it needs nobody's
// help: not the control process, not a complete state directory.

import { existsSync, rmdirSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { isRunning, type ProcessId, signalProcess } from "../base/process-id.ts";
import { netnsSupport, removeByName } from "../node/netns/netns-network.ts";
import { ControlClient } from "./control-api.ts";
import { stackPaths } from "./stack.ts";
import { markedProcesses } from "./stack-mark.ts";

/** How long processes may take to end by themselves, in milliseconds. */
const gracePeriod = 3_000;

export interface TornDown {
  /** Whether there was anything. */
  readonly found: boolean;
  readonly processes: number;
}

/** Ends the stack's processes and removes its network and files; with `keepData` the stored objects and keys stay. */
export async function tearDown(name: string, options: { keepData: boolean }): Promise<TornDown> {
  const paths = stackPaths(name);
  const there = existsSync(paths.directory) || existsSync(paths.runtime);
  const processes = markedProcesses(name);
  const control = new ControlClient(name);
  if (await control.answers()) await control.stop().catch(() => {});
  await end(processes);
  await end(markedProcesses(name)); // started while the others ended
  if (netnsSupport().ok) await removeByName(name);
  rmSync(paths.runtime, { recursive: true, force: true });
  if (options.keepData) {
    for (const path of [paths.logs, paths.volumes]) rmSync(path, { recursive: true, force: true });
  } else rmSync(paths.directory, { recursive: true, force: true });
  for (const home of [paths.runtime, paths.directory].map(dirname)) removeIfEmpty(home);
  return { found: there || processes.length > 0, processes: processes.length };
}

function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    // Another stack is in it, or it is not there.
  }
}

/** Waits for the processes to end, asks those that stay, and then ends them. */
async function end(processes: readonly ProcessId[]): Promise<void> {
  const left = () => processes.filter(isRunning);
  for (const id of left()) signalProcess(id, "SIGTERM");
  for (const deadline = Date.now() + gracePeriod; Date.now() < deadline && left().length > 0; ) await Bun.sleep(10);
  for (const id of left()) signalProcess(id, "SIGKILL");
  for (const deadline = Date.now() + gracePeriod; Date.now() < deadline && left().length > 0; ) await Bun.sleep(10);
}
