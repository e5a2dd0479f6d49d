// A collection that is written to: where data enters the graph that is not an object of a store (feedback of the proxies,
// settings, tests). `from-store.ts` writes to one, too.

import type { Collection } from "./collection.ts";
import { deepEqual } from "./equal.ts";
import { defaultGraph, type Graph } from "./graph.ts";
import { Node } from "./node.ts";

export interface SourceOptions<V> {
  /** Deep equality unless given. A write of an equal value changes nothing. */
  readonly equal?: (a: V, b: V) => boolean;
  /** The process's own unless given. */
  readonly graph?: Graph;
}

/** A writable collection. A write is a batch of its own unless it happens inside of `batch`. */
export interface Source<V> extends Collection<V> {
  set(key: string, value: V): void;
  delete(key: string): void;
  /** Makes the content exactly this, as one batch. */
  replace(entries: Iterable<readonly [string, V]>): void;
  /** Runs `write`; all that it writes, to this and to other sources of the graph, is one batch. */
  batch<T>(write: () => T): T;
  dispose(): void;
}

/**
 * Makes a writable collection. What is written can be read, here and in what is derived, when the call returns, unless a
 * long batch is running (then after it; see `settled`) or the write is made inside of `batch` or of a subscriber.
 */
export function source<V>(name: string, options: SourceOptions<V> = {}): Source<V> {
  return new SourceNode(options.graph ?? defaultGraph, name, 0, options.equal ?? deepEqual);
}

class SourceNode<V> extends Node<V> implements Source<V> {
  readonly #pending = new Map<string, V | undefined>();

  set(key: string, value: V): void {
    if (value === undefined) throw new TypeError(`${this.name}: a value must not be undefined (delete removes)`);
    this.#write(key, value);
  }

  delete(key: string): void {
    this.#write(key, undefined);
  }

  replace(entries: Iterable<readonly [string, V]>): void {
    this.graph.batch(() => {
      const wanted = new Map(entries);
      for (const key of [...this.committedKeys(), ...this.#pending.keys()]) if (!wanted.has(key)) this.delete(key);
      for (const [key, value] of wanted) this.set(key, value);
    });
  }

  batch<T>(write: () => T): T {
    return this.graph.batch(write);
  }

  #write(key: string, value: V | undefined): void {
    const first = this.#pending.size === 0;
    this.#pending.set(key, value);
    if (first) this.graph.write(() => this.#flush());
  }

  #flush(): void {
    if (this.#pending.size === 0) return;
    this.batches++;
    for (const [key, value] of this.#pending) this.stage(key, value);
    this.#pending.clear();
  }

  *process(): Generator<void> {}

  dispose(): void {
    this.graph.remove(this);
  }
}
