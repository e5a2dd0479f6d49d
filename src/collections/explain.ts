// What the graph can say about itself: why a value is what it is, what could not be computed, and what it all cost.

import type { Collection, ComputeError } from "./collection.ts";
import { DerivedNode } from "./derive.ts";
import { type CollectionMetrics, defaultGraph, type Graph } from "./graph.ts";
import type { Read } from "./readers.ts";

export interface Explanation {
  readonly collection: string;
  readonly key: string;
  /** The value it was computed from; undefined for a value that was written. */
  readonly input: { readonly collection: string; readonly key: string } | undefined;
  /** Everything that its computation fetched. */
  readonly reads: readonly Read[];
  /** Set when the last computation failed and the value is an older one. */
  readonly failure: string | undefined;
}

/** How a value came to be; undefined when the collection has no such key. */
export function explain<V>(collection: Collection<V>, key: string): Explanation | undefined {
  if (!collection.has(key)) return undefined;
  const origin = collection instanceof DerivedNode ? collection.origin(key) : undefined;
  return {
    collection: collection.name,
    key,
    input: origin?.input,
    reads: origin?.reads ?? [],
    failure: origin?.failure,
  };
}

/** Everything that cannot be computed at present. */
export function errors(graph: Graph = defaultGraph): readonly ComputeError[] {
  return graph.errors();
}

/** Size and cost of every collection. */
export function metrics(graph: Graph = defaultGraph): readonly CollectionMetrics[] {
  return graph.metrics();
}

/** Resolves when no write waits and no batch runs. */
export function settled(graph: Graph = defaultGraph): Promise<void> {
  return graph.settled();
}

/** Runs `write`; all writes to sources inside of it are one batch. */
export function batch<T>(write: () => T, graph: Graph = defaultGraph): T {
  return graph.batch(write);
}
