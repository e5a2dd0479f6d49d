// What every controller here reads and writes through: one collection a kind, shared, and writes that are visible in these
// collections when they return. The latter is what upstream's "expectations" are for: a controller that has created three
// pods must not be asked again before it can see them. It keeps nothing that the store does not have.

import { Namespaces, Pods } from "../api/kinds.ts";
import { type KubeObject, type ObjectMeta, objectName } from "../api/object.ts";
import { type Resource, type ResourceKey, resourceKey } from "../api/resource.ts";
import type { Clock } from "../base/clock.ts";
import { type Disposable, disposable } from "../base/disposal.ts";
import type { Logger } from "../base/log.ts";
import type { Change, Collection, Index } from "../collections/collection.ts";
import { fromStore } from "../collections/from-store.ts";
import { index } from "../collections/index.ts";
import type { DeleteOptions, ObjectKey, Store, WriteOptions } from "../store/store.ts";

type EmbeddedWriteOptions = Omit<WriteOptions, "subresource"> & {
  readonly subresource?: WriteOptions["subresource"] | "finalize";
};

/** What these controllers need of the embedded store beyond {@link Store}; a cluster's own controllers use subresources for it. */
export interface EmbeddedStore extends Store {
  update(resource: Resource, object: KubeObject, options?: EmbeddedWriteOptions): Promise<KubeObject>;
  bind(pod: ObjectKey, nodeName: string, options?: WriteOptions): Promise<KubeObject>;
}

/** A collection of stored objects by their name; `ready` resolves when it holds the first list. */
export type ObjectCollection = Collection<KubeObject> & { readonly ready?: Promise<void> };

export interface ObjectsOptions {
  readonly store: EmbeddedStore;
  readonly clock: Clock;
  readonly log: Logger;
  /** Where collections come from when others in the process read the same kinds; made here, and disposed, otherwise. */
  readonly collect?: (resource: Resource) => ObjectCollection;
}

/** How long a write waits to be seen, in milliseconds. It is only used up when an object is gone before anybody saw it. */
const sightLimit = 1_000;

const fieldManager = "fairlead-workloads";

export class Objects implements Disposable {
  readonly store: EmbeddedStore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly #collect: ((resource: Resource) => ObjectCollection) | undefined;
  readonly #collections = new Map<ResourceKey, ObjectCollection>();
  readonly #indexes = new Map<string, Index<KubeObject> & Disposable>();
  /** Writes that are not seen yet, by kind and name. */
  readonly #waiting = new Map<ResourceKey, Map<string, Set<(change: Change<KubeObject>) => void>>>();
  readonly #parts: Disposable[] = [];

  constructor(options: ObjectsOptions) {
    this.store = options.store;
    this.clock = options.clock;
    this.log = options.log;
    this.#collect = options.collect;
  }

