// Starting the control process in the background, in a session of its own, so that it outlives the command that started it, and
// under a keeper that starts it again when it dies.

import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../base/errors.ts";
import { processId } from "../base/process-id.ts";
import { ControlClient } from "./control-api.ts";
import { makeRuntime, type StackPaths } from "./stack.ts";
import { hasKeeper, stackMark } from "./stack-mark.ts";

/** How long the control process may take to open its socket, in milliseconds. */
const socketDeadline = 15_000;

/** Starts the control process of a stack that has settings, unless it is on its way; resolves when it answers on its socket. */
export async function launchControl(name: string, paths: StackPaths): Promise<ControlClient> {
  makeRuntime(name);
  const running = hasKeeper(name) ? () => hasKeeper(name) : start(name, paths);
  const client = new ControlClient(name);
  for (const end = Date.now() + socketDeadline; Date.now() < end; await Bun.sleep(5)) {
    if (await client.answers()) return client;
    if (!running()) break;
  }
  throw new UserError("the control process did not start", {
    remedy: `See why with: fairlead logs control --name ${name}`,
  });
}

/** Gives a function that says whether the keeper still runs. */
function start(name: string, paths: StackPaths): () => boolean {
  const log = openSync(join(paths.logs, "control.log"), "a", 0o600);
  const program = [process.execPath, join(import.meta.dir, "control.ts"), name];
  const child = spawn("/bin/sh", [join(import.meta.dir, "keep-control.sh"), ...program], {
    detached: true,
    stdio: ["ignore", log, log],
    env: { ...process.env, ...stackMark(name) },
  });
  closeSync(log);
  child.unref();
  return () => child.exitCode === null && child.pid !== undefined && processId(child.pid) !== undefined;
}
