// One child process that has to be there: started in a session of its own with its output in a log file, so that it lives on
// when this process ends, found again by its pid file, started anew when it dies, and stopped with a deadline. A pid
// alone is no identity (numbers are used again), so the pid file has the start time as well (proc(5), stat field 22).

import { closeSync, mkdirSync, openSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { backoff } from "../base/backoff.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import {
  answersSignals,
  isRunning,
  type ProcessId,
  processId,
  runningProcess,
  signalProcess,
} from "../base/process-id.ts";

export interface ChildSpec {
  /** For log lines: `proxy`, `stand-in node-1`. */
  readonly name: string;
  readonly argv: readonly string[];
  /** Added to our own environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly logFile: string;
  readonly pidFile: string;
}

export interface SupervisorOptions {
  readonly log: Logger;
  readonly clock?: Clock;
  /** Milliseconds between looks at a child that a former process of ours started; 250 unless given. */
  readonly watchInterval?: number;
  /** Called each time a child runs: started, started anew, or found. */
  readonly onStart?: (pid: number, adopted: boolean) => void;
  readonly onExit?: (reason: string) => void;
}

/** Times in milliseconds. */
export interface ReplaceOptions {
  /** How long the new child may take until it is ready; 10 seconds unless given. */
  readonly deadline?: number;
  /** How long the old one may take to end; 2 seconds unless given. */
  readonly patience?: number;
  /** Asks the old one to end. False: it could not be asked, and gets a SIGTERM. */
  readonly end?: (pid: number) => boolean;
  /** The old one stays, and the new one is ended, where that one does not become ready. */
  readonly keep?: boolean;
}

export interface SupervisedState {
  readonly pid: number | undefined;
  readonly restarts: number;
  readonly lastExit: string | undefined;
}

/** A child that lived this long did start; the next restart is a first one again. */
const settled = 10_000;
/** The log file is put aside as `<file>.1` when a child starts and it is longer than this. */
const longestLog = 8 * 1024 * 1024;

export class Supervisor {
  readonly #spec: ChildSpec;
  readonly #options: SupervisorOptions;
  readonly #clock: Clock;
  #current: ProcessId | undefined;
  #startedAt = 0;
  #failures = 0;
  #restarts = 0;
  #lastExit: string | undefined;
  #stopping = false;
  #timer: Disposable | undefined;
  #watch: Disposable | undefined;
  #whenGone: (() => void)[] = [];