  of(resource: Resource): ObjectCollection {
    const key = resourceKey(resource);
    let collection = this.#collections.get(key);
    if (!collection) {
      if (this.#collect) collection = this.#collect(resource);
      else {
        const own = fromStore(this.store, resource, { clock: this.clock, log: this.log });
        this.#parts.push(own);
        collection = own;
      }
      this.#collections.set(key, collection);
      const waiting = new Map<string, Set<(change: Change<KubeObject>) => void>>();
      this.#waiting.set(key, waiting);
      const tell = (change: Change<KubeObject>) => {
        for (const one of waiting.get(change.key) ?? []) one(change);
      };
      this.#parts.push(collection.subscribe((batch) => batch.forEach(tell)));
    }
    return collection;
  }

  /** Objects by the uid of their controller; those without one by `none/<namespace>`. */
  byController(resource: Resource): Index<KubeObject> {
    return this.indexed(resource, "by-controller", (object) => {
      const owner = controllerOf(object.metadata);
      return [owner ? owner.uid : orphansOf(object.metadata.namespace)];
    });
  }

  indexed(resource: Resource, name: string, by: (object: KubeObject) => readonly string[]): Index<KubeObject> {
    const full = `workloads/${resourceKey(resource)}/${name}`;
    let made = this.#indexes.get(full);
    if (!made) {
      made = index(this.of(resource), full, by);
      this.#parts.push(made);
      this.#indexes.set(full, made);
    }
    return made;
  }

  /** Resolves when all these kinds are known. */
  async ready(resources: readonly Resource[]): Promise<void> {
    await Promise.all(resources.map((resource) => this.of(resource).ready));
  }

  async create(resource: Resource, object: KubeObject): Promise<KubeObject> {
    const made = await this.store.create(resource, object, { fieldManager });
    await this.#seen(resource, made);
    return made;
  }

  async update(resource: Resource, object: KubeObject): Promise<KubeObject> {
    const stored = await this.store.update(resource, object, { fieldManager });
    await this.#seen(resource, stored);
    return stored;
  }

  async updateStatus(resource: Resource, object: KubeObject, status: unknown): Promise<KubeObject> {
    const stored = await this.store.update(resource, { ...object, status }, { fieldManager, subresource: "status" });
    await this.#seen(resource, stored);
    return stored;
  }

  /** Places a pod on a node, once (`pods/binding`). */
  async bind(pod: KubeObject, node: string): Promise<KubeObject> {
    const { namespace, name } = pod.metadata;
    const bound = await this.store.bind({ resource: Pods, namespace, name }, node, { fieldManager: "kube-scheduler" });
    await this.#seen(Pods, bound);
    return bound;
  }

  /** Writes a namespace's `spec.finalizers`, which only its `finalize` subresource may. */
  async finalize(namespace: KubeObject): Promise<void> {
    const stored = await this.store.update(Namespaces, namespace, { fieldManager, subresource: "finalize" });
    await this.#seen(Namespaces, stored);
  }

  /** Changes metadata of exactly this version of an object. */
  updateMetadata(resource: Resource, object: KubeObject, metadata: Partial<ObjectMeta>): Promise<KubeObject> {
    return this.update(resource, { ...object, metadata: { ...object.metadata, ...metadata } });
  }

  /** Deletes exactly this object, not a later one of the same name. */
  async delete(resource: Resource, object: KubeObject, options: DeleteOptions = {}): Promise<void> {
    const { namespace, name, uid } = object.metadata;
    const gone = await this.store.delete({ resource, namespace, name }, { ...options, preconditions: { uid } });
    await this.#seen(resource, gone, true);
  }

  dispose(): void {
    for (const part of this.#parts.splice(0).reverse()) part.dispose();
  }

  /** Resolves when the collection shows what was written: this version or a later one, or that the object is gone. */
  #seen(resource: Resource, written: KubeObject, deleted = false): Promise<void> {
    const collection = this.of(resource);
    const name = objectName(written);
    const version = Number(written.metadata.resourceVersion);
    const leaving = written.metadata.deletionTimestamp !== undefined;
    const visible = () => {
      const now = collection.get(name);
      if (now?.metadata.uid !== written.metadata.uid) return deleted || leaving;
      if (deleted && !leaving) return false; // it is gone in the store, and not here yet
      return !(Number(now?.metadata.resourceVersion) < version);
    };
    if (visible()) return Promise.resolve();
    const waiting = this.#waiting.get(resourceKey(resource))!;
    return new Promise((resolve) => {
      const tells = waiting.get(name) ?? new Set();
      waiting.set(name, tells);
      const done = () => {
        tells.delete(tell);
        if (tells.size === 0) waiting.delete(name);
        timer.dispose();
        resolve();
      };
      const tell = (change: Change<KubeObject>) => {
        if (visible() || change.after === undefined) done();
      };
      const timer = this.clock.after(sightLimit, done);
      tells.add(tell);
    });
  }
}

export function orphansOf(namespace: string | undefined): string {
  return `none/${namespace ?? ""}`;
}

/** The owner that manages an object, of which there is at most one. */
export function controllerOf(metadata: ObjectMeta) {
  return metadata.ownerReferences?.find((owner) => owner.controller === true);
}

/** The reference that a controlled object carries. */
export function controllerReference(resource: Resource, owner: KubeObject) {
  const { group, version, kind } = resource;
  return {
    apiVersion: group === "" ? version : `${group}/${version}`,
    kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid ?? "",
    controller: true,
    blockOwnerDeletion: true,
  };
}

/** Subscribes to a collection, telling the key and both sides of each change; what is there is told first. */
export function eachChange(
  collection: Collection<KubeObject>,
  on: (
    object: KubeObject,
    change: { readonly key: string; readonly before?: KubeObject; readonly after?: KubeObject },
  ) => void,
): Disposable {
  const subscription = collection.subscribe(
    (batch) => {
      for (const change of batch) on((change.after ?? change.before)!, change);
    },
    { replay: true },
  );
  return disposable(() => subscription.dispose());
}
