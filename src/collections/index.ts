// Values of a collection by a second key: Services by namespace, routes by the Gateways they name. An index is kept up with
// the work of what changed, and is read through `fetch.where` by computations, through `where` by everybody else.

import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Collection, ComputeError, Index } from "./collection.ts";
import type { Staged } from "./graph.ts";
import { type Node, nodeOf } from "./node.ts";
import { type Read, ReaderTable } from "./readers.ts";
import { StagedMap } from "./staged-map.ts";

/**
 * An index of `of` by what `by` says of each value (a value may be in no bucket, or in several). `by` must be pure; when
 * it throws, the value is in no bucket and `errors()` says why. Values of one bucket come in the order of their keys.
 */
export function index<V>(
  of: Collection<V>,
  name: string,
  by: (value: V, key: string) => readonly string[],
): Index<V> & Disposable {
  return new IndexNode(nodeOf(of), name, by);
}

/** The engine's own part of an index. */
export class IndexNode<V> implements Index<V>, Staged, Disposable {
  readonly name: string;
  readonly of: Node<V>;
  readonly readersOf: ReaderTable;
  readonly #by: (value: V, key: string) => readonly string[];
  readonly #buckets = new Map<string, StagedMap<V>>();
  readonly #touched = new Set<string>();
  readonly #failures = new Map<string, string>();
  #following: Disposable | undefined;

  constructor(of: Node<V>, name: string, by: (value: V, key: string) => readonly string[]) {
    this.name = name;
    this.of = of;
    this.#by = by;
    this.readersOf = new ReaderTable((value): Read => ({ kind: "where", index: name, value }));
    of.graph.write(() => {
      this.#following = of.follow(this);
    });
  }

  where(value: string): readonly V[] {
    if (this.of.graph.computing) throw new Error(`a compute function reads ${this.name} without fetch`);
    return this.#buckets.get(value)?.sorted() ?? [];
  }

  current(value: string): readonly V[] {
    return this.#buckets.get(value)?.currentSorted() ?? [];
  }

  staged(key: string, before: V | undefined, after: V | undefined): void {
    const left = new Set(this.#bucketsOf(before, key));
    for (const bucket of new Set(this.#bucketsOf(after, key))) {
      left.delete(bucket);
      this.#stage(bucket, key, after);
    }
    for (const bucket of left) this.#stage(bucket, key, undefined);
  }

  #bucketsOf(value: V | undefined, key: string): readonly string[] {
    const failure = this.#failures.get(key);
    this.#failures.delete(key);
    if (value === undefined) return [];
    try {
      return this.#by(value, key);
    } catch (error) {
      const message = messageOf(error);
      if (message !== failure) this.of.graph.markFailed({ collection: this.name, key, message });
      this.#failures.set(key, message);
      return [];
    }
  }

  *errors(): Generator<ComputeError> {
    for (const [key, message] of this.#failures) yield { collection: this.name, key, message };
  }

  #stage(bucket: string, key: string, value: V | undefined): void {
    let values = this.#buckets.get(bucket);
    if (!values) {
      values = new StagedMap();
      this.#buckets.set(bucket, values);
    }
    values.stage(key, value);
    if (this.#touched.size === 0) this.of.graph.markChanged(this);
    if (this.#touched.has(bucket)) return;
    this.#touched.add(bucket);
    this.readersOf.stale(bucket);
  }

  commit(): readonly (() => void)[] {
    for (const bucket of this.#touched) {
      const values = this.#buckets.get(bucket)!;
      values.commit();
      if (values.committed.size === 0) this.#buckets.delete(bucket);
    }
    this.#touched.clear();
    return [];
  }

  dispose(): void {
    this.#following?.dispose();
  }
}
