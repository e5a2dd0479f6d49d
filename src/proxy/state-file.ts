// The last configuration on disk, so that a proxy that was killed serves again before the control process has said anything.
// It holds private keys: the file is its owner's alone (0600). Written whole and renamed into place, so that it is never half
// there, and not more often than a little while apart.

import { readFileSync } from "node:fs";
import { open, rename } from "node:fs/promises";
import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { StoredConfiguration } from "./in-force.ts";

const format = 1;
/** Milliseconds that changes are gathered before a write. */
const gather = 1_000;
/** Characters that are written in one go: what they are made of takes some hundred µs. */
const pieceLength = 64 * 1024;

export class StateFile {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #content: () => Iterable<string>;
  #scheduled = false;
  #ended = false;
  #writing: Promise<void> = Promise.resolve();

  constructor(path: string, clock: Clock, log: Logger, content: () => Iterable<string>) {
    this.#path = path;
    this.#clock = clock;
    this.#log = log;
    this.#content = content;
  }

  /** What was stored; undefined when there is nothing, or nothing that can be read (which is logged). */
  load(): StoredConfiguration | undefined {
    let text: string;
    try {
      text = readFileSync(this.#path, "utf8");
    } catch (error) {
      if ((error as { code?: string }).code !== "ENOENT") {
        this.#log.warn("the stored configuration cannot be read", { file: this.#path, error });
      }
      return undefined;
    }
    try {
      const stored = JSON.parse(text) as { format: number; configuration: StoredConfiguration };
      if (stored.format === format) return stored.configuration;
      this.#log.warn("the stored configuration is of another version and is left alone", { file: this.#path });
    } catch {
      this.#log.warn("the stored configuration is no JSON and is left alone", { file: this.#path });
    }
    return undefined;
  }

  /** Something changed: it is written soon. */
  changed(): void {
    if (this.#scheduled || this.#ended) return;
    this.#scheduled = true;
    this.#clock.after(gather, () => void this.flush());
  }

  /** Writes what waits, and nothing after it. */
  end(): Promise<void> {
    this.#ended = true;
    return this.flush();
  }

  /** Writes what waits. */
  flush(): Promise<void> {
    if (!this.#scheduled) return this.#writing;
    this.#scheduled = false;
    this.#writing = this.#writing.then(() => this.#write());
    return this.#writing;
  }

  async #write(): Promise<void> {
    const beside = `${this.#path}.new`;
    try {
      const file = await open(beside, "w", 0o600);
      try {
        await file.chmod(0o600);
        // Other events have their turn between the writes.
        let text = `{"format":${format},"configuration":`;
        for (const piece of this.#content()) {
          text += piece;
          if (text.length < pieceLength) continue;
          await file.writeFile(text);
          text = "";
        }
        await file.writeFile(`${text}}`);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(beside, this.#path);
    } catch (error) {
      this.#log.error("the configuration cannot be stored; a restart would wait for the control process", {
        file: this.#path,
        reason: messageOf(error),
      });
    }
  }
}
