// The garbage collector: objects whose owners are gone go too; owners deleted in the foreground wait for them; owners deleted
// with `orphan` let them live. What is decided is a pure function (`verdict`); whether an owner is there is always asked of the
// store itself, for a collection may lag. Upstream: pkg/controller/garbagecollector.

import { CustomResourceDefinitions } from "../api/kinds.ts";
import { type KubeObject, type OwnerReference, objectName, splitName } from "../api/object.ts";
import { apiVersionOf, type Resource, type ResourceKey, resourceKey } from "../api/resource.ts";
import { isStatusReason } from "../api/status-error.ts";
import { type Disposable, disposable, disposeAll } from "../base/disposal.ts";
import { startController } from "./controller.ts";
import { eachChange, type Objects } from "./objects.ts";

const orphanFinalizer = "orphan";
const foregroundFinalizer = "foregroundDeletion";

/** The owners of an object as they were found. */
export interface Owners {
  /** There, and to stay. */
  readonly solid: readonly OwnerReference[];
  /** Being deleted in the foreground: they wait for their dependents. */
  readonly waiting: readonly OwnerReference[];
  readonly missing: readonly OwnerReference[];
}

export type Verdict =
  | { readonly do: "keep" }
  /** Forget the owners that are gone or going; another one keeps it. */
  | { readonly do: "unlink"; readonly owners: readonly OwnerReference[] }
  | { readonly do: "delete"; readonly policy: "Background" | "Foreground" | "Orphan" };

/** What happens to an object with these owners (upstream's attemptToDeleteItem). */
export function verdict(object: KubeObject, owners: Owners, hasDependents: boolean): Verdict {
  if (object.metadata.deletionTimestamp !== undefined) return { do: "keep" };
  if (owners.missing.length + owners.waiting.length === 0) return { do: "keep" };
  if (owners.solid.length > 0) return { do: "unlink", owners: [...owners.missing, ...owners.waiting] };
  if (owners.waiting.length > 0 && hasDependents) return { do: "delete", policy: "Foreground" };
  const finalizers = object.metadata.finalizers ?? [];
  if (finalizers.includes(orphanFinalizer)) return { do: "delete", policy: "Orphan" };
  return { do: "delete", policy: finalizers.includes(foregroundFinalizer) ? "Foreground" : "Background" };
}

/** Resources that may own or be owned: all that can be watched and deleted, but Events, which only expire. */
export function collectedResources(resources: readonly Resource[]): readonly Resource[] {
  const found = new Map<ResourceKey, Resource>();
  for (const resource of resources) {
    const key = resourceKey(resource);
    if (key === "events" || key === "events.events.k8s.io" || found.has(key)) continue;
    if (["list", "watch", "delete"].every((verb) => resource.verbs.includes(verb))) found.set(key, resource);
  }
  return [...found.values()];
}

