// The control process of an embedded stack: `bun control.ts NAME`, started by `up` in the background. It opens its socket
// first, so that whoever started it can follow the start, and ends when it is told to or asked by a signal.

import { messageOf, UserError } from "../base/errors.ts";
import { createLogger } from "../base/log.ts";
import type { StartReport, Step } from "./control-api.ts";
import { startControlServer } from "./control-server.ts";
import { type Embedded, startEmbedded } from "./embedded.ts";
import { readSettings, stackPaths } from "./stack.ts";

process.umask(0o077); // the store has Secrets in it
const name = process.argv[2] ?? "";
const settings = readSettings(name);
if (!settings) throw new Error(`there is no stack "${name}"`);
const log = createLogger((line) => process.stdout.write(`${line}\n`)).child("control");

/** The start as it goes on; those who wait are told of each step. */
class Start {
  readonly #steps: Step[] = [];
  #end: Pick<StartReport, "error" | "remedy"> | undefined;
  #waiting: (() => void)[] = [];

  async step<T>(name: string, work: () => Promise<T> | T): Promise<T> {
    const began = performance.now();
    const result = await work();
    this.#steps.push({ name, milliseconds: performance.now() - began });
    this.#tell();
    return result;
  }

  get error(): string | undefined {
    return this.#end?.error;
  }

  finish(end: Pick<StartReport, "error" | "remedy">): void {
    this.#end = end;
    this.#tell();
  }

  async report(seen: number): Promise<StartReport> {
    while (this.#steps.length <= seen && !this.#end) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return { steps: this.#steps, finished: this.#end !== undefined, ...this.#end };
  }

  #tell(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

const start = new Start();
let embedded: Embedded | undefined;
const running = (): Embedded => {
  if (embedded) return embedded;
  if (start.error !== undefined) throw new UserError(`the stack did not start: ${start.error}`);
  throw new UserError("the stack is still starting", { remedy: "Ask again in a moment." });
};
let ending = false;

async function end(reason: string): Promise<void> {
  if (ending) return;
  ending = true;
  log.info("ending", { reason });
  await embedded?.dispose();
  await server.dispose();
  process.exit(0);
}

const server = startControlServer(stackPaths(name).controlSocket, {
  started: (seen) => start.report(seen),
  status: () => running().status(),
  wait: (request) => running().wait(request),
  explain: (request) => running().explain(request),
  explainPacket: (request) => running().explainPacket(request),
  recordSources: (manifests) => running().recordSources(manifests),
  execPlan: (target) => running().execPlan(target),
  replaceProxy: (workers) => running().replaceProxy(workers),
  stop: () => setImmediate(() => void end("asked over the control socket")),
});
for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void end(signal));
process.on("unhandledRejection", (error) =>
  log.error("unhandled rejection", { error: messageOf(error), stack: (error as Error)?.stack }),
);

try {
  embedded = await startEmbedded(settings, log, (step, work) => start.step(step, work));
  start.finish({});
} catch (error) {
  log.error("the start failed", { error: messageOf(error), stack: error instanceof Error ? error.stack : undefined });
  start.finish({
    error: messageOf(error),
    ...(error instanceof UserError && error.remedy ? { remedy: error.remedy } : {}),
  });
}
