// All stored objects, in memory and on disk as one: reads come from memory (a resource is read from the database when it
// is first asked for), a commit goes to the database first and then, only if that succeeded, to memory, history and
// watches. The resourceVersion is the number of the change, counted over all resources.

import type { KubeObject } from "../../api/object.ts";
import { objectName } from "../../api/object.ts";
import type { ResourceKey } from "../../api/resource.ts";
import { messageOf } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { deepFreeze } from "../freeze.ts";
import type { ObjectDatabase, RevisionRow } from "./database.ts";
import type { Change, History } from "./history.ts";
import { SortedObjects } from "./sorted-objects.ts";
import { namespaceOfKey, type PendingChange, type StoredObjects } from "./transaction.ts";
import type { Watches } from "./watches.ts";

export class Objects implements StoredObjects {
  readonly #database: ObjectDatabase;
  readonly #history: History;
  readonly #watches: Watches;
  readonly #log: Logger;
  readonly #byResource = new Map<ResourceKey, SortedObjects>();

  constructor(parts: { database: ObjectDatabase; history: History; watches: Watches; log: Logger }) {
    this.#database = parts.database;
    this.#history = parts.history;
    this.#watches = parts.watches;
    this.#log = parts.log;
  }

  get revision(): number {
    return this.#history.last;
  }

  of(resource: ResourceKey): SortedObjects {
    let objects = this.#byResource.get(resource);
    if (!objects) {
      objects = new SortedObjects();
      const parsed = this.#database.current(resource).map((json) => deepFreeze(JSON.parse(json) as KubeObject));
      const named = parsed.map((object) => [objectName(object), object] as const);
      named.sort(([a], [b]) => (a < b ? -1 : 1)); // in order, each is appended at the end
      for (const [key, object] of named) objects.set(key, object);
      this.#byResource.set(resource, objects);
    }
    return objects;
  }

  /** The objects of a resource as they were at a revision. Throws `Expired` when that is too long ago. */
  at(resource: ResourceKey, revision: number): SortedObjects {
    const now = this.of(resource);
    if (revision === this.revision) return now;
    const changes = this.#history.since(resource, revision);
    if (changes.length === 0) return now;
    const then = now.copy();
    for (const change of changes.reverse()) {
      const key = objectName(change.object);
      if (change.previous) then.set(key, change.previous);
      else then.delete(key);
    }
    return then;
  }

  /** Throws `Expired` or `Timeout` for a revision that cannot be served. */
  check(revision: number): void {
    this.#history.check(revision);
  }

  /** The changes of a resource after a revision, oldest first. */
  since(resource: ResourceKey, revision: number): Change[] {
    return this.#history.since(resource, revision);
  }

  /** Commits all changes or none, and returns them with the revisions they got. */
  commit(pending: readonly PendingChange[]): Change[] {
    if (pending.length === 0) return [];
    let rv = this.#history.last;
    const changes: Change[] = [];
    const rows: RevisionRow[] = [];
    for (const { resource, name, before, after } of pending) {
      rv++;
      const type = after === undefined ? "DELETED" : before === undefined ? "ADDED" : "MODIFIED";
      const object = withRevision((after ?? before)!, String(rv));
      changes.push({ rv, type, resource, object, previous: before });
      rows.push({
        rv,
        previous: before ? Number(before.metadata.resourceVersion) : 0,
        resource,
        namespace: namespaceOfKey(name),
        name: object.metadata.name,
        type,
        object: JSON.stringify(object),
      });
    }
    this.#database.write(rows);
    for (const change of changes) {
      const objects = this.of(change.resource);
      if (change.type === "DELETED") objects.delete(objectName(change.object));
      else objects.set(objectName(change.object), change.object);
    }
    this.#history.append(changes);
    this.#watches.publish(changes);
    try {
      this.#history.compact();
    } catch (error) {
      this.#log.warn("the store could not forget old revisions", { error: messageOf(error) });
    }
    return changes;
  }
}

/** The object at a revision, frozen. */
function withRevision(object: KubeObject, resourceVersion: string): KubeObject {
  const { kind, apiVersion, metadata, ...rest } = object;
  return deepFreeze({ kind, apiVersion, metadata: { ...metadata, resourceVersion }, ...rest });
}
