// The bounded past: the changes that a watch can resume from. The newest are kept in memory as they were delivered, older
// ones are read back from the database, and what is older than the window is compacted away. A resourceVersion from
// before the window is `Expired` (410), as with etcd compaction.

import type { KubeObject } from "../../api/object.ts";
import type { ResourceKey } from "../../api/resource.ts";
import { StatusError } from "../../api/status-error.ts";
import { deepFreeze } from "../freeze.ts";
import type { ObjectDatabase, RevisionType } from "./database.ts";

/** One committed change. */
export interface Change {
  readonly rv: number;
  readonly type: RevisionType;
  readonly resource: ResourceKey;
  /** The object after the change; for DELETED its last state, carrying the revision of the deletion. */
  readonly object: KubeObject;
  readonly previous: KubeObject | undefined;
}

export interface HistoryOptions {
  /** Revisions that can be resumed from; older ones expire. */
  readonly window: number;
  /** Changes that are kept in memory. */
  readonly inMemory: number;
}

/** Rows read from the database at a time. */
const page = 1000;

export class History {
  readonly #database: ObjectDatabase;
  readonly #options: HistoryOptions;
  /** In commit order; the array grows to twice its bound before its older half is dropped. */
  #recent: Change[] = [];
  /** `#recent` has every change after this revision. */
  #recentFrom: number;
  #last: number;
  #compacted: number;

  constructor(database: ObjectDatabase, options: HistoryOptions) {
    this.#database = database;
    this.#options = options;
    this.#last = database.lastRevision();
    this.#recentFrom = this.#last;
    this.#compacted = database.compactedRevision();
  }

  /** The revision of the newest change. */
  get last(): number {
    return this.#last;
  }

  /** Notes committed changes. */
  append(changes: readonly Change[]): void {
    for (const change of changes) this.#recent.push(change);
    this.#last = changes.at(-1)?.rv ?? this.#last;
    const { inMemory } = this.#options;
    if (this.#recent.length > 2 * inMemory) {
      this.#recent = this.#recent.slice(-inMemory);
      this.#recentFrom = this.#recent[0]!.rv - 1;
    }
  }

  /** Compacts when the window has been left a tenth of itself behind. Throws when the database cannot be written. */
  compact(): void {
    const { window } = this.#options;
    const due = this.#last - window;
    if (due - this.#compacted >= Math.max(1, window / 10)) {
      this.#database.compact(due, this.#last);
      this.#compacted = due;
    }
  }

  /** The changes of a resource after `rv`, oldest first. Throws `Expired` when they are no longer all known. */
  since(resource: ResourceKey, rv: number): Change[] {
    this.check(rv);
    if (rv >= this.#recentFrom) {
      return this.#recent.slice(firstAfter(this.#recent, rv)).filter((change) => change.resource === resource);
    }
    const changes: Change[] = [];
    for (let from = rv; ; ) {
      const rows = this.#database.replay(resource, from, page);
      for (const row of rows) {
        changes.push({
          rv: row.rv,
          type: row.type,
          resource,
          object: deepFreeze(JSON.parse(row.object) as KubeObject),
          previous: row.previousObject === null ? undefined : deepFreeze(JSON.parse(row.previousObject) as KubeObject),
        });
      }
      if (rows.length < page) return changes;
      from = rows.at(-1)!.rv;
    }
  }

  /** Throws `Expired` for a revision from before the window, and `Timeout` for one that has not happened yet. */
  check(rv: number): void {
    if (rv < this.#compacted) {
      throw new StatusError(410, "Expired", `too old resource version: ${rv} (${this.#compacted})`);
    }
    if (rv > this.#last) {
      throw new StatusError(504, "Timeout", `Too large resource version: ${rv}, current: ${this.#last}`, {
        causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }],
        retryAfterSeconds: 1,
      });
    }
  }
}

function firstAfter(changes: readonly Change[], rv: number): number {
  let low = 0;
  let high = changes.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (changes[middle]!.rv <= rv) low = middle + 1;
    else high = middle;
  }
  return low;
}
