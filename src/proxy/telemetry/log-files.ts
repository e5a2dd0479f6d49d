// Access logs: lines are written as bytes into a buffer a file, so that a request costs no system call. Several listeners may write
// to one file. What cannot be written is dropped and counted: a full disk must neither stop traffic nor fill the memory.

import { closeSync, openSync, writeSync } from "node:fs";
import type { Clock } from "../../base/clock.ts";
import { messageOf } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { AccessRecord } from "./access-record.ts";
import type { LineFormat } from "./line-format.ts";

const flushBytes = 64 * 1024;
const flushMilliseconds = 1_000;

export class LogFile {
  readonly path: string;
  readonly #owner: LogFiles;
  #file: number;
  #bytes = Buffer.alloc(0);
  #at = 0;
  #lines = 0;

  constructor(path: string, owner: LogFiles) {
    this.path = path;
    this.#owner = owner;
    this.#file = open(path);
  }

  write(line: LineFormat, record: AccessRecord): void {
    if (this.#bytes.length - this.#at < line.most) this.#makeRoom(line.most);
    this.#at = line.write(this.#bytes, this.#at, record);
    this.#lines++;
    if (this.#at >= flushBytes) this.flush();
  }

  #makeRoom(most: number): void {
    this.flush();
    if (this.#bytes.length < flushBytes + most) this.#bytes = Buffer.allocUnsafeSlow(flushBytes + most);
  }

  flush(): void {
    const lines = this.#lines;
    if (lines === 0) return;
    const length = this.#at;
    this.#at = 0;
    this.#lines = 0;
    try {
      for (let written = 0; written < length; )
        written += writeSync(this.#file, this.#bytes, written, length - written);
      this.#owner.written += lines;
    } catch (error) {
      this.#owner.lost(this.path, lines, error);
    }
  }

  /** Whoever has put the file aside (logrotate) gets a new one. */
  reopen(): void {
    this.flush();
    try {
      const file = open(this.path);
      closeSync(this.#file);
      this.#file = file;
    } catch (error) {
      this.#owner.lost(this.path, 0, error);
    }
  }

  /** What is written from now on is dropped. */
  close(): void {
    this.flush();
    closeSync(this.#file);
    this.#file = none;
  }
}

/** No file has this number, and a number may not be used again for what is no log. */
const none = -1;

export class LogFiles {
  written = 0;
  dropped = 0;
  readonly #log: Logger;
  readonly #byPath = new Map<string, LogFile>();
  #toldAt = Number.NEGATIVE_INFINITY;
  readonly #clock: Clock;

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock;
    this.#log = log;
    clock.every(flushMilliseconds, () => this.flush());
  }

  /** The file of a path, opened for appending (mode 0640). Throws an Error when that cannot be done. */
  open(path: string): LogFile {
    let file = this.#byPath.get(path);
    if (!file) {
      file = new LogFile(path, this);
      this.#byPath.set(path, file);
    }
    return file;
  }

  /** Closes files that nobody writes to any more. */
  keep(paths: ReadonlySet<string>): void {
    for (const [path, file] of this.#byPath) {
      if (paths.has(path)) continue;
      this.#byPath.delete(path);
      file.close();
    }
  }

  flush(): void {
    for (const file of this.#byPath.values()) file.flush();
  }

  reopen(): void {
    for (const file of this.#byPath.values()) file.reopen();
  }

  lost(path: string, lines: number, error: unknown): void {
    this.dropped += lines;
    const now = this.#clock.now();
    if (now - this.#toldAt < 60_000) return;
    this.#toldAt = now;
    this.#log.warn("an access log cannot be written; its lines are dropped", { path, reason: messageOf(error) });
  }

  close(): void {
    this.keep(new Set());
  }
}

function open(path: string): number {
  return openSync(path, "a", 0o640);
}
