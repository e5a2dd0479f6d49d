// The proxy program: `bun src/proxy/main.ts --control SOCKET --name NAME --scopes gateway --admin SOCKET [--state FILE]`.
// Logs to stderr. SIGTERM and SIGINT drain and exit 0; exit 1 when it cannot start, 2 for a wrong command line.

import { systemClock } from "../base/clock.ts";
import { messageOf, UserError } from "../base/errors.ts";
import { createLogger } from "../base/log.ts";
import { parseArguments } from "./arguments.ts";
import { ProxyProcess } from "./proxy.ts";
import { runWorkers } from "./workers.ts";

/** Milliseconds between looks at the process without which this one ends. */
const parentInterval = 500;

async function main(): Promise<void> {
  const options = parseArguments(process.argv.slice(2));
  const level = { current: options.logLevel };
  const log = createLogger(
    (line) => process.stderr.write(`${line}\n`),
    () => level.current,
    { proxy: options.name },
  );
  if (options.workers > 1) {
    await runWorkers(import.meta.path, options, systemClock, log.child("workers"));
    process.exit(0);
  }
  const proxy = new ProxyProcess(options, systemClock, log, level);
  // A fault in one exchange's timer must not cost all the others: it is told, and the rest goes on.
  process.on("uncaughtException", (error) => log.error("fault", { error, stack: error.stack }));
  process.on("unhandledRejection", (error) => log.error("fault", { error, stack: (error as Error).stack }));
  const ended = () => {
    log.info("ended");
    process.exit(0);
  };
  // The clock's timers do not keep the process alive; a proxy without configuration must wait all the same.
  setInterval(() => {}, 1 << 30);
  const drain = () => void proxy.drain(options.drain).then(ended);
  process.on("SIGTERM", drain);
  process.on("SIGINT", drain);
  if (options.parent !== undefined) {
    // Killed, it could not say so; its successor starts workers of its own.
    const watch = setInterval(() => {
      if (process.ppid === options.parent) return;
      clearInterval(watch);
      drain();
    }, parentInterval);
  }
  await proxy.start(ended).catch((error) => {
    process.stderr.write(`proxy: ${messageOf(error)}\n`);
    process.exit(1);
  });
}

main().catch((error) => {
  process.stderr.write(`proxy: ${messageOf(error)}\n`);
  if (error instanceof UserError && error.remedy) process.stderr.write(`${error.remedy}\n`);
  process.exit(error instanceof UserError ? error.exitCode : 1);
});