  constructor(spec: ChildSpec, options: SupervisorOptions) {
    this.#spec = spec;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  state(): SupervisedState {
    return { pid: this.#current?.pid, restarts: this.#restarts, lastExit: this.#lastExit };
  }

  /** Takes over the child that runs, or starts one. Throws when the program cannot be started at all. */
  start(): void {
    this.#stopping = false;
    const found = runningProcess(this.#spec.pidFile);
    if (!found) {
      this.#spawn();
      return;
    }
    this.#startedAt = this.#clock.now();
    this.#options.log.info("found running", { child: this.#spec.name, pid: found.pid });
    this.#watchFound(found);
    this.#options.onStart?.(found.pid, true);
  }

  /** Takes a process that runs for the child. */
  #watchFound(found: ProcessId): void {
    this.#current = found;
    let looks = 0;
    this.#watch?.dispose();
    this.#watch = this.#clock.every(this.#options.watchInterval ?? 250, () => {
      // The pid alone is cheap to ask after; that it is still the same process is looked at now and then.
      if (!answersSignals(found.pid) || (++looks % 50 === 0 && !isRunning(found))) this.#exited(found, "ended");
    });
  }

  #remember({ pid, started }: ProcessId): void {
    const { pidFile } = this.#spec;
    writeFileSync(`${pidFile}.new`, `${pid} ${started}\n`);
    renameSync(`${pidFile}.new`, pidFile);
  }

  /** SIGTERM, then SIGKILL after `deadline` milliseconds. Resolves when it is gone. Starts no other. */
  async stop(deadline = 5000): Promise<void> {
    this.#stopping = true;
    this.#timer?.dispose();
    const current = this.#current;
    if (current) {
      const gone = new Promise<void>((resolve) => this.#whenGone.push(resolve));
      signalProcess(current, "SIGTERM");
      const kill = this.#clock.after(deadline, () => signalProcess(current, "SIGKILL"));
      await gone;
      kill.dispose();
    }
    this.#watch?.dispose();
    rmSync(this.#spec.pidFile, { force: true });
  }

  /**
   * Starts another child beside the one that runs, and ends that one when `ready` resolves, or when the new one has not got so
   * far after `deadline` milliseconds or has ended: perhaps it needs what the old one holds. Resolves when the old one is gone;
   * with false when it was kept.
   */
  async replace(
    ready: () => Promise<unknown>,
    { deadline = 10_000, patience = 2_000, end = () => false, keep = false }: ReplaceOptions = {},
  ): Promise<boolean> {
    const old = this.#current;
    if (!old) return false;
    this.#watch?.dispose();
    this.#spawn();
    const isReady = await new Promise<boolean>((resolve) => {
      const timer = this.#clock.after(deadline, () => resolve(false));
      const done = (is: boolean) => {
        timer.dispose();
        resolve(is);
      };
      ready().then(
        () => done(true),
        () => done(false),
      );
      this.#whenGone.push(() => done(false));
    });
    if (keep && !isReady && isRunning(old)) {
      this.#timer?.dispose();
      const other = this.#current;
      this.#watchFound(old);
      if (other) signalProcess(other, "SIGKILL");
      this.#remember(old);
      return false;
    }
    if (!end(old.pid)) signalProcess(old, "SIGTERM");
    const kill = this.#clock.after(patience, () => signalProcess(old, "SIGKILL"));
    await new Promise<void>((resolve) => {
      const look = this.#clock.every(20, () => {
        if (isRunning(old)) return;
        look.dispose();
        resolve();
      });
    });
    kill.dispose();
    return true;
  }

  /** Lets the child run on without us (our own end; the next process finds it). */
  release(): void {
    this.#stopping = true;
    this.#timer?.dispose();
    this.#watch?.dispose();
  }

  signal(name: NodeJS.Signals): void {
    if (this.#current) signalProcess(this.#current, name);
  }

  #spawn(): void {
    const { argv, env, cwd, logFile, pidFile, name } = this.#spec;
    mkdirSync(dirname(logFile), { recursive: true });
    mkdirSync(dirname(pidFile), { recursive: true });
    if ((statSync(logFile, { throwIfNoEntry: false })?.size ?? 0) > longestLog) renameSync(logFile, `${logFile}.1`);
    const output = openSync(logFile, "a", 0o600);
    try {
      const child = Bun.spawn([...argv], {
        stdin: "ignore",
        stdout: output,
        stderr: output,
        detached: true,
        ...(cwd ? { cwd } : {}),
        env: { ...process.env, ...env },
      });
      child.unref();
      const current: ProcessId = processId(child.pid) ?? { pid: child.pid, started: "" };
      this.#current = current;
      this.#startedAt = this.#clock.now();
      this.#remember(current);
      void child.exited.then(() => {
        this.#exited(current, child.signalCode ? `killed by ${child.signalCode}` : `exit code ${child.exitCode}`);
      });
      this.#options.log.debug("started", { child: name, pid: current.pid });
      this.#options.onStart?.(current.pid, false);
    } finally {
      closeSync(output);
    }
  }

  #exited(which: ProcessId, reason: string): void {
    if (this.#current !== which) return;
    this.#current = undefined;
    this.#watch?.dispose();
    this.#lastExit = reason;
    const waiting = this.#whenGone;
    this.#whenGone = [];
    for (const resolve of waiting) resolve();
    if (this.#stopping) return;
    this.#options.onExit?.(reason);
    const lived = this.#clock.now() - this.#startedAt;
    this.#failures = lived >= settled ? 0 : this.#failures + 1;
    // The first restart is at once: it was a kill, or the first crash.
    const delay = this.#failures <= 1 ? 0 : backoff(this.#failures - 2, { initial: 200, max: 10_000 });
    this.#options.log.warn("ended unexpectedly; starting it anew", {
      child: this.#spec.name,
      reason,
      delay: Math.round(delay),
      log: this.#spec.logFile,
    });
    this.#again(delay);
  }

  #again(delay: number): void {
    this.#timer = this.#clock.after(delay, () => {
      if (this.#stopping) return;
      this.#restarts++;
      try {
        this.#spawn();
      } catch (error) {
        this.#options.log.error("cannot be started", { child: this.#spec.name, reason: messageOf(error) });
        this.#failures++;
        this.#again(backoff(this.#failures, { initial: 200, max: 10_000 }));
      }
    });
  }
}
