// A container's log file in the form that a CRI runtime writes (`TIME STREAM F text`), which `kubectl logs` is answered from.
// Lines are gathered and written a few times a second; what comes faster than anybody reads is counted instead.

import { appendFileSync, mkdirSync, renameSync, statSync } from "node:fs";
import { dirname } from "node:path";

/** Lines kept between two writes; those beyond are counted. */
const mostPending = 500;
/** Bytes after which the file is put aside as `<file>.1`. */
const longestFile = 4 * 1024 * 1024;

/** `2026-01-02T03:04:05.678000000Z`: RFC 3339 with nanoseconds. */
export function logTime(milliseconds: number): string {
  return `${new Date(milliseconds).toISOString().slice(0, -1)}000000Z`;
}

export class ContainerLog {
  readonly #file: string;
  #pending: string[] = [];
  #skipped = 0;
  #size: number | undefined;

  constructor(file: string) {
    this.#file = file;
  }

  get isEmpty(): boolean {
    return this.#pending.length === 0 && this.#skipped === 0;
  }

  /** Whether another line would be kept; ask before making one. */
  get wantsMore(): boolean {
    if (this.#pending.length < mostPending) return true;
    this.#skipped++;
    return false;
  }

  line(text: string, now: number): void {
    this.#pending.push(`${logTime(now)} stdout F ${text}\n`);
  }

  flush(now: number): void {
    if (this.isEmpty) return;
    if (this.#skipped > 0) this.line(`(${this.#skipped} more requests)`, now);
    const text = this.#pending.join("");
    this.#pending = [];
    this.#skipped = 0;
    if (this.#size === undefined) {
      mkdirSync(dirname(this.#file), { recursive: true });
      this.#size = statSync(this.#file, { throwIfNoEntry: false })?.size ?? 0;
    }
    if (this.#size > longestFile) {
      renameSync(this.#file, `${this.#file}.1`);
      this.#size = 0;
    }
    appendFileSync(this.#file, text);
    this.#size += text.length;
  }
}
