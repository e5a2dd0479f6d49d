// The interface of derived values: see `derive.ts` for the engine and docs/collections.md for the idea (Istio's krt).
// A collection is a keyed set of immutable values that changes in batches.

import type { Disposable } from "../base/disposal.ts";

/** What one batch did to one key. `before` and `after` are never equal by value; undefined means absent. */
export interface Change<V> {
  readonly key: string;
  readonly before: V | undefined;
  readonly after: V | undefined;
}

export type Batch<V> = readonly Change<V>[];

export interface Collection<V> {
  /** Unique among collections; names it in metrics and in `explain`. */
  readonly name: string;
  readonly size: number;
  get(key: string): V | undefined;
  has(key: string): boolean;
  keys(): Iterable<string>;
  values(): Iterable<V>;
  entries(): Iterable<readonly [string, V]>;
  /** Called after a batch has settled in all collections; with `replay`, first with what is there as one batch. */
  subscribe(on: (batch: Batch<V>) => void, options?: { replay?: boolean }): Disposable;
}

/** Values of a collection by a second key. */
export interface Index<V> {
  readonly name: string;
  readonly of: Collection<V>;
  where(value: string): readonly V[];
}

/** How a computation reads other collections; each call is recorded, and a change of its answer recomputes the value. */
export interface Fetch {
  one<V>(collection: Collection<V>, key: string): V | undefined;
  where<V>(index: Index<V>, value: string): readonly V[];
  all<V>(collection: Collection<V>): readonly V[];
}

/** A value that could not be computed: the last good value stays, and this says why. */
export interface ComputeError {
  readonly collection: string;
  readonly key: string;
  readonly message: string;
}

export interface DeriveOptions<O> {
  readonly name: string;
  /** The key of an output. Two inputs must not make the same key; the second is reported as an error at its input. */
  readonly key: (output: O) => string;
  /** Deep equality unless given. An output equal to the one before travels no further. */
  readonly equal?: (a: O, b: O) => boolean;
}
