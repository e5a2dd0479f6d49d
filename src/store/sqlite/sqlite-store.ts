// The Store on a SQLite file. All work happens synchronously in one turn (a write is decoded, admitted, validated and
// committed without anything else in between), behind the asynchronous interface that `remote/` shares. One process owns
// the file; docs/store.md says what is durable when.

import type { KubeObject } from "../../api/object.ts";
import { type Resource, type ResourceKey, resourceKey } from "../../api/resource.ts";
import type { Scheme } from "../../api/scheme.ts";
import { StatusError } from "../../api/status-error.ts";
import { formatTime } from "../../api/strategy.ts";
import type { FieldError } from "../../api/validation/field-error.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import { type Disposable, disposable, disposeAll } from "../../base/disposal.ts";
import { type Logger, silentLogger } from "../../base/log.ts";
import type { Admission, TransactionView } from "../admission.ts";
import type {
  DeleteOptions,
  ListOptions,
  ObjectKey,
  Patch,
  ResourceVersion,
  Snapshot,
  Store,
  StoreEvent,
  WatchOptions,
} from "../store.ts";
import { bindPod } from "./binding.ts";
import { CustomResources } from "./custom-resources.ts";
import { ObjectDatabase } from "./database.ts";
import { type Deletion, deleteObject } from "./delete.ts";
import { begin, type Engine, type EngineWriteOptions } from "./engine.ts";

import { evictPod } from "./eviction.ts";
import { expireEvents, expireEvery } from "./expiry.ts";
import { History } from "./history.ts";
import { systemNamespaces } from "./lifecycle.ts";
import { Objects } from "./objects.ts";
import { patchObject, updateScale } from "./patch.ts";
import { listObjects, matcher, parseRevision, presenter } from "./read.ts";
import { readScale } from "./scale.ts";
import { Watches } from "./watches.ts";
import { createObject, updateObject } from "./write.ts";

export interface SqliteStoreOptions {
  /** A file (its folder must exist), or `:memory:`. */
  readonly path: string;
  readonly scheme: Scheme;
  readonly clock?: Clock;
  readonly admissions?: readonly Admission[];
  readonly log?: Logger;
  /** How many changes watches can resume over. */
  readonly historyWindow?: number;
  /** Validation errors to let pass: what upstream refuses and this stack needs (endpoints on 127.x addresses). None unless given. */
  readonly tolerates?: (resource: ResourceKey, error: FieldError) => boolean;
}

/** Milliseconds between bookmarks; kube-apiserver sends them about once a minute. */
const bookmarkEvery = 60_000;

/** Opens the store and makes the system namespaces. Throws a StatusError that says what is wrong with the file. */
export function openSqliteStore(options: SqliteStoreOptions): SqliteStore {
  return new SqliteStore(options);
}

export class SqliteStore implements Store {
  readonly scheme: Scheme;
  readonly #database: ObjectDatabase;
  readonly #history: History;
  readonly #objects: Objects;
  readonly #watches: Watches;
  readonly #engine: Engine;
  readonly #admissions: Admission[];
  readonly #timers: Disposable;
  #closed = false;

