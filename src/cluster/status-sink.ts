// Writes the statuses that dialects and controllers want into the store: after the proxies have taken what the status speaks
// of (docs/decisions/0002), only when it differs from what is stored, only the latest of each object. It decides no content.

import { describeObject, type KubeObject, nameOf } from "../api/object.ts";
import { type Resource, type ResourceKey, resourceKey } from "../api/resource.ts";
import { isStatusReason } from "../api/status-error.ts";
import { backoff } from "../base/backoff.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { type Logger, silentLogger } from "../base/log.ts";
import type { Collection } from "../collections/collection.ts";
import { deepEqual } from "../collections/equal.ts";
import type { StatusUpdate } from "../model/status-update.ts";
import type { Store } from "../store/store.ts";
import { withTransitionTimes } from "./status-conditions.ts";
import { mergeFields, type StatusMerge } from "./status-merge.ts";

export interface StatusSinkOptions {
  readonly store: Store;
  /** Of any kinds; one object's status is wanted by one of them. */
  readonly updates: readonly Collection<StatusUpdate>[];
  /** `Distribution.barrier`. */
  readonly barrier: (after: StatusUpdate["after"], signal: AbortSignal) => Promise<void>;
  /** By resource, where it is not {@link mergeFields}. */
  readonly merge?: Readonly<Record<ResourceKey, StatusMerge>>;
  /** Writes at one time; 8 unless given. */
  readonly concurrency?: number;
  readonly clock?: Clock;
  readonly log?: Logger;
}

export interface StatusSink extends Disposable {
  /** Resolves when every wanted status is written, or was found to be there, or to be of an object that is gone. */
  idle(): Promise<void>;
  /** Statuses that are wanted and not yet written. */
  readonly pending: number;
}

/** Starts with what the collections have, then follows them. */
export function statusSink(options: StatusSinkOptions): StatusSink {
  return new Sink(options);
}

/** One wanted status on its way. A newer one of the same object replaces it, at whatever step it is. */
interface Job {
  readonly id: string;
  readonly update: StatusUpdate;
  /** Gives up its barrier. */
  readonly replaced: AbortController;
  attempts: number;
  pause: Disposable | undefined;
}

class Sink implements StatusSink {
  readonly #options: StatusSinkOptions;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #jobs = new Map<string, Job>();
  readonly #ready = new Set<Job>();
  readonly #idle: (() => void)[] = [];
  readonly #subscriptions: Disposable;
  #writing = 0;

  constructor(options: StatusSinkOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#log = options.log ?? silentLogger;
    this.#subscriptions = disposeAll(
      options.updates.map((collection) =>
        collection.subscribe(
          (batch) => {
            for (const { key, after } of batch) this.#want(`${collection.name} ${key}`, after);
          },
          { replay: true },
        ),
      ),
    );
  }

  get pending(): number {
    return this.#jobs.size;
  }

  idle(): Promise<void> {
    if (this.#jobs.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  dispose(): void {
    this.#subscriptions.dispose();
    for (const id of [...this.#jobs.keys()]) this.#want(id, undefined);
  }

  #want(id: string, update: StatusUpdate | undefined): void {
    const old = this.#jobs.get(id);
    if (old) {
      old.pause?.dispose();
      old.replaced.abort();
      this.#ready.delete(old);
    }
    if (!update) {
      if (old) this.#finish(old);
      return;
    }
    const job: Job = { id, update, replaced: new AbortController(), attempts: 0, pause: undefined };
    this.#jobs.set(id, job);
    // Not one of the writers' places: a status may wait long for its proxies, and must not keep others from being written.
    void this.#options.barrier(update.after, job.replaced.signal).then(() => this.#enqueue(job));
  }

  #current(job: Job): boolean {
    return this.#jobs.get(job.id) === job;
  }

  #enqueue(job: Job): void {
    if (!this.#current(job)) return;
    this.#ready.add(job);
    this.#pump();
  }

  #pump(): void {
    for (const job of this.#ready) {
      if (this.#writing >= (this.#options.concurrency ?? 8)) return;
      this.#ready.delete(job);
      this.#writing++;
      void this.#attempt(job).finally(() => {
        this.#writing--;
        this.#pump();
      });
    }
  }

  async #attempt(job: Job): Promise<void> {
    try {
      await this.#write(job);
      this.#finish(job);
    } catch (error) {
      if (!this.#current(job)) return;
      if (isStatusReason(error, "NotFound")) {
        this.#finish(job);
        return;
      }
      const conflict = isStatusReason(error, "Conflict");
      const { resource, namespace, name } = job.update;
      if (!conflict) this.#log.warn("cannot write a status", { resource, object: nameOf(namespace, name), error });
      const pause = conflict ? { initial: 10, max: 5_000 } : { initial: 500, max: 60_000 };
      job.pause = this.#clock.after(backoff(job.attempts++, pause), () => this.#enqueue(job));
    }
  }

  #finish(job: Job): void {
    if (!this.#current(job)) return;
    this.#jobs.delete(job.id);
    if (this.#jobs.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  async #write(job: Job): Promise<void> {
    const { update } = job;
    const { store, merge = {} } = this.#options;
    const resource = this.#resource(update.resource);
    const stored = await store.get({ resource, namespace: update.namespace, name: update.name });
    if (!stored || isAnother(stored, update)) return;
    const merged = (merge[update.resource] ?? mergeFields)(stored.status ?? {}, update.status);
    const status = withTransitionTimes(stored.status, merged, rfc3339(this.#clock.now()));
    if (deepEqual(status, stored.status ?? {})) return;
    if (!this.#current(job)) return;
    const options = { subresource: "status", fieldManager: "fairlead" } as const;
    await store.update(resource, { ...stored, status }, options);
    this.#log.debug("status written", { object: describeObject(stored), generation: update.generation });
  }

  #resource(key: ResourceKey): Resource {
    const found = this.#options.store.resources().find((one) => resourceKey(one) === key);
    if (!found) throw new Error(`the store has no resource ${key}`);
    return found;
  }
}

/** The object was changed or made anew since: its own update is on its way. */
function isAnother(stored: KubeObject, update: StatusUpdate): boolean {
  if (update.uid !== undefined && stored.metadata.uid !== update.uid) return true;
  return (stored.metadata.generation ?? 0) > update.generation;
}

/** To the second, as metav1.Time is written. */
function rfc3339(milliseconds: number): string {
  return new Date(milliseconds).toISOString().replace(/\.\d{3}Z$/, "Z");
}
