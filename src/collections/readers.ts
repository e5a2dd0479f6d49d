// Who reads what: the computations that a change of one key, one index bucket or one whole collection makes stale.

/** A computation that can be made stale. */
export interface Reader {
  stale(): void;
}

/** What a computation read, as `explain` shows it. */
export type Read =
  | { readonly kind: "one"; readonly collection: string; readonly key: string }
  | { readonly kind: "where"; readonly index: string; readonly value: string }
  | { readonly kind: "all"; readonly collection: string };

/** The readers of one thing. It lives as long as it has any. */
export class ReaderSet {
  readonly read: Read;
  readonly readers = new Set<Reader>();
  readonly #forget: () => void;

  constructor(read: Read, forget: () => void) {
    this.read = read;
    this.#forget = forget;
  }

  add(reader: Reader): void {
    this.readers.add(reader);
  }

  delete(reader: Reader): void {
    this.readers.delete(reader);
    if (this.readers.size === 0) this.#forget();
  }

  stale(): void {
    for (const reader of this.readers) reader.stale();
  }
}

/** The reader sets of many keys. */
export class ReaderTable {
  readonly #sets = new Map<string, ReaderSet>();
  readonly #describe: (key: string) => Read;

  constructor(describe: (key: string) => Read) {
    this.#describe = describe;
  }

  of(key: string): ReaderSet {
    let set = this.#sets.get(key);
    if (!set) {
      set = new ReaderSet(this.#describe(key), () => this.#sets.delete(key));
      this.#sets.set(key, set);
    }
    return set;
  }

  stale(key: string): void {
    this.#sets.get(key)?.stale();
  }
}