export function startGarbageCollector(objects: Objects): Disposable {
  const { store } = objects;
  const watched = new Map<ResourceKey, { readonly resource: Resource; readonly watching: Disposable }>();

  const controller = startController({
    name: "garbage-collector",
    clock: objects.clock,
    log: objects.log,
    async reconcile(key) {
      const bar = key.indexOf("|");
      const resource = watched.get(key.slice(0, bar))?.resource;
      if (!resource) return undefined;
      const object = await store.get({ resource, ...splitName(key.slice(bar + 1)) });
      if (!object) return undefined;
      const finalizers = object.metadata.finalizers ?? [];
      if (object.metadata.deletionTimestamp !== undefined) {
        if (finalizers.includes(orphanFinalizer)) await orphanDependents(resource, object);
        else if (finalizers.includes(foregroundFinalizer)) await deleteDependents(resource, object);
        return undefined;
      }
      const references = object.metadata.ownerReferences ?? [];
      if (references.length === 0) return undefined;
      const owners = await findOwners(object, references);
      const judged = verdict(object, owners, dependentsOf(object.metadata.uid ?? "").length > 0);
      if (judged.do === "delete") {
        await ifThere(objects.delete(resource, object, { propagationPolicy: judged.policy }));
      } else if (judged.do === "unlink") {
        const gone = new Set(judged.owners.map((owner) => owner.uid));
        await unlink(resource, object, gone);
      }
      return undefined;
    },
  });

  async function findOwners(object: KubeObject, references: readonly OwnerReference[]): Promise<Owners> {
    const owners = { solid: [] as OwnerReference[], waiting: [] as OwnerReference[], missing: [] as OwnerReference[] };
    for (const reference of references) {
      const resource = resourceOf(reference);
      // A kind that nobody serves: its objects cannot be asked for, so nothing is concluded.
      if (!resource) owners.solid.push(reference);
      else {
        const namespace = resource.scope === "Namespaced" ? object.metadata.namespace : undefined;
        const owner = await store.get({ resource, namespace, name: reference.name });
        if (!owner || owner.metadata.uid !== reference.uid) owners.missing.push(reference);
        else if (isWaitingForDependents(owner)) owners.waiting.push(reference);
        else owners.solid.push(reference);
      }
    }
    return owners;
  }

  async function orphanDependents(resource: Resource, owner: KubeObject): Promise<void> {
    const uids = new Set([owner.metadata.uid ?? ""]);
    await Promise.all(dependentsOf(owner.metadata.uid ?? "").map((one) => unlink(one.resource, one.object, uids)));
    await dropFinalizer(resource, owner, orphanFinalizer);
  }

  async function deleteDependents(resource: Resource, owner: KubeObject): Promise<void> {
    const uid = owner.metadata.uid ?? "";
    const blocking = dependentsOf(uid).filter(({ object }) =>
      object.metadata.ownerReferences?.some((reference) => reference.uid === uid && reference.blockOwnerDeletion),
    );
    for (const one of blocking) controller.enqueue(keyOf(one.resource, one.object));
    if (blocking.length === 0) await dropFinalizer(resource, owner, foregroundFinalizer);
  }

  async function dropFinalizer(resource: Resource, object: KubeObject, finalizer: string): Promise<void> {
    const finalizers = (object.metadata.finalizers ?? []).filter((one) => one !== finalizer);
    await ifThere(store.update(resource, { ...object, metadata: { ...object.metadata, finalizers } }));
  }

  async function unlink(resource: Resource, object: KubeObject, uids: ReadonlySet<string>): Promise<void> {
    const ownerReferences = (object.metadata.ownerReferences ?? []).filter((reference) => !uids.has(reference.uid));
    await ifThere(objects.updateMetadata(resource, object, { ownerReferences }));
  }

  function byOwner(resource: Resource) {
    return objects.indexed(resource, "by-owner", (object) =>
      (object.metadata.ownerReferences ?? []).map((reference) => reference.uid),
    );
  }

  function dependentsOf(uid: string): readonly { readonly resource: Resource; readonly object: KubeObject }[] {
    return [...watched.values()].flatMap(({ resource }) =>
      byOwner(resource)
        .where(uid)
        .map((object) => ({ resource, object })),
    );
  }

  function resourceOf(reference: OwnerReference): Resource | undefined {
    for (const { resource } of watched.values()) {
      if (resource.kind === reference.kind && groupOf(apiVersionOf(resource)) === groupOf(reference.apiVersion)) {
        return resource;
      }
    }
    return undefined;
  }

  function follow(resource: Resource): void {
    byOwner(resource);
    const watching = eachChange(objects.of(resource), (object, { before, after }) => {
      if (!after) {
        for (const one of dependentsOf(object.metadata.uid ?? "")) controller.enqueue(keyOf(one.resource, one.object));
        // Its owner may be waiting for it.
        for (const reference of object.metadata.ownerReferences ?? []) enqueueOwner(object, reference);
        return;
      }
      if (after.metadata.deletionTimestamp !== undefined) {
        if ((after.metadata.finalizers?.length ?? 0) > 0) controller.enqueue(keyOf(resource, after));
        return;
      }
      if (!sameOwners(before, after)) controller.enqueue(keyOf(resource, after));
    });
    watched.set(resourceKey(resource), { resource, watching });
  }

  function enqueueOwner(object: KubeObject, reference: OwnerReference): void {
    const resource = resourceOf(reference);
    if (!resource) return;
    const namespace = resource.scope === "Namespaced" ? object.metadata.namespace : undefined;
    const name = namespace ? `${namespace}/${reference.name}` : reference.name;
    const owner = objects.of(resource).get(name);
    if (owner && isWaitingForDependents(owner)) controller.enqueue(keyOf(resource, owner));
  }

  /** Follows what is served now: CustomResourceDefinitions come and go. */
  function followAll(): void {
    const wanted = new Map(collectedResources(store.resources()).map((resource) => [resourceKey(resource), resource]));
    for (const [key, { watching }] of watched) {
      if (wanted.has(key)) continue;
      watching.dispose();
      watched.delete(key);
    }
    for (const [key, resource] of wanted) if (!watched.has(key)) follow(resource);
  }

  followAll();
  return disposeAll([
    controller,
    eachChange(objects.of(CustomResourceDefinitions), followAll),
    disposable(() => {
      for (const { watching } of watched.values()) watching.dispose();
    }),
  ]);
}

const keyOf = (resource: Resource, object: KubeObject) => `${resourceKey(resource)}|${objectName(object)}`;
const groupOf = (apiVersion: string) => (apiVersion.includes("/") ? apiVersion.slice(0, apiVersion.indexOf("/")) : "");

function isWaitingForDependents(object: KubeObject): boolean {
  return (
    object.metadata.deletionTimestamp !== undefined && (object.metadata.finalizers ?? []).includes(foregroundFinalizer)
  );
}

function sameOwners(before: KubeObject | undefined, after: KubeObject): boolean {
  const uids = (object: KubeObject | undefined) =>
    (object?.metadata.ownerReferences ?? []).map((one) => one.uid).join();
  return uids(before) === uids(after);
}

/** Somebody else may have been faster. */
async function ifThere(write: Promise<unknown>): Promise<void> {
  try {
    await write;
  } catch (error) {
    if (!isStatusReason(error, "NotFound")) throw error;
  }
}
