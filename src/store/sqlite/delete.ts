// Deletion as the API server does its part of it: preconditions, grace periods of pods, finalizers and what a propagation
// policy adds to them (apiserver registry/rest.BeforeDelete, registry/generic/registry.Store.Delete). Dependents are the
// garbage collector's work, which lives in `workloads`.

import type { KubeObject } from "../../api/object.ts";
import { type Resource, resourceKey } from "../../api/resource.ts";
import { StatusError } from "../../api/status-error.ts";
import { formatTime } from "../../api/strategy.ts";
import type { DeleteOptions, ObjectKey } from "../store.ts";
import { admission, begin, type Engine, finish, notFound } from "./engine.ts";
import { checkNamespaceDeletion } from "./lifecycle.ts";
import type { Transaction } from "./transaction.ts";

const orphan = "orphan";
const foreground = "foregroundDeletion";
export const instanceCleanup = "customresourcecleanup.apiextensions.k8s.io";

/** `gone` false: the object waits for its finalizers or its grace period. */
export interface Deletion {
  readonly object: KubeObject;
  readonly gone: boolean;
}

export function deleteObject(engine: Engine, key: ObjectKey, options: DeleteOptions): Deletion {
  const { resource, namespace, name } = key;
  const transaction = begin(engine);
  const old = transaction.get(resourceKey(resource), namespace, name);
  if (!old) throw notFound(resource, name);
  checkPreconditions(resource, old, options);
  if (resourceKey(resource) === "namespaces") checkNamespaceDeletion(resource, name);
  const request = { operation: "delete", resource, subresource: undefined, old } as const;
  admission(engine, transaction, options).validate(request, undefined);

  const waiting = startDeletion(engine, transaction, resource, old, options);
  if (waiting) transaction.put(resourceKey(resource), waiting);
  else transaction.remove(resourceKey(resource), namespace, name);
  const stored = finish(engine, transaction, key, options.dryRun);
  return { object: stored ?? old, gone: stored === undefined };
}

/** The state in which the object waits for its end; undefined when nothing keeps it. */
function startDeletion(
  engine: Engine,
  transaction: Transaction,
  resource: Resource,
  old: KubeObject,
  options: DeleteOptions,
): KubeObject | undefined {
  const key = resourceKey(resource);
  if (key === "namespaces" && (old.spec?.finalizers ?? []).length > 0) return terminating(engine, old);
  const finalizers = wantedFinalizers(old.metadata.finalizers ?? [], options);
  if (key === "customresourcedefinitions.apiextensions.k8s.io" && keepInstances(engine, transaction, old)) {
    if (!finalizers.includes(instanceCleanup)) finalizers.push(instanceCleanup);
  }
  const grace = key === "pods" ? podGrace(old, options.gracePeriodSeconds) : 0;
  if (grace === 0 && finalizers.length === 0) return undefined;
  return marked(engine, old, finalizers, grace);
}

/** The object with its deletionTimestamp: the first, or an earlier one when the grace period was shortened. */
function marked(engine: Engine, old: KubeObject, finalizers: readonly string[], grace: number): KubeObject {
  const { deletionTimestamp, deletionGracePeriodSeconds, generation } = old.metadata;
  const { finalizers: _, ...metadata } = old.metadata;
  const held = { ...metadata, ...(finalizers.length > 0 ? { finalizers } : {}) };
  if (deletionTimestamp === undefined) {
    return {
      ...old,
      metadata: {
        ...held,
        deletionTimestamp: formatTime(engine.clock.now() + grace * 1000),
        deletionGracePeriodSeconds: grace,
        ...(generation ? { generation: generation + 1 } : {}),
      },
    };
  }
  const before = deletionGracePeriodSeconds ?? 0;
  if (grace >= before) return { ...old, metadata: held };
  const at = Date.parse(deletionTimestamp) - (before - grace) * 1000;
  return {
    ...old,
    metadata: { ...held, deletionTimestamp: formatTime(at), deletionGracePeriodSeconds: grace },
  };
}

