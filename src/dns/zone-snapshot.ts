// The last state of a DNS server on disk, so that a process that is started while the control process is away answers from the
// first question on. It is a file of JSON lines: the configuration, pieces of the state, and a last line without which it
// counts for nothing. It is written now and then, in small pieces between questions; what comes later is only in memory.

import { closeSync, existsSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { DnsConfig } from "./config.ts";
import type { ZoneChanges } from "./zone-changes.ts";
import type { ZoneTable } from "./zone-table.ts";

/** Grows when a line means something else than before: a file of another format is none. */
const format = 1;
/** Bytes: 100,000 Services are about 30 MB. A state above that is not kept. */
const mostBytes = 64 * 1024 * 1024;
/** Milliseconds from a change to the file that has it: many changes are one file. */
const quiet = 2_000;
/** Milliseconds of writing in one go; then questions that came meanwhile are answered. */
const turn = 1;

type Line =
  | { readonly type: "config"; readonly format: number; readonly config: DnsConfig }
  | { readonly type: "changes"; readonly changes: ZoneChanges }
  | { readonly type: "end" };

export interface ZoneSnapshotOptions {
  readonly path: string;
  readonly table: ZoneTable;
  /** What the server does now. */
  readonly config: () => DnsConfig;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface Snapshot {
  readonly config: DnsConfig;
  readonly changes: readonly ZoneChanges[];
}

/** What was kept; undefined when there is nothing whole. */
export function readSnapshot(path: string): Snapshot | undefined {
  const size = statSync(path, { throwIfNoEntry: false })?.size;
  if (size === undefined || size > mostBytes) return undefined;
  try {
    const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
    if (lines.at(-1) !== JSON.stringify({ type: "end" })) return undefined;
    const [first, ...rest] = lines.slice(0, -1).map((line) => JSON.parse(line) as Line);
    if (first?.type !== "config" || first.format !== format) return undefined;
    return { config: first.config, changes: rest.flatMap((line) => (line.type === "changes" ? [line.changes] : [])) };
  } catch {
    return undefined;
  }
}

/** Keeps the file near to the table from now on. `remember` is to be called when the configuration changed. */
export function keepSnapshot(options: ZoneSnapshotOptions): Disposable & { remember(): void } {
  const { path, table, clock, log } = options;
  let timer: Disposable | undefined;
  let writing = false;
  let changed = false;
  let disposed = false;

  const remember = () => {
    changed = true;
    if (timer || writing || disposed) return;
    timer = clock.after(quiet, () => {
      timer = undefined;
      // A state that is not whole yet would deny what is there.
      if (table.whole) write();
      else remember();
    });
  };
  function write(): void {
    writing = true;
    changed = false;
    const partial = `${path}.new`;
    let file: number | undefined;
    let bytes = 0;
    const lines = linesOf();
    const finish = (problem?: string) => {
      if (file !== undefined) closeSync(file);
      if (problem === undefined) renameSync(partial, path);
      else {
        rmSync(partial, { force: true });
        log.warn("the names are not kept for the next start", { file: path, reason: problem });
      }
      writing = false;
      if (changed) remember();
    };
    /** Whether there is more to write. */
    const piece = (): boolean => {
      const next = lines.next();
      if (next.done) return false;
      const text = `${JSON.stringify(next.value)}\n`;
      bytes += Buffer.byteLength(text);
      if (bytes > mostBytes) throw new Error(`they are more than ${mostBytes} bytes`);
      writeSync(file!, text);
      return true;
    };
    const some = () => {
      const began = performance.now();
      try {
        if (disposed) throw new Error("the process ends");
        let more = true;
        while (more && performance.now() - began < turn) more = piece();
        if (more) setImmediate(some);
        else finish();
      } catch (error) {
        finish(messageOf(error));
      }
    };
    try {
      file = openSync(partial, "w", 0o600);
      some();
    } catch (error) {
      finish(messageOf(error));
    }
  }
  function* linesOf(): Generator<Line> {
    yield { type: "config", format, config: options.config() };
    for (const changes of table.snapshot()) yield { type: "changes", changes };
    yield { type: "end" };
  }

  const subscription = table.onChange(remember);
  if (!existsSync(path)) remember();
  return {
    remember,
    dispose() {
      disposed = true;
      timer?.dispose();
      subscription.dispose();
    },
  };
}
