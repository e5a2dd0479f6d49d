// A composition of several proxy processes on the same ports (SO_REUSEPORT; the kernel shares connections out). This process starts
// them, starts anew who dies, hands signals on, and combines their admin interfaces; it serves nothing itself. Each worker is a
// proxy of its own towards the control process, as NAME/1, NAME/2, …, with its own pools, health, limits and counters.

import { rmSync } from "node:fs";
import type { Subprocess } from "bun";
import { backoff } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { serveCombinedAdmin } from "./admin/combined-server.ts";
import type { Arguments } from "./arguments.ts";

interface Worker {
  readonly name: string;
  readonly admin: string;
  readonly argv: readonly string[];
  process: Subprocess | undefined;
  failures: number;
}

/** A worker that lived this long did start. */
const settled = 10_000;

/** Runs until all workers have ended after a signal; resolves then. Throws when the admin socket cannot be made. */
export function runWorkers(program: string, options: Arguments, clock: Clock, log: Logger): Promise<void> {
  const workers = Array.from({ length: options.workers }, (_, index) => worker(program, options, index + 1));
  let ending = false;
  const done = Promise.withResolvers<void>();
  const start = (one: Worker) => {
    const began = clock.now();
    const child = Bun.spawn([...one.argv], { stdin: "ignore", stdout: "inherit", stderr: "inherit" });
    one.process = child;
    void child.exited.then(() => {
      one.process = undefined;
      if (ending) {
        if (workers.every(({ process }) => process === undefined)) done.resolve();
        return;
      }
      one.failures = clock.now() - began >= settled ? 0 : one.failures + 1;
      const delay = one.failures <= 1 ? 0 : backoff(one.failures - 2, { initial: 200, max: 10_000 });
      const reason = child.signalCode ?? `exit code ${child.exitCode}`;
      log.warn("a worker ended; it is started anew", { worker: one.name, reason, delay: Math.round(delay) });
      clock.after(delay, () => {
        if (ending) return;
        try {
          start(one);
        } catch (error) {
          log.error("a worker cannot be started", { worker: one.name, reason: messageOf(error) });
        }
      });
    });
  };
  const end = (deadline?: number) => {
    ending = true;
    for (const { process, admin } of workers) {
      if (deadline === undefined) process?.kill("SIGTERM");
      else
        void fetch(`http://proxy/drain?deadline=${deadline}`, { method: "POST", unix: admin }).catch(() =>
          process?.kill(),
        );
    }
    if (workers.every(({ process }) => process === undefined)) done.resolve();
  };
  const server = serveCombinedAdmin({ path: options.admin, name: options.name, workers, drain: end });
  for (const one of workers) start(one);
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => end());
  return done.promise.then(() => server.stop());
}

/** What a worker is started with. Limits of the composition are shared out. */
function worker(program: string, options: Arguments, number: number): Worker {
  const name = `${options.name}/${number}`;
  const admin = `${options.admin}.${number}`;
  const share = (all: number) => String(Math.ceil(all / options.workers));
  const file = (name: string, value: string | undefined) => (value === undefined ? [] : [name, value]);
  rmSync(admin, { force: true });
  return {
    ...{ name, admin, process: undefined, failures: 0 },
    argv: [
      ...[
        process.execPath,
        program,
        "--control",
        options.control,
        "--name",
        name,
        "--scopes",
        options.scopes.join(","),
      ],
      ...["--admin", admin, "--parent", String(process.pid)],
      ...[...file("--program", options.program), ...file("--zone", options.zone)],
      ...file("--state", options.state && `${options.state}.${number}`),
      ...file("--access-log", options.accessLog),
      ...["--max-connections", share(options.maxConnections), "--max-requests", share(options.maxRequests)],
      ...["--max-memory", share(options.maxMemory), "--drain", String(options.drain), "--log-level", options.logLevel],
    ],
  };
}
