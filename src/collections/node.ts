// What every collection of the engine is made of: a staged map of values, the readers of each key, the indexes over it, the
// collections derived from it, and its subscribers. Not exported to other rooms; they see `Collection`.

import { type Disposable, disposable } from "../base/disposal.ts";
import type { Batch, Change, Collection, ComputeError } from "./collection.ts";
import type { CollectionMetrics, Graph, GraphNode } from "./graph.ts";
import { type Read, ReaderSet, ReaderTable } from "./readers.ts";
import { StagedMap } from "./staged-map.ts";

/** A view that follows a node inside a batch: an index, or a collection derived from it. */
export interface Follower<V> {
  staged(key: string, before: V | undefined, after: V | undefined): void;
  errors?(): Iterable<ComputeError>;
}

export abstract class Node<V> implements Collection<V>, GraphNode {
  readonly name: string;
  readonly graph: Graph;
  readonly rank: number;
  protected readonly equal: (a: V, b: V) => boolean;
  readonly #values = new StagedMap<V>();
  readonly #followers = new Set<Follower<V>>();
  readonly #subscribers = new Set<(batch: Batch<V>) => void>();
  readonly readersOf: ReaderTable;
  readonly readersOfAll: ReaderSet;
  protected batches = 0;
  protected computations = 0;
  protected milliseconds = 0;

  constructor(graph: Graph, name: string, rank: number, equal: (a: V, b: V) => boolean) {
    this.graph = graph;
    this.name = name;
    this.rank = rank;
    this.equal = equal;
    this.readersOf = new ReaderTable((key): Read => ({ kind: "one", collection: name, key }));
    this.readersOfAll = new ReaderSet({ kind: "all", collection: name }, () => {});
    graph.add(this);
  }

  // ------------------------------------------------------------------------------ the committed state, for everybody

  get size(): number {
    return this.#committed().size;
  }

  get(key: string): V | undefined {
    return this.#committed().get(key);
  }

  has(key: string): boolean {
    return this.#committed().has(key);
  }

  keys(): Iterable<string> {
    return this.#committed().keys();
  }

  values(): Iterable<V> {
    return this.#committed().values();
  }

  entries(): Iterable<readonly [string, V]> {
    return this.#committed().entries();
  }

  subscribe(on: (batch: Batch<V>) => void, options: { replay?: boolean } = {}): Disposable {
    const subscriber = (batch: Batch<V>) => on(batch); // the same function may subscribe twice
    this.#subscribers.add(subscriber);
    if (options.replay && this.#values.committed.size > 0) {
      on([...this.#values.committed].map(([key, after]): Change<V> => ({ key, before: undefined, after })));
    }
    return disposable(() => this.#subscribers.delete(subscriber));
  }

  #committed(): ReadonlyMap<string, V> {
    if (this.graph.computing) {
      throw new Error(`a compute function reads ${this.name} without fetch, so its changes would go unseen`);
    }
    return this.#values.committed;
  }

  // ----------------------------------------------------------------------------- the staged state, for computations

  current(key: string): V | undefined {
    return this.#values.current(key);
  }

  currentSorted(): readonly V[] {
    return this.#values.currentSorted();
  }

  protected committedKeys(): Iterable<string> {
    return this.#values.committed.keys();
  }

  /** Follows the changes of each batch; starts with everything that is there. */
  follow(follower: Follower<V>): Disposable {
    this.#followers.add(follower);
    for (const [key, value] of this.#values.committed) {
      if (!this.#values.staged.has(key)) follower.staged(key, undefined, value);
    }
    for (const [key, value] of this.#values.staged) {
      if (value !== undefined) follower.staged(key, undefined, value);
    }
    return disposable(() => this.#followers.delete(follower));
  }

  /** Stages a value (undefined removes) and makes its readers stale. Called at most once a batch and key. */
  protected stage(key: string, after: V | undefined): void {
    const before = this.#values.committed.get(key);
    if (before === undefined ? after === undefined : after !== undefined && this.equal(before, after)) return;
    if (this.#values.staged.size === 0) {
      this.graph.markChanged(this);
      this.readersOfAll.stale();
    }
    this.#values.stage(key, after);
    for (const follower of this.#followers) follower.staged(key, before, after);
    this.readersOf.stale(key);
  }

  abstract process(): Iterator<void>;

  commit(): readonly (() => void)[] {
    const told = this.#subscribers.size > 0;
    const batch: Change<V>[] = [];
    if (told) {
      for (const [key, after] of this.#values.staged) {
        batch.push({ key, before: this.#values.committed.get(key), after });
      }
    }
    this.#values.commit();
    return [...this.#subscribers].map((subscriber) => () => {
      if (this.#subscribers.has(subscriber)) subscriber(batch);
    });
  }

  *errors(): Iterable<ComputeError> {
    for (const follower of this.#followers) yield* follower.errors?.() ?? [];
  }

  metrics(): CollectionMetrics {
    return {
      name: this.name,
      rank: this.rank,
      size: this.#values.committed.size,
      computations: this.computations,
      batches: this.batches,
      milliseconds: this.milliseconds,
      errors: [...this.errors()].length,
    };
  }
}

/** The engine's own part of a collection. Throws a TypeError for one that another engine made. */
export function nodeOf<V>(collection: Collection<V>): Node<V> {
  if (collection instanceof Node) return collection as Node<V>;
  throw new TypeError(`${collection.name} is no collection of this engine`);
}
