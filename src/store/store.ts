// What controllers, the API server and the CLI read and write: Kubernetes objects with the semantics of the Kubernetes
// API (list + watch from one resourceVersion, optimistic concurrency, finalizers, server-side apply). `sqlite/` keeps the
// objects itself; `remote/` speaks to a real API server. Nothing is possible over HTTP that is not possible here.

import type { KubeObject } from "../api/object.ts";
import type { Resource } from "../api/resource.ts";
import type { Disposable } from "../base/disposal.ts";

/** Opaque to clients; in `sqlite/` a decimal counter of commits. */
export type ResourceVersion = string;

export interface ObjectKey {
  readonly resource: Resource;
  readonly namespace?: string;
  readonly name: string;
}

export interface ListOptions {
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /** Page size; with `continue` the token of the page before. */
  readonly limit?: number;
  readonly continue?: string;
  readonly resourceVersion?: ResourceVersion;
  readonly resourceVersionMatch?: "Exact" | "NotOlderThan";
}

/** One consistent state of a kind. */
export interface Snapshot {
  readonly resourceVersion: ResourceVersion;
  readonly items: readonly KubeObject[];
  readonly continue?: string;
  readonly remainingItemCount?: number;
}

export type StoreEvent =
  | {
      readonly type: "ADDED" | "MODIFIED" | "DELETED";
      readonly object: KubeObject;
      readonly resourceVersion: ResourceVersion;
    }
  | { readonly type: "BOOKMARK"; readonly resourceVersion: ResourceVersion };

export interface WatchOptions {
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /** Called once when the watch cannot go on (`Expired`: list again). */
  readonly onError?: (error: Error) => void;
}

export interface WriteOptions {
  readonly fieldManager?: string;
  readonly fieldValidation?: "Ignore" | "Warn" | "Strict";
  readonly dryRun?: boolean;
  readonly subresource?: "status" | "scale";
  /** Receives what the API sends as `Warning` headers. */
  readonly onWarning?: (text: string) => void;
  readonly userAgent?: string;
}

export type Patch =
  | { readonly type: "json"; readonly body: unknown }
  | { readonly type: "merge"; readonly body: unknown }
  | { readonly type: "strategic"; readonly body: unknown }
  | { readonly type: "apply"; readonly body: KubeObject; readonly fieldManager: string; readonly force?: boolean };

export interface DeleteOptions {
  readonly propagationPolicy?: "Orphan" | "Background" | "Foreground";
  readonly gracePeriodSeconds?: number;
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: ResourceVersion };
  readonly dryRun?: boolean;
}

/**
 * Promises: events of one kind arrive in commit order, none twice, none lost between `list` and a `watch` from its
 * resourceVersion; every write that carries a resourceVersion is checked against it (`Conflict`); returned objects are
 * frozen; failures are `StatusError`s.
 */
export interface Store {
  /** All resources that can be stored now, CustomResourceDefinitions' included. */
  resources(): readonly Resource[];
  get(key: ObjectKey): Promise<KubeObject | undefined>;
  list(resource: Resource, options?: ListOptions): Promise<Snapshot>;
  watch(resource: Resource, from: ResourceVersion, on: (event: StoreEvent) => void, options?: WatchOptions): Disposable;
  create(resource: Resource, object: KubeObject, options?: WriteOptions): Promise<KubeObject>;
  update(resource: Resource, object: KubeObject, options?: WriteOptions): Promise<KubeObject>;
  /** A patch of type `apply` creates what does not exist (server-side apply). */
  patch(key: ObjectKey, patch: Patch, options?: WriteOptions): Promise<KubeObject>;
  /** The object as it was when it went, or, with finalizers or a grace period left, as it waits for its end. */
  delete(key: ObjectKey, options?: DeleteOptions): Promise<KubeObject>;
}
