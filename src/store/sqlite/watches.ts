// Running watches: who wants which changes, and what each sees of them. An object that stops matching a selector is
// DELETED to that watch (in its state before), one that begins to is ADDED (apiserver cacher, cacheWatcher.convertToWatchEvent).

import type { KubeObject } from "../../api/object.ts";
import type { ResourceKey } from "../../api/resource.ts";
import { StatusError } from "../../api/status-error.ts";
import type { Disposable } from "../../base/disposal.ts";
import { messageOf } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { StoreEvent } from "../store.ts";
import type { Change } from "./history.ts";

export interface Watcher {
  readonly resource: ResourceKey;
  readonly matches: (object: KubeObject) => boolean;
  /** How the watch wants objects: in the version that it asked for. */
  readonly present: (object: KubeObject) => KubeObject;
  readonly on: (event: StoreEvent) => void;
  readonly onError: ((error: Error) => void) | undefined;
}

interface Running extends Watcher {
  readonly queue: Change[];
  ended: boolean;
  bookmark: number | undefined;
  /** It stands in the list of those that have something to be delivered. */
  ready: boolean;
}

export class Watches {
  readonly #byResource = new Map<ResourceKey, Set<Running>>();
  readonly #log: Logger;
  #ready: Running[] = [];
  #scheduled = false;

  constructor(log: Logger) {
    this.#log = log;
  }

  get size(): number {
    let size = 0;
    for (const set of this.#byResource.values()) size += set.size;
    return size;
  }

  /** Starts a watch that first gets `backlog`, then every change that is published. */
  add(watcher: Watcher, backlog: readonly Change[]): Disposable {
    const running: Running = { ...watcher, queue: [...backlog], ended: false, bookmark: undefined, ready: false };
    let set = this.#byResource.get(watcher.resource);
    if (!set) {
      set = new Set();
      this.#byResource.set(watcher.resource, set);
    }
    set.add(running);
    if (backlog.length > 0) this.#wake(running);
    return { dispose: () => this.#end(running) };
  }

  /** Hands changes to those who watch their resource: soon, in order, and never from inside the writer's call. */
  publish(changes: readonly Change[]): void {
    for (const change of changes) {
      for (const running of this.#byResource.get(change.resource) ?? []) {
        running.queue.push(change);
        this.#wake(running);
      }
    }
  }

  /** Tells every watch how far it is, so that it can resume from there. */
  bookmark(rv: number): void {
    for (const set of this.#byResource.values()) {
      for (const running of set) {
        running.bookmark = rv;
        this.#wake(running);
      }
    }
  }

  /** Ends all watches of a resource (it is no longer served) with an error. */
  endAll(resource?: ResourceKey): void {
    for (const [key, set] of this.#byResource) {
      if (resource !== undefined && key !== resource) continue;
      for (const running of [...set]) {
        this.#end(running);
        running.onError?.(new StatusError(410, "Expired", "the watch was ended by the server"));
      }
    }
  }

  #end(running: Running): void {
    running.ended = true;
    running.queue.length = 0;
    this.#byResource.get(running.resource)?.delete(running);
  }

  #wake(running: Running): void {
    if (!running.ready) {
      running.ready = true;
      this.#ready.push(running);
    }
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => this.#drain());
  }

  #drain(): void {
    this.#scheduled = false;
    const ready = this.#ready;
    this.#ready = [];
    for (const running of ready) {
      running.ready = false;
      const changes = running.queue.splice(0);
      for (const change of changes) {
        if (running.ended) break;
        const event = eventFor(running, change);
        if (event) this.#deliver(running, event);
      }
      const bookmark = running.bookmark;
      running.bookmark = undefined;
      if (bookmark !== undefined && !running.ended) {
        this.#deliver(running, { type: "BOOKMARK", resourceVersion: String(bookmark) });
      }
    }
  }

  #deliver(running: Running, event: StoreEvent): void {
    try {
      running.on(event);
    } catch (error) {
      this.#log.error("a watch failed on an event", { resource: running.resource, error: messageOf(error) });
    }
  }
}

/** What a watch sees of a change; undefined is nothing. */
export function eventFor(
  watcher: Pick<Watcher, "matches" | "present">,
  change: Change,
): Exclude<StoreEvent, { type: "BOOKMARK" }> | undefined {
  const now = change.type !== "DELETED" && watcher.matches(change.object);
  const before = change.previous !== undefined && watcher.matches(change.previous);
  const resourceVersion = String(change.rv);
  if (now) {
    return { type: before ? "MODIFIED" : "ADDED", object: watcher.present(change.object), resourceVersion };
  }
  if (!before) return undefined;
  const last = change.type === "DELETED" ? change.object : withRevision(change.previous!, resourceVersion);
  return { type: "DELETED", object: watcher.present(last), resourceVersion };
}

function withRevision(object: KubeObject, resourceVersion: string): KubeObject {
  return Object.freeze({ ...object, metadata: Object.freeze({ ...object.metadata, resourceVersion }) });
}
