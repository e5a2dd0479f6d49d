// A Store in memory for tests of rooms above the store: list, watch, create, update (with `status`), patch by merge at the
// top level, delete; events are delivered in the turn of the write. It checks resourceVersions and counts generations; it
// has no defaults, validation or finalizers: `store/sqlite` does.

import { type KubeObject, nameOf, objectName } from "../../api/object.ts";
import { type Resource, resourceKey } from "../../api/resource.ts";
import { StatusError } from "../../api/status-error.ts";
import { type Disposable, disposable } from "../../base/disposal.ts";
import type {
  ListOptions,
  ObjectKey,
  Snapshot,
  Store,
  StoreEvent,
  WatchOptions,
  WriteOptions,
} from "../../store/store.ts";

interface Watcher {
  readonly resource: string;
  readonly on: (event: StoreEvent) => void;
  readonly options: WatchOptions;
}

export class MemoryStore implements Store {
  #version = 0;
  readonly #objects = new Map<string, Map<string, KubeObject>>();
  readonly #events: { resource: string; event: StoreEvent; version: number }[] = [];
  readonly #watchers = new Set<Watcher>();
  #oldest = 0;
  /** Lists made so far. */
  lists = 0;
  /** Thrown by the next calls of `list` and of writes, one each. */
  readonly failures: Error[] = [];
  /** Objects written so far. */
  writes = 0;
  readonly #resources: readonly Resource[];

  constructor(resources: readonly Resource[] = []) {
    this.#resources = resources;
  }

  resources(): readonly Resource[] {
    return this.#resources;
  }

  async get(key: ObjectKey): Promise<KubeObject | undefined> {
    return this.#of(key.resource).get(nameOf(key.namespace, key.name));
  }

  async list(resource: Resource, options: ListOptions = {}): Promise<Snapshot> {
    this.lists++;
    this.#fail();
    const all = [...this.#of(resource).values()];
    const items = all.filter((one) => !options.namespace || one.metadata.namespace === options.namespace);
    return { resourceVersion: String(this.#version), items };
  }

  watch(resource: Resource, from: string, on: (event: StoreEvent) => void, options: WatchOptions = {}): Disposable {
    const watcher: Watcher = { resource: resourceKey(resource), on, options };
    if (Number(from) < this.#oldest) {
      queueMicrotask(() => options.onError?.(new StatusError(410, "Expired", "too old resource version")));
      return disposable(() => {});
    }
    for (const { resource: of, event, version } of this.#events) {
      if (of === watcher.resource && version > Number(from)) on(event);
    }
    this.#watchers.add(watcher);
    return disposable(() => this.#watchers.delete(watcher));
  }

  async create(resource: Resource, object: KubeObject): Promise<KubeObject> {
    this.#fail();
    const name = objectName(object);
    if (this.#of(resource).has(name)) throw new StatusError(409, "AlreadyExists", `${name} already exists`);
    const uid = object.metadata.uid ?? `uid-${this.#version + 1}`;
    return this.#store(resource, "ADDED", { ...object, metadata: { ...object.metadata, uid, generation: 1 } });
  }

  async update(resource: Resource, object: KubeObject, options: WriteOptions = {}): Promise<KubeObject> {
    this.#fail();
    const old = this.#of(resource).get(objectName(object));
    if (!old) throw new StatusError(404, "NotFound", `${objectName(object)} not found`);
    const version = object.metadata.resourceVersion;
    if (version !== undefined && version !== old.metadata.resourceVersion) {
      throw new StatusError(409, "Conflict", "the object has been modified");
    }
    if (options.subresource === "status") return this.#store(resource, "MODIFIED", { ...old, status: object.status });
    const generation = (old.metadata.generation ?? 0) + 1;
    return this.#store(resource, "MODIFIED", {
      ...object,
      status: old.status,
      metadata: { ...object.metadata, uid: old.metadata.uid, generation },
    });
  }

  async patch(key: ObjectKey, patch: { body: unknown }, options: WriteOptions = {}): Promise<KubeObject> {
    const old = await this.get(key);
    if (!old) throw new StatusError(404, "NotFound", `${nameOf(key.namespace, key.name)} not found`);
    return this.update(key.resource, { ...old, ...(patch.body as object) } as KubeObject, options);
  }

  async delete(key: ObjectKey): Promise<KubeObject> {
    const name = nameOf(key.namespace, key.name);
    const old = this.#of(key.resource).get(name);
    if (!old) throw new StatusError(404, "NotFound", `${name} not found`);
    this.#of(key.resource).delete(name);
    this.#emit(key.resource, "DELETED", old);
    return old;
  }

  /** Forgets history and ends all watches as a real server does after compaction. */
  expire(): void {
    this.#oldest = this.#version + 1;
    this.#version++;
    const watchers = [...this.#watchers];
    this.#watchers.clear();
    for (const one of watchers) one.options.onError?.(new StatusError(410, "Expired", "too old resource version"));
  }

  #fail(): void {
    const failure = this.failures.shift();
    if (failure) throw failure;
  }

  #of(resource: Resource): Map<string, KubeObject> {
    const key = resourceKey(resource);
    let objects = this.#objects.get(key);
    if (!objects) {
      objects = new Map();
      this.#objects.set(key, objects);
    }
    return objects;
  }

  #store(resource: Resource, type: "ADDED" | "MODIFIED", object: KubeObject): KubeObject {
    this.writes++;
    const resourceVersion = String(this.#version + 1);
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion } };
    this.#of(resource).set(objectName(stored), stored);
    this.#emit(resource, type, stored);
    return stored;
  }

  #emit(resource: Resource, type: "ADDED" | "MODIFIED" | "DELETED", object: KubeObject): void {
    const version = ++this.#version;
    const event: StoreEvent = { type, object, resourceVersion: String(version) };
    const key = resourceKey(resource);
    this.#events.push({ resource: key, event, version });
    for (const one of [...this.#watchers]) {
      if (one.resource === key && (!one.options.namespace || one.options.namespace === object.metadata.namespace)) {
        one.on(event);
      }
    }
  }
}
