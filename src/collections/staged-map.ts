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
    this.#stagedSorted ??= this.#mergeStaged(this.#committedSorted());
    return this.#stagedSorted.values;
  }

  #committedSorted(): Sorted<V> {
    if (!this.#sorted) {
      const keys = [...this.committed.keys()].sort(byCodeUnit);
      this.#sorted = { keys, values: keys.map((key) => this.committed.get(key) as V) };
    }
    return this.#sorted;
  }

  /** Copies the committed order and puts the changes in their places; from scratch when they are many. */
  #mergeStaged(old: Sorted<V>): Sorted<V> {
    if (this.#staged.size > 64) {
      const keys = new Set(old.keys);
      for (const [key, value] of this.#staged) {
        if (value === undefined) keys.delete(key);
        else keys.add(key);
      }
      const sorted = [...keys].sort(byCodeUnit);
      return { keys: sorted, values: sorted.map((key) => this.current(key) as V) };
    }
    let keys = old.keys;
    const values = old.values.slice();
    for (const [key, value] of this.#staged) {
      const at = placeOf(keys, key);
      const there = keys[at] === key;
      if (there && value !== undefined) {
        values[at] = value;
        continue;
      }
      if (!there && value === undefined) continue;
      if (keys === old.keys) keys = old.keys.slice();
      if (value === undefined) {
        (keys as string[]).splice(at, 1);
        values.splice(at, 1);
      } else {
        (keys as string[]).splice(at, 0, key);
        values.splice(at, 0, value);
      }
    }
    return { keys, values };
  }
}

/** Where a key is, or would be, in a sorted list. */
function placeOf(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

function byCodeUnit(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
