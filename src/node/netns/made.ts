// The list of what a network made on the host, kept in a file and written before anything is made, so that a removal after a
// crash finds it. Lines are appended (`+ netns NAME`, `* netns NAME` when complete, `- netns NAME`); reading folds them.

import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

export type MadeKind = "netns" | "link" | "folder";

export interface Made {
  readonly kind: MadeKind;
  readonly name: string;
  /** Whether its making was finished; what is not complete is made anew. */
  readonly complete: boolean;
}

/** What the lines of a file say is there. Lines that a crash cut short are passed over. */
export function foldMade(text: string): Map<string, Made> {
  const made = new Map<string, Made>();
  for (const line of text.split("\n")) {
    const [sign, kind, name, ...rest] = line.split(" ");
    if (!name || rest.length > 0 || (kind !== "netns" && kind !== "link" && kind !== "folder")) continue;
    const key = `${kind} ${name}`;
    if (sign === "+") made.set(key, { kind, name, complete: false });
    else if (sign === "*") made.set(key, { kind, name, complete: true });
    else if (sign === "-") made.delete(key);
  }
  return made;
}

export class MadeList {
  readonly #file: string;
  readonly #made: Map<string, Made>;
  #lines = 0;

  constructor(file: string) {
    this.#file = file;
    let text = "";
    try {
      text = readFileSync(file, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
    this.#made = foldMade(text);
    if (text !== "") this.#rewrite();
  }

  all(): readonly Made[] {
    return [...this.#made.values()];
  }

  isComplete(kind: MadeKind, name: string): boolean {
    return this.#made.get(`${kind} ${name}`)?.complete === true;
  }

  /** To be called before the thing is made. */
  willMake(kind: MadeKind, names: readonly string[]): void {
    this.#write("+", kind, names, (name) => ({ kind, name, complete: false }));
  }

  completed(kind: MadeKind, names: readonly string[]): void {
    this.#write("*", kind, names, (name) => ({ kind, name, complete: true }));
  }

  /** To be called after the thing is gone. */
  removed(kind: MadeKind, names: readonly string[]): void {
    this.#write("-", kind, names, () => undefined);
    if (this.#lines > 1000 && this.#lines > 4 * this.#made.size) this.#rewrite();
  }

  /** Forgets the list itself. */
  delete(): void {
    this.#made.clear();
    rmSync(this.#file, { force: true });
  }

  #write(sign: string, kind: MadeKind, names: readonly string[], value: (name: string) => Made | undefined): void {
    if (names.length === 0) return;
    for (const name of names) {
      const made = value(name);
      if (made) this.#made.set(`${kind} ${name}`, made);
      else this.#made.delete(`${kind} ${name}`);
    }
    mkdirSync(dirname(this.#file), { recursive: true });
    appendFileSync(this.#file, names.map((name) => `${sign} ${kind} ${name}\n`).join(""));
    this.#lines += names.length;
  }

  #rewrite(): void {
    const lines = [...this.#made.values()].map(
      ({ kind, name, complete }) => `${complete ? "*" : "+"} ${kind} ${name}\n`,
    );
    mkdirSync(dirname(this.#file), { recursive: true });
    writeFileSync(`${this.#file}.new`, lines.join(""));
    renameSync(`${this.#file}.new`, this.#file);
    this.#lines = lines.length;
  }
}
