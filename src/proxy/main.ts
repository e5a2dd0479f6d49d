// The proxy program: `bun src/proxy/main.ts --control SOCKET --name NAME --scopes gateway --admin SOCKET [--state FILE]`.
// Logs to stderr. SIGTERM and SIGINT drain and exit 0; exit 1 when it cannot start, 2 for a wrong command line.

import { systemClock } from "../base/clock.ts";
import { messageOf, UserError } from "../base/errors.ts";
import { createLogger } from "../base/log.ts";
import { parseArguments } from "./arguments.ts";
import { type ClaimAnswer, WorkerClaims } from "./listener/worker-claims.ts";
import { ProxyProcess } from "./proxy.ts";
import { type DrainMessage, handedOver, runWorkers } from "./workers.ts";

/**
 * Milliseconds that a worker goes on serving when its first process was killed: who started that one starts another, whose workers
 * listen by then.
 */
const orphaned = 5_000;

async function main(): Promise<void> {
  const args = process.argv.slice(2);
  const options = parseArguments(args);
  const level = { current: options.logLevel };
  const log = createLogger(
    (line) => process.stderr.write(`${line}\n`),
    () => level.current,
    { proxy: options.name },
  );
  if (options.workers > 1) {
    const context = { clock: systemClock, log: log.child("workers") };
    await runWorkers([process.execPath, import.meta.path], args, options, context);
    process.exit(0);
  }
  const { worker } = options;
  const claims = new WorkerClaims((message) => {
    if (process.connected) process.send?.(message);
    return process.connected;
  });
  const proxy = new ProxyProcess(options, systemClock, log, level, worker && claims);
  // A fault in one exchange's timer must not cost all the others: it is told, and the rest goes on.
  process.on("uncaughtException", (error) => log.error("fault", { error, stack: error.stack }));
  process.on("unhandledRejection", (error) => log.error("fault", { error, stack: (error as Error).stack }));
  const ended = () => {
    log.info("ended");
    process.exit(0);
  };
  // The clock's timers do not keep the process alive; a proxy without configuration must wait all the same.
  setInterval(() => {}, 1 << 30);
  const drain = (deadline: number, successors?: number) => void proxy.drain(deadline, successors).then(ended);
  if (worker === undefined) for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => drain(options.drain));
  else {
    // A terminal's Ctrl-C comes to all of its processes: the first one says what is to be done.
    process.on("SIGINT", () => {});
    process.on("SIGTERM", () => drain(options.drain, 0));
    process.on("message", (message: DrainMessage | ClaimAnswer) => {
      if ("claim" in message) claims.answered(message);
      else drain(message.drain, message.successors);
    });
    process.on("disconnect", () => claims.leftAlone());
    process.on("disconnect", () =>
      setTimeout(() => drain(options.drain, worker.composition.workers * options.sockets), orphaned),
    );
  }
  const tell = () => {
    if (process.connected) process.send?.(handedOver);
  };
  await proxy.start(ended, tell).catch((error) => {
    process.stderr.write(`proxy: ${messageOf(error)}\n`);
    process.exit(1);
  });
}

main().catch((error) => {
  process.stderr.write(`proxy: ${messageOf(error)}\n`);
  if (error instanceof UserError && error.remedy) process.stderr.write(`${error.remedy}\n`);
  process.exit(error instanceof UserError ? error.exitCode : 1);
});
