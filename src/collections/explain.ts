// Why a value is what it is: what it was computed from, and what the computation read. What failed and what it all cost is
// known by the graph (`errors`, `metrics`).

import type { Collection } from "./collection.ts";
import { DerivedNode } from "./derive.ts";
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