/** How long a pod has to end, in seconds; 0 removes it now (pkg/registry/core/pod podStrategy.CheckGracefulDelete). */
function podGrace(pod: KubeObject, asked: number | undefined): number {
  let seconds = asked ?? pod.spec?.terminationGracePeriodSeconds ?? 30;
  const phase = pod.status?.phase;
  if (!pod.spec?.nodeName || phase === "Failed" || phase === "Succeeded") seconds = 0;
  if (seconds < 0) seconds = 1;
  // A second request without a period of its own does not shorten the first.
  if (asked === undefined && pod.metadata.deletionTimestamp !== undefined && seconds !== 0) {
    return pod.metadata.deletionGracePeriodSeconds ?? seconds;
  }
  return seconds;
}

function wantedFinalizers(present: readonly string[], options: DeleteOptions): string[] {
  const { propagationPolicy } = options;
  if (propagationPolicy === undefined) return [...present];
  const others = present.filter((one) => one !== orphan && one !== foreground);
  if (propagationPolicy === "Orphan") return [...others, orphan];
  if (propagationPolicy === "Foreground") return [...others, foreground];
  return others;
}

function terminating(engine: Engine, namespace: KubeObject): KubeObject {
  if (namespace.metadata.deletionTimestamp !== undefined) return namespace;
  return {
    ...namespace,
    metadata: { ...namespace.metadata, deletionTimestamp: formatTime(engine.clock.now()) },
    status: { ...namespace.status, phase: "Terminating" },
  };
}

/** Deletes the instances of a CustomResourceDefinition; true when some of them have to wait. */
function keepInstances(engine: Engine, transaction: Transaction, definition: KubeObject): boolean {
  const key = `${definition.spec.names.plural}.${definition.spec.group}`;
  const resource = engine.scheme.byKey(key);
  if (!resource) return false;
  let waiting = false;
  for (const instance of transaction.list(key)) {
    const next = startDeletion(engine, transaction, resource, instance, {});
    if (next) {
      waiting = true;
      transaction.put(key, next);
    } else transaction.remove(key, instance.metadata.namespace, instance.metadata.name);
  }
  return waiting;
}

function checkPreconditions(resource: Resource, old: KubeObject, options: DeleteOptions): void {
  const { uid, resourceVersion } = options.preconditions ?? {};
  const refuse = (why: string) =>
    new StatusError(
      409,
      "Conflict",
      `Operation cannot be fulfilled on ${resource.kind}${resource.group ? `.${resource.group}` : ""} ${JSON.stringify(old.metadata.name)}: ${why}`,
      { name: old.metadata.name, ...(resource.group ? { group: resource.group } : {}), kind: resource.kind },
    );
  if (uid !== undefined && uid !== old.metadata.uid) {
    throw refuse(
      `the UID in the precondition (${uid}) does not match the UID in record (${old.metadata.uid}). The object might have been deleted and then recreated`,
    );
  }
  if (resourceVersion !== undefined && resourceVersion !== old.metadata.resourceVersion) {
    throw refuse(
      `the ResourceVersion in the precondition (${resourceVersion}) does not match the ResourceVersion in record (${old.metadata.resourceVersion}). The object might have been modified`,
    );
  }
}

/**
 * Whether an update ends the life of an object: it was being deleted, and what it waited for is no longer there
 * (registry.ShouldDeleteDuringUpdate; for namespaces, the registry's own rule).
 */
export function endsBy(resource: Resource, next: KubeObject, old: KubeObject): boolean {
  if (old.metadata.deletionTimestamp === undefined) return false;
  if ((next.metadata.finalizers ?? []).length > 0) return false;
  if (resourceKey(resource) === "namespaces") return (next.spec?.finalizers ?? []).length === 0;
  const hadFinalizers = (old.metadata.finalizers ?? []).length > 0;
  return hadFinalizers && (next.metadata.deletionGracePeriodSeconds ?? 0) === 0;
}
