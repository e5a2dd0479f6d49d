// One write in progress: the objects it has put or removed so far over those that are stored. Admissions see it as their
// TransactionView; when all have agreed, `changes` says what is to be committed.

import { type KubeObject, nameOf, objectName, splitName } from "../../api/object.ts";
import type { ResourceKey } from "../../api/resource.ts";
import type { TransactionView } from "../admission.ts";
import { deepFreeze } from "../freeze.ts";
import { sameObject } from "./same-object.ts";
import type { SortedObjects } from "./sorted-objects.ts";

/** The stored objects, read only. */
export interface StoredObjects {
  of(resource: ResourceKey): SortedObjects;
}

/** What a transaction would do to one object. `after` undefined removes it. */
export interface PendingChange {
  readonly resource: ResourceKey;
  readonly name: string;
  readonly before: KubeObject | undefined;
  readonly after: KubeObject | undefined;
}

export interface Stamps {
  uid(): string;
  /** RFC 3339, seconds. */
  time(): string;
}

export class Transaction implements TransactionView {
  readonly #stored: StoredObjects;
  readonly #stamps: Stamps;
  readonly #pending = new Map<ResourceKey, Map<string, KubeObject | undefined>>();

  constructor(stored: StoredObjects, stamps: Stamps) {
    this.#stored = stored;
    this.#stamps = stamps;
  }

  get(resource: ResourceKey, namespace: string | undefined, name: string): KubeObject | undefined {
    const key = nameOf(namespace, name);
    const pending = this.#pending.get(resource);
    return pending?.has(key) ? pending.get(key) : this.#stored.of(resource).get(key);
  }

  list(resource: ResourceKey, namespace?: string): readonly KubeObject[] {
    const stored = this.#stored.of(resource);
    const pending = this.#pending.get(resource);
    if (!pending) return stored.list(namespace);
    const seen = stored.copy();
    for (const [key, object] of pending) {
      if (object) seen.set(key, object);
      else seen.delete(key);
    }
    return seen.list(namespace);
  }

  /** Completes a new object's uid and creationTimestamp; all else is stored as it is. */
  put(resource: ResourceKey, object: KubeObject): void {
    const { uid, creationTimestamp } = object.metadata;
    const complete =
      uid && creationTimestamp
        ? object
        : {
            ...object,
            metadata: {
              ...object.metadata,
              uid: uid ?? this.#stamps.uid(),
              creationTimestamp: creationTimestamp ?? this.#stamps.time(),
            },
          };
    this.#of(resource).set(objectName(object), deepFreeze(complete));
  }

  remove(resource: ResourceKey, namespace: string | undefined, name: string): void {
    this.#of(resource).set(nameOf(namespace, name), undefined);
  }

  /** What differs from the stored state, in the order it was first touched. */
  changes(): PendingChange[] {
    const changes: PendingChange[] = [];
    for (const [resource, pending] of this.#pending) {
      const stored = this.#stored.of(resource);
      for (const [name, after] of pending) {
        const before = stored.get(name);
        if (before === undefined && after === undefined) continue;
        if (before !== undefined && after !== undefined && sameObject(before, after)) continue;
        changes.push({ resource, name, before, after });
      }
    }
    return changes;
  }

  #of(resource: ResourceKey): Map<string, KubeObject | undefined> {
    let pending = this.#pending.get(resource);
    if (!pending) {
      pending = new Map();
      this.#pending.set(resource, pending);
    }
    return pending;
  }
}

/** The namespace column of a key: empty for what lives outside of namespaces. */
export function namespaceOfKey(key: string): string {
  return splitName(key).namespace ?? "";
}
