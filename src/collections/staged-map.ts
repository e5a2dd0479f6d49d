// A map with two faces while a batch runs: the committed state, which readers outside of the batch see, and the staged one,
// which computations see. `commit` makes the second the first, at the cost of what changed.

/** A list in the order of its keys, with the keys beside it. */
interface Sorted<V> {
  readonly keys: readonly string[];
  readonly values: readonly V[];
}

export class StagedMap<V> {
  readonly committed = new Map<string, V>();
  readonly #staged = new Map<string, V | undefined>();
  #sorted: Sorted<V> | undefined;
  #stagedSorted: Sorted<V> | undefined;

  /** The value as the running batch has it. */
  current(key: string): V | undefined {
    return this.#staged.has(key) ? this.#staged.get(key) : this.committed.get(key);
  }

  /** Undefined removes. */
  stage(key: string, value: V | undefined): void {
    this.#staged.set(key, value);
    this.#stagedSorted = undefined;
  }

  get staged(): ReadonlyMap<string, V | undefined> {
    return this.#staged;
  }

  commit(): void {
    if (this.#staged.size === 0) return;
    for (const [key, value] of this.#staged) {
      if (value === undefined) this.committed.delete(key);
      else this.committed.set(key, value);
    }
    this.#staged.clear();
    this.#sorted = this.#stagedSorted;
    this.#stagedSorted = undefined;
  }

  /** The committed values in the order of their keys: the same list until a commit changes them. */
  sorted(): readonly V[] {
    return this.#committedSorted().values;
  }

  /** As {@link sorted}, for the staged state. Linear in the size when something is staged. */
  currentSorted(): readonly V[] {
    if (this.#staged.size === 0) return this.sorted();
    this.#stagedSorted ??= this.#mergeStaged(this.#committedSorted().keys);
    return this.#stagedSorted.values;
  }

  #committedSorted(): Sorted<V> {
    if (!this.#sorted) {
      const keys = [...this.committed.keys()].sort(byCodeUnit);
      this.#sorted = { keys, values: keys.map((key) => this.committed.get(key) as V) };
    }
    return this.#sorted;
  }

  #mergeStaged(old: readonly string[]): Sorted<V> {
    const fresh: string[] = [];
    for (const [key, value] of this.#staged) if (value !== undefined && !this.committed.has(key)) fresh.push(key);
    fresh.sort(byCodeUnit);
    const keys: string[] = [];
    const values: V[] = [];
    const take = (key: string) => {
      const value = this.current(key);
      if (value === undefined) return;
      keys.push(key);
      values.push(value);
    };
    let next = 0;
    for (const key of old) {
      while (next < fresh.length && fresh[next]! < key) take(fresh[next++]!);
      take(key);
    }
    while (next < fresh.length) take(fresh[next++]!);
    return { keys, values };
  }
}

function byCodeUnit(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
