// Where rooms above the store take part in a write: inside the transaction, after defaults and before validation
// (allocation of addresses), or after validation (refusals). The Kubernetes counterpart is a registry strategy's
// BeginCreate/BeginUpdate and built-in admission plugins. Only `sqlite/` runs these; a real API server has its own.

import type { KubeObject } from "../api/object.ts";
import type { Resource, ResourceKey } from "../api/resource.ts";

/** The state that a transaction sees: synchronous, and consistent with the write in progress. */
export interface TransactionView {
  get(resource: ResourceKey, namespace: string | undefined, name: string): KubeObject | undefined;
  list(resource: ResourceKey, namespace?: string): readonly KubeObject[];
  /** Writes another object in the same transaction (an IPAddress beside its Service). */
  put(resource: ResourceKey, object: KubeObject): void;
  remove(resource: ResourceKey, namespace: string | undefined, name: string): void;
}

export interface AdmissionRequest {
  readonly operation: "create" | "update" | "delete";
  readonly resource: Resource;
  readonly subresource: string | undefined;
  /** The object as it would be stored; undefined for a delete. */
  readonly object: KubeObject | undefined;
  /** The object as it is stored; undefined for a create. */
  readonly old: KubeObject | undefined;
  readonly dryRun: boolean;
  readonly view: TransactionView;
  readonly warn: (text: string) => void;
}

export interface Admission {
  readonly name: string;
  /** The resources it wants to see; undefined is all. */
  readonly resources?: readonly ResourceKey[];
  /** Returns the object to store instead (mutation), or nothing. Throws a StatusError to refuse. Runs before validation. */
  mutate?(request: AdmissionRequest): KubeObject | undefined;
  /** Throws a StatusError to refuse. Runs after validation. */
  validate?(request: AdmissionRequest): void;
}
