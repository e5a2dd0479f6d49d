// A composition of several proxy processes on the same ports (SO_REUSEPORT; the kernel shares connections out). This process starts
// them, starts anew who dies, hands signals on, and combines their admin interfaces; it serves nothing itself. Each worker is a
// proxy of its own towards the control process, as NAME/1, NAME/2, …. The two sides talk over Bun's channel between a process and
// its child, so that each notices at once when the other is gone.

import { rmSync } from "node:fs";
import type { Subprocess } from "bun";
import { backoff } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { serveCombinedAdmin } from "./admin/combined-server.ts";
import { predecessorsAt } from "./admin/predecessor.ts";
import { type Arguments, workerAdmin } from "./arguments.ts";
import { limitsFile } from "./filters/shared-table.ts";
import { AddressClaims } from "./listener/claims.ts";
import { answerClaim } from "./listener/worker-claims.ts";

/** To a worker: finish within `deadline` milliseconds; see {@link ProxyProcess.drain}. */
export interface DrainMessage {
  readonly drain: number;
  readonly successors?: number;
}

/** From a worker: the control process asked it to finish, because another composition takes over. None is started anew from then on. */
export const handedOver = "handed over";

interface Worker {
  readonly number: number;
  readonly admin: string;
  process: Subprocess | undefined;
  failures: number;
}

/** A worker that lived this long did start. */
const settled = 10_000;

/**
 * Runs until all workers have ended after a signal, a drain or a hand-over; resolves then. `args`: this process's own. Throws when
 * the admin socket cannot be made.
 */
export async function runWorkers(
  program: readonly string[],
  args: readonly string[],
  options: Arguments,
  { clock, log }: { readonly clock: Clock; readonly log: Logger },
): Promise<void> {
  const workers: readonly Worker[] = Array.from({ length: options.workers }, (_, index) => ({
    ...{ number: index + 1, admin: workerAdmin(options.admin, index + 1), process: undefined, failures: 0 },
  }));
  // They share their addresses, which are asked for once, here.
  const predecessors = await predecessorsAt(options.admin);
  const claims = new AddressClaims(() => predecessors.present || !server.isOwn());
  let ending = false;
  const done = Promise.withResolvers<void>();
  const end = () => {
    ending = true;
    if (workers.every(({ process }) => process === undefined)) done.resolve();
  };
  const start = (one: Worker) => {
    const began = clock.now();
    const child = Bun.spawn([...program, ...args, ...shareOf(one, options)], {
      ...{ stdin: "ignore", stdout: "inherit", stderr: "inherit" },
      ipc(message, worker) {
        if (message === handedOver) end();
        const answer = answerClaim(claims, one.number, message);
        if (answer && one.process === worker) worker.send(answer);
      },
    });
    one.process = child;
    void child.exited.then(() => {
      one.process = undefined;
      claims.gone(one.number);
      if (ending) {
        end();
        return;
      }
      one.failures = clock.now() - began >= settled || child.exitCode === 0 ? 0 : one.failures + 1;
      const reason = child.signalCode ?? `exit code ${child.exitCode}`;
      const delay = one.failures <= 1 ? 0 : backoff(one.failures - 2, { initial: 200, max: 10_000 });
      log.warn("a worker ended; it is started anew", { worker: one.number, reason, delay: Math.round(delay) });
      again(one, delay);
    });
  };
  const again = (one: Worker, delay: number) =>
    clock.after(delay, () => {
      if (ending) return;
      try {
        start(one);
      } catch (error) {
        one.failures++;
        log.error("a worker cannot be started", { worker: one.number, reason: messageOf(error) });
        again(one, backoff(one.failures, { initial: 200, max: 10_000 }));
      }
    });
  const drain = (deadline: number, successors?: number) => {
    end();
    const message: DrainMessage = { drain: deadline, ...(successors === undefined ? {} : { successors }) };
    for (const { process } of workers) process?.send(message);
  };
  const server = serveCombinedAdmin({ path: options.admin, name: options.name, workers, drain });
  for (const one of workers) start(one);
  let asked = false;
  process.on("SIGTERM", () => {
    if (asked) for (const { process } of workers) process?.kill("SIGKILL");
    else drain(options.drain);
    asked = true;
  });
  process.on("SIGINT", () => drain(options.drain));
  await done.promise;
  if (server.stop()) rmSync(limitsFile(options.admin), { force: true });
}

/** What is a worker's own, behind the words of the composition: of a word that is there twice the last counts. */
function shareOf({ number }: Worker, { workers, ...limits }: Arguments): readonly string[] {
  const share = (all: number) => String(Math.ceil(all / workers));
  return [
    ...["--workers", "1", "--worker", `${number}/${workers}`],
    ...["--max-connections", share(limits.maxConnections), "--max-requests", share(limits.maxRequests)],
    ...["--max-memory", share(limits.maxMemory)],
  ];
}