  constructor(options: SqliteStoreOptions) {
    const { path, scheme, clock = systemClock, log = silentLogger, historyWindow = 100_000 } = options;
    this.scheme = scheme;
    this.#admissions = [...(options.admissions ?? [])];
    this.#database = new ObjectDatabase({ path, log });
    this.#history = new History(this.#database, { window: historyWindow, inMemory: Math.min(2000, historyWindow) });
    this.#watches = new Watches(log);
    this.#objects = new Objects({ database: this.#database, history: this.#history, watches: this.#watches, log });
    const custom = new CustomResources(this.#watches);
    this.#engine = {
      scheme,
      objects: this.#objects,
      clock,
      admissions: this.#admissions,
      log,
      tolerates: options.tolerates ?? (() => false),
      committed: (changes) => custom.committed(this.#engine, changes),
    };
    custom.serveStored(this.#engine);
    this.#makeSystemNamespaces();
    this.#timers = disposeAll([
      clock.every(bookmarkEvery, () => this.#watches.bookmark(this.#objects.revision)),
      clock.every(expireEvery, () => expireEvents(this.#engine)),
    ]);
  }

  /** The number of the last commit. */
  get revision(): ResourceVersion {
    return String(this.#objects.revision);
  }

  /** Adds an admission, for rooms that are made after the store. */
  admit(admission: Admission): Disposable {
    this.#admissions.push(admission);
    return disposable(() => {
      const at = this.#admissions.indexOf(admission);
      if (at >= 0) this.#admissions.splice(at, 1);
    });
  }

  resources(): readonly Resource[] {
    return this.scheme.resources();
  }

  async get(key: ObjectKey): Promise<KubeObject | undefined> {
    return this.read(key);
  }

  /** Like {@link get}, at once. */
  read(key: ObjectKey): KubeObject | undefined {
    this.#check(key.resource);
    const object = this.#view().get(resourceKey(key.resource), namespaceOf(key), key.name);
    return object && presenter(key.resource)(object);
  }

  /** All objects of a resource in the version they are kept in, at once. */
  readAll(resource: Resource, namespace?: string): readonly KubeObject[] {
    return this.#view().list(resourceKey(resource), namespace);
  }

  async list(resource: Resource, options: ListOptions = {}): Promise<Snapshot> {
    this.#check(resource);
    return listObjects(this.scheme, this.#objects, resource, options);
  }

  watch(
    resource: Resource,
    from: ResourceVersion,
    on: (event: StoreEvent) => void,
    options: WatchOptions = {},
  ): Disposable {
    this.#check(resource);
    const key = resourceKey(resource);
    const matches = matcher(this.scheme, resource, options);
    const backlog = this.#objects.since(key, parseRevision(from) ?? this.#objects.revision);
    return this.#watches.add(
      { resource: key, matches, present: presenter(resource), on, onError: options.onError },
      backlog,
    );
  }

  async create(resource: Resource, object: KubeObject, options: EngineWriteOptions = {}): Promise<KubeObject> {
    this.#check(resource);
    return presenter(resource)(createObject(this.#engine, resource, object, options));
  }

  async update(resource: Resource, object: KubeObject, options: EngineWriteOptions = {}): Promise<KubeObject> {
    this.#check(resource);
    return presenter(resource)(updateObject(this.#engine, resource, object, options));
  }

  async patch(key: ObjectKey, patch: Patch, options: EngineWriteOptions = {}): Promise<KubeObject> {
    return (await this.patchOrCreate(key, patch, options)).object;
  }

  /** Like {@link patch}, and says whether server-side apply made the object. */
  async patchOrCreate(
    key: ObjectKey,
    patch: Patch,
    options: EngineWriteOptions = {},
  ): Promise<{ object: KubeObject; created: boolean }> {
    this.#check(key.resource);
    const { object, created } = patchObject(this.#engine, key, patch, options);
    return { object: presenter(key.resource)(object), created };
  }

  async delete(key: ObjectKey, options: DeleteOptions = {}): Promise<KubeObject> {
    return (await this.startDeletion(key, options)).object;
  }

  /** Like {@link delete}, and says whether the object is gone already. */
  async startDeletion(key: ObjectKey, options: DeleteOptions = {}): Promise<Deletion> {
    this.#check(key.resource);
    const { object, gone } = deleteObject(this.#engine, key, options);
    return { object: presenter(key.resource)(object), gone };
  }

  /** Deletes all that a selection takes, and returns it as it was. */
  async deleteCollection(resource: Resource, selection: ListOptions, options: DeleteOptions = {}): Promise<Snapshot> {
    const snapshot = await this.list(resource, selection);
    for (const { metadata } of snapshot.items) {
      const key = { resource, name: metadata.name, ...(metadata.namespace ? { namespace: metadata.namespace } : {}) };
      deleteObject(this.#engine, key, options);
    }
    return snapshot;
  }

  /** The Scale of an object (autoscaling/v1). Throws NotFound. */
  async scaleOf(key: ObjectKey): Promise<KubeObject> {
    this.#check(key.resource);
    return readScale(this.#engine, key);
  }

  /** Writes the replica count of a Scale, and returns the Scale as it is then. */
  async updateScale(key: ObjectKey, scale: KubeObject, options: EngineWriteOptions = {}): Promise<KubeObject> {
    this.#check(key.resource);
    return updateScale(this.#engine, key, scale, options);
  }

  /** Places a pod on a node (`pods/binding`): once, and not when it is going away. */
  async bind(pod: ObjectKey, nodeName: string, options: EngineWriteOptions = {}): Promise<KubeObject> {
    return bindPod(this.#engine, pod, nodeName, options);
  }

  /** Deletes a pod if its PodDisruptionBudget allows it. Throws TooManyRequests when it does not. */
  async evict(pod: ObjectKey, options: DeleteOptions = {}): Promise<Deletion> {
    return evictPod(this.#engine, pod, options);
  }

  /** The state now, for decisions that must be made on one state. Puts and removals on it have no effect. */
  view(): Pick<TransactionView, "get" | "list"> {
    return this.#view();
  }

  get watching(): number {
    return this.#watches.size;
  }

  /** Ends all watches and closes the file. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timers.dispose();
    this.#watches.endAll();
    this.#database.close();
  }

  #view() {
    return begin(this.#engine);
  }

  #check(resource: Resource): void {
    if (this.#closed) throw new StatusError(503, "ServiceUnavailable", "the store is closed");
    if (!this.scheme.byPath(resource.group, resource.version, resource.plural)) {
      throw new StatusError(404, "NotFound", "the server could not find the requested resource", {});
    }
  }

  #makeSystemNamespaces(): void {
    const namespaces = this.scheme.byKey("namespaces");
    if (!namespaces) return;
    const transaction = begin(this.#engine);
    for (const name of systemNamespaces) {
      if (transaction.get("namespaces", undefined, name)) continue;
      transaction.put("namespaces", {
        apiVersion: "v1",
        kind: "Namespace",
        metadata: {
          name,
          uid: crypto.randomUUID(),
          creationTimestamp: formatTime(this.#engine.clock.now()),
          labels: { "kubernetes.io/metadata.name": name },
        },
        spec: { finalizers: ["kubernetes"] },
        status: { phase: "Active" },
      });
    }
    this.#objects.commit(transaction.changes());
  }
}

function namespaceOf(key: ObjectKey): string | undefined {
  return key.resource.scope === "Namespaced" ? key.namespace : undefined;
}
