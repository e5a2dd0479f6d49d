// One run of a host command in place of a container: a process in a session of its own, with its output in a file. A run that
// an earlier control process started is found again by its pid file; its exit code is not known then.

import { closeSync, copyFileSync, mkdirSync, openSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { dirname } from "node:path";
import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import {
  isRunning,
  type ProcessId,
  processId,
  runningProcess,
  signalGroup,
  signalProcess,
} from "../base/process-id.ts";

export interface CommandSpec {
  readonly argv: readonly string[];
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly logFile: string;
  readonly pidFile: string;
}

export interface Exit {
  /** 128 + signal when a signal ended it, 255 when it is not known. */
  readonly exitCode: number;
  readonly signal?: number;
}

/** Bytes after which an output file is put aside as `<file>.1` and begun anew. */
const longestOutput = 16 * 1024 * 1024;

/** Keeps the output of a running command within bounds. It goes on writing to the same file, which is emptied. */
export function keepOutputShort(file: string): void {
  if ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) <= longestOutput) return;
  copyFileSync(file, `${file}.1`);
  truncateSync(file);
}

export class CommandProcess {
  readonly id: ProcessId;
  readonly exited: Promise<Exit>;
  readonly #pidFile: string;

  private constructor(id: ProcessId, exited: Promise<Exit>, pidFile: string) {
    this.id = id;
    this.#pidFile = pidFile;
    this.exited = exited.then((exit) => {
      rmSync(this.#pidFile, { force: true });
      return exit;
    });
  }

  /** Starts it. Throws when the program is not there. */
  static start(spec: CommandSpec): CommandProcess {
    for (const file of [spec.logFile, spec.pidFile]) mkdirSync(dirname(file), { recursive: true });
    const output = openSync(spec.logFile, "a", 0o600);
    try {
      const child = Bun.spawn([...spec.argv], {
        stdin: "ignore",
        stdout: output,
        stderr: output,
        detached: true,
        env: { ...spec.env },
        ...(spec.cwd ? { cwd: spec.cwd } : {}),
      });
      child.unref();
      const id: ProcessId = processId(child.pid) ?? { pid: child.pid, started: "" };
      writeFileSync(spec.pidFile, `${id.pid} ${id.started}\n`);
      const exited = child.exited.then((): Exit => {
        const signal = child.signalCode ? constants.signals[child.signalCode as NodeJS.Signals] : undefined;
        return signal ? { exitCode: 128 + signal, signal } : { exitCode: child.exitCode ?? 255 };
      });
      return new CommandProcess(id, exited, spec.pidFile);
    } finally {
      closeSync(output);
    }
  }

  /** The run that is under way since before we were started, if it still is. */
  static find(pidFile: string, clock: Clock): CommandProcess | undefined {
    const id = runningProcess(pidFile);
    if (!id) return undefined;
    const exited = new Promise<Exit>((resolve) => {
      const watch: Disposable = clock.every(250, () => {
        if (isRunning(id)) return;
        watch.dispose();
        resolve({ exitCode: 255 });
      });
    });
    return new CommandProcess(id, exited, pidFile);
  }

  /** SIGTERM to it, then SIGKILL to all that it started when `milliseconds` have passed. Resolves when it has ended. */
  async stop(milliseconds: number, clock: Clock, signal: NodeJS.Signals = "SIGTERM"): Promise<Exit> {
    signalProcess(this.id, signal);
    const kill = clock.after(Math.max(0, milliseconds), () => this.kill());
    const exit = await this.exited;
    kill.dispose();
    return exit;
  }

  kill(): void {
    signalGroup(this.id, "SIGKILL");
    signalProcess(this.id, "SIGKILL");
  }
}
