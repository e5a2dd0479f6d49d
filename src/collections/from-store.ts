// The objects of one kind as a collection: list, then watch from the list's resourceVersion; when the store no longer has
// the history (`Expired`), list again and apply only what differs. All events of one turn, of whatever kinds, are one batch.

import { type KubeObject, nameOf, objectName } from "../api/object.ts";
import { type Resource, resourceKey } from "../api/resource.ts";
import { isStatusReason } from "../api/status-error.ts";
import { backoff } from "../base/backoff.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { type Logger, silentLogger } from "../base/log.ts";
import type { ResourceVersion, Store, StoreEvent } from "../store/store.ts";
import type { Collection } from "./collection.ts";
import { deepEqual } from "./equal.ts";
import { defaultGraph, type Graph } from "./graph.ts";
import { type Source, source } from "./source.ts";

export interface FromStoreOptions {
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly graph?: Graph;
  /** For the pauses between attempts to list. */
  readonly clock?: Clock;
  readonly log?: Logger;
}

/** Keyed by {@link objectName}. */
export type StoreCollection = Collection<KubeObject> & {
  /** Resolves when the first list is in the collection. It never rejects: lists are tried again until one succeeds. */
  readonly ready: Promise<void>;
  dispose(): void;
};

export function fromStore(store: Store, resource: Resource, options: FromStoreOptions = {}): StoreCollection {
  const graph = options.graph ?? defaultGraph;
  const scope = [options.namespace, options.labelSelector].filter((one) => one !== undefined);
  const name = [resourceKey(resource), ...scope].join("?");
  const objects = source<KubeObject>(name, { graph, equal: sameObject });
  const follower = new Follower(store, resource, options, objects, graph);
  const dispose = objects.dispose.bind(objects);
  return Object.assign(objects, {
    ready: follower.ready,
    dispose() {
      follower.dispose();
      dispose();
    },
  });
}

/** Two reads of one stored version are the same object; anything else is compared by content. */
function sameObject(a: KubeObject, b: KubeObject): boolean {
  const version = a.metadata.resourceVersion;
  if (version !== undefined && a.metadata.uid === b.metadata.uid && version === b.metadata.resourceVersion) return true;
  return deepEqual(a, b);
}

class Follower implements Disposable {
  readonly ready: Promise<void>;
  readonly #store: Store;
  readonly #resource: Resource;
  readonly #options: FromStoreOptions;
  readonly #objects: Source<KubeObject>;
  readonly #graph: Graph;
  #becameReady: () => void = () => {};
  #watch: Disposable | undefined;
  #timer: Disposable | undefined;
  #failures = 0;
  #disposed = false;

  constructor(store: Store, resource: Resource, options: FromStoreOptions, objects: Source<KubeObject>, graph: Graph) {
    this.#store = store;
    this.#resource = resource;
    this.#options = options;
    this.#objects = objects;
    this.#graph = graph;
    this.ready = new Promise((resolve) => {
      this.#becameReady = resolve;
    });
    void this.#list();
  }

  async #list(): Promise<void> {
    try {
      const { resourceVersion, items } = await this.#listAll();
      if (this.#disposed) return;
      this.#graph.writeSoon(() => this.#objects.replace(items.map((one) => [objectName(one), one] as const)));
      this.#failures = 0;
      this.#follow(resourceVersion);
      await this.#graph.settled();
      this.#becameReady();
    } catch (error) {
      this.#again(error);
    }
  }

  async #listAll(): Promise<{ resourceVersion: ResourceVersion; items: readonly KubeObject[] }> {
    const { namespace, labelSelector } = this.#options;
    const items: KubeObject[] = [];
    let next: string | undefined;
    for (;;) {
      const page = await this.#store.list(this.#resource, { namespace, labelSelector, continue: next });
      items.push(...page.items);
      next = page.continue || undefined;
      if (next === undefined) return { resourceVersion: page.resourceVersion, items };
    }
  }

  #follow(from: ResourceVersion): void {
    let over = false;
    const { namespace, labelSelector } = this.#options;
    const on = (event: StoreEvent) => {
      if (over || this.#disposed || event.type === "BOOKMARK") return;
      this.#graph.writeSoon(() => {
        const { object } = event;
        const key = nameOf(object.metadata.namespace, object.metadata.name);
        if (event.type === "DELETED") this.#objects.delete(key);
        else this.#objects.set(key, object);
      });
    };
    const onError = (error: Error) => {
      if (over) return;
      over = true;
      this.#watch?.dispose();
      this.#again(error);
    };
    this.#watch = this.#store.watch(this.#resource, from, on, { namespace, labelSelector, onError });
    if (over) this.#watch.dispose();
  }

  #again(error: unknown): void {
    if (this.#disposed) return;
    const expired = isStatusReason(error, "Expired") || isStatusReason(error, "Gone");
    if (expired && this.#failures === 0) {
      this.#failures++; // twice in a row is no accident: then with a pause
      queueMicrotask(() => void this.#list());
      return;
    }
    const log = this.#options.log ?? silentLogger;
    log.warn("cannot follow a resource, listing again", { resource: resourceKey(this.#resource), error });
    const clock = this.#options.clock ?? systemClock;
    this.#timer = clock.after(backoff(this.#failures++), () => void this.#list());
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#watch?.dispose();
    this.#timer?.dispose();
  }
}
