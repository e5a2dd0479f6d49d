// The access log: one line of JSON a request, or connection that was passed through, buffered so that it costs a string and no
// system call. Off unless asked for. Lines are lost only when the process is killed before the next flush.

import { appendFileSync, closeSync, openSync } from "node:fs";
import type { Clock } from "../../base/clock.ts";

export interface AccessLogEntry {
  readonly time: string;
  readonly method: string;
  readonly authority: string;
  readonly path: string;
  readonly status: number;
  /** `-` when the answer is a backend's. */
  readonly reason: string;
  /** Envoy's letters. */
  readonly flag: string;
  readonly route: string;
  readonly backend: string;
  /** `address:port`, empty when none was reached. */
  readonly endpoint: string;
  readonly source: string;
  /** The client's name, by its certificate. */
  readonly peer?: string;
  /** Bytes of bodies, and of a tunnel: from the client, and to it. */
  readonly received: number;
  readonly sent: number;
  readonly milliseconds: number;
  readonly attempts: number;
  readonly requestId: string;
}

/** A connection or session that was passed through, when it is over. */
export interface RelayLogEntry {
  readonly time: string;
  readonly protocol: "TCP" | "UDP";
  readonly listener: string;
  readonly serverName: string;
  readonly reason: string;
  readonly flag: string;
  readonly backend: string;
  readonly endpoint: string;
  readonly source: string;
  readonly sourcePort: number;
  /** Where the client wanted to go, where that is known. */
  readonly destination?: string;
  /** The client's name, by its certificate. */
  readonly peer?: string;
  /** Bytes from the client, and to it. */
  readonly received: number;
  readonly sent: number;
  readonly milliseconds: number;
  readonly attempts: number;
}

const flushBytes = 64 * 1024;
const flushMilliseconds = 1_000;

export class AccessLog {
  readonly #file: number;
  #lines = "";

  /** Opens the file for appending. Throws when that cannot be done. */
  constructor(file: string, clock: Clock) {
    this.#file = openSync(file, "a", 0o640);
    clock.every(flushMilliseconds, () => this.flush());
  }

  write(entry: AccessLogEntry | RelayLogEntry): void {
    this.#lines += `${JSON.stringify(entry)}\n`;
    if (this.#lines.length >= flushBytes) this.flush();
  }

  flush(): void {
    if (this.#lines === "") return;
    const lines = this.#lines;
    this.#lines = "";
    try {
      appendFileSync(this.#file, lines);
    } catch {
      // A full disk must not stop traffic, nor fill the memory. Tried again with the next line after a flush interval.
    }
  }

  close(): void {
    this.flush();
    closeSync(this.#file);
  }
}
