// Who owns which field: tracking of updates, and server-side apply with conflicts (apimachinery managedfields,
// structured-merge-diff merge.Updater). The caller runs these between defaulting and the strategy of a write, as upstream
// does, so that what the server itself fills in later (addresses, statuses) is owned by nobody.

import { equal, isRecord, type Json } from "../data.ts";
import { decode } from "../decode.ts";
import type { KubeObject, ManagedFieldsEntry } from "../object.ts";
import { apiVersionOf, type Resource, resourceKey } from "../resource.ts";
import { childSchema, type Schema } from "../schema.ts";
import type { Scheme } from "../scheme.ts";
import { StatusError } from "../status-error.ts";
import { formatTime } from "../strategy.ts";
import { suggest } from "../suggest.ts";
import {
  difference,
  equalSets,
  type FieldSet,
  fromFieldsV1,
  intersection,
  isEmptySet,
  members,
  printPath,
  recursiveDifference,
  setOfFields,
  toFieldsV1,
  union,
} from "./field-set.ts";
import { compare, fieldSetOf, itemElement, mergeApplied, removeFields, unionAll, withNamedFields } from "./typed.ts";

export interface WriteContext {
  readonly manager: string;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  readonly subresource?: string | undefined;
}

export interface ApplyContext extends WriteContext {
  readonly force?: boolean | undefined;
}

interface Manager {
  readonly entry: Omit<ManagedFieldsEntry, "fieldsV1">;
  readonly set: FieldSet;
}

type Managers = Map<string, Manager>;

/** The manager of a client that names none: the first word of its User-Agent, up to 128 characters. */
export function managerOfUserAgent(userAgent: string | undefined): string {
  const name = (userAgent ?? "").split("/")[0]!.trim();
  return name === "" ? "unknown" : name.slice(0, 128);
}

/**
 * The object with managedFields for a create (`live` undefined) or update. `object` is decoded and defaulted. What a client
 * writes into managedFields is honoured as upstream does: one empty entry resets them, an empty list changes nothing.
 */
export function trackUpdate(
  scheme: Scheme,
  resource: Resource,
  live: KubeObject | undefined,
  object: KubeObject,
  context: WriteContext,
): KubeObject {
  const schema = scheme.schemaOf(resource);
  const given = object.metadata.managedFields;
  const reset = given?.length === 1 && Object.keys(given[0]!).length === 0;
  const managers = reset
    ? new Map()
    : given?.length && context.subresource === undefined
      ? read(given)
      : read(live?.metadata.managedFields ?? given);
  const before = bare(live) ?? zeroObject(scheme, resource);
  const after = bare(object)!;
  const ignored = ignoredFields(scheme, resource, context.subresource);
  const changes = compare(before, after, schema);
  const added = recursiveDifference(union(changes.added, changes.modified), ignored);
  const removed = recursiveDifference(changes.removed, ignored);
  const entry = entryOf("Update", resource, context);
  const id = identity(entry);
  const same = isEmptySet(added) && isEmptySet(removed);
  const next: Managers = new Map();
  for (const [key, manager] of managers) {
    const set = difference(difference(manager.set, added), removed);
    if (!isEmptySet(set)) next.set(key, { entry: manager.entry, set });
  }
  if (!isEmptySet(added)) {
    const previous = next.get(id);
    next.set(id, { entry, set: previous ? union(previous.set, added) : added });
  }
  return withManagers(object, same && !reset ? managers : next);
}

/** The outcome of a server-side apply. */
export interface Applied {
  /** The merged object, with managedFields; not yet defaulted. */
  readonly object: KubeObject;
  /** False when the live object already is what was asked for, ownership included. */
  readonly changed: boolean;
}

/**
 * Applies a configuration for a manager. The configuration is the body as it was sent, not decoded: an empty map in it owns the
 * map. The result is decoded (empty parts are gone), not yet defaulted. `live` is undefined when the object does not exist yet. Throws `Conflict` when a field
 * that another manager owns would change and `force` is not set; BadRequest when the configuration carries managedFields, or
 * fields that a built-in type does not have.
 */
export function applyServerSide(
  scheme: Scheme,
  resource: Resource,
  live: KubeObject | undefined,
  configuration: KubeObject,
  context: ApplyContext,
): Applied {
  if (configuration.metadata?.managedFields !== undefined) {
    throw new StatusError(400, "BadRequest", "metadata.managedFields must be nil");
  }
  const schema = scheme.schemaOf(resource);
  checkDeclared(configuration, resource, schema);
  const ignored = ignoredFields(scheme, resource, context.subresource);
  const managers = read(live?.metadata.managedFields);
  if (live && managers.size === 0) {
    // An object from before ownership was recorded: all of it belongs to one manager, so that conflicts are seen.
    const entry: Manager["entry"] = { ...entryOf("Update", resource, context), manager: "before-first-apply" };
    const set = recursiveDifference(compare(zeroObject(scheme, resource), bare(live), schema).added, ignored);
    if (!isEmptySet(set)) managers.set(identity(entry), { entry, set });
  }
  const before = bare(live) ?? zeroObject(scheme, resource);
  const { metadata: configured, ...restOfConfig } = bare(configuration)!;
  // Metadata that only names the object is nothing to own.
  const config = Object.keys(configured as Json).length > 0 ? { ...restOfConfig, metadata: configured } : restOfConfig;
  const entry = entryOf("Apply", resource, context);
  const id = identity(entry);
  const last = managers.get(id);
  const set = recursiveDifference(fieldSetOf(config, schema), ignored);
  const trimmed = removeFields(config, ignored, schema);
  let merged = mergeApplied(live ? before : { metadata: {} }, trimmed, schema) as Json;
  const owned = new Map(managers);
  owned.set(id, { entry, set });
  if (last && !isEmptySet(last.set)) {
    const stale = withNamedFields(last.set, schema);
    const held = withNamedFields(unionAll([...owned.values()].map((one) => one.set)), schema);
    merged = removeFields(merged, difference(stale, held), schema) as Json;
  }
  const changes = compare(before, merged, schema);
  const touched = recursiveDifference(union(changes.added, changes.modified), ignored);
  const removed = recursiveDifference(changes.removed, ignored);
  const conflicts: { manager: Manager; paths: (readonly string[])[] }[] = [];
  const next: Managers = new Map();
  for (const [key, manager] of owned) {
    if (key === id) {
      if (!isEmptySet(set)) next.set(key, manager);
      continue;
    }
    const clash = intersection(manager.set, touched);
    if (!isEmptySet(clash)) conflicts.push({ manager, paths: [...members(clash)] });
    const rest = difference(difference(manager.set, clash), removed);
    if (!isEmptySet(rest)) next.set(key, { entry: manager.entry, set: rest });
  }
  if (conflicts.length > 0 && !context.force) throw conflictError(conflicts);
  const sameOwner = last !== undefined && equalSets(last.set, set) && last.entry.apiVersion === entry.apiVersion;
  const changed = !live || !sameOwner || conflicts.length > 0 || !equal(before, merged);
  if (sameOwner && !changed) next.set(id, last);
  const metadata = { ...live?.metadata, ...((merged["metadata"] as Json | undefined) ?? {}) };
  for (const field of ["labels", "annotations", "ownerReferences", "finalizers"]) {
    if ((merged["metadata"] as Json | undefined)?.[field] === undefined)
      delete (metadata as Record<string, unknown>)[field];
  }
  const named = configuration.metadata ?? {};
  const object = {
    ...merged,
    apiVersion: apiVersionOf(resource),
    kind: resource.kind,
    metadata: {
      ...metadata,
      name: live?.metadata.name ?? named.name,
      ...((live?.metadata.namespace ?? named.namespace)
        ? { namespace: live?.metadata.namespace ?? named.namespace }
        : {}),
      ...(named.uid ? { uid: named.uid } : {}),
      ...(named.resourceVersion ? { resourceVersion: named.resourceVersion } : {}),
    },
  } as unknown as KubeObject;
  const decoded = decode(scheme, resource, object, { fieldValidation: "Ignore" }).object;
  return { object: withManagers(decoded, next), changed };
}

/** A configuration must fit its type: what is owned must be known. */
function checkDeclared(configuration: KubeObject, resource: Resource, schema: Schema): void {
  const problems: string[] = [];
  const hints: string[] = [];
  const visit = (value: unknown, at: Schema, path: string) => {
    if (Array.isArray(value)) {
      if (!at.items) return;
      for (const [index, item] of value.entries()) {
        visit(item, at.items, path + printPath([itemElement(item, index, at)]));
      }
    } else if (isRecord(value) && (at.type === "object" || at.type === "map")) {
      for (const [field, item] of Object.entries(value)) {
        const inner = childSchema(at, field);
        if (inner) visit(item, inner, `${path}.${field}`);
        else if (!at.preserveUnknown && !at.embedded) {
          problems.push(`${path}.${field}: field not declared in schema`);
          const meant = suggest(field, Object.keys(at.fields ?? {}));
          if (meant) hints.push(`unknown field "${path}.${field}": did you mean "${path}.${meant}"?`);
        }
      }
    }
  };
  visit(configuration, schema, "");
  if (problems.length === 0) return;
  const { name, namespace } = configuration.metadata ?? {};
  const version = apiVersionOf(resource);
  const kind = `${version.includes("/") ? "" : "/"}${version}, Kind=${resource.kind}`;
  const text = problems.length === 1 ? problems[0]! : `errors:\n${problems.map((one) => `  ${one}`).join("\n")}`;
  const error = new StatusError(
    400,
    "BadRequest",
    `failed to create typed patch object (${namespace ?? ""}/${name ?? ""}; ${kind}): ${text}`,
  );
  error.hints = hints;
  throw error;
}

function conflictError(conflicts: readonly { manager: Manager; paths: readonly (readonly string[])[] }[]): StatusError {
  const all = conflicts.flatMap(({ manager, paths }) =>
    paths.map((path) => ({ who: printManager(manager.entry), field: printPath(path) })),
  );
  let message: string;
  if (all.length === 1) message = `Apply failed with 1 conflict: conflict with ${all[0]!.who}: ${all[0]!.field}`;
  else {
    const lines: string[] = [];
    for (const who of [...new Set(all.map((one) => one.who))].sort()) {
      lines.push(`conflicts with ${who}:`);
      for (const one of all) if (one.who === who) lines.push(`- ${one.field}`);
    }
    message = `Apply failed with ${all.length} conflicts: ${lines.join("\n")}`;
  }
  return new StatusError(409, "Conflict", message, {
    causes: all.map(({ who, field }) => ({ reason: "FieldManagerConflict", message: `conflict with ${who}`, field })),
  });
}

function printManager(entry: Manager["entry"]): string {
  let text = JSON.stringify(entry.manager ?? "");
  if (entry.subresource) text += ` with subresource ${JSON.stringify(entry.subresource)}`;
  return entry.operation === "Update" ? `${text} using ${entry.apiVersion}` : text;
}

function entryOf(operation: "Apply" | "Update", resource: Resource, context: WriteContext): Manager["entry"] {
  return {
    manager: context.manager,
    operation,
    apiVersion: apiVersionOf(resource),
    time: formatTime(context.now),
    fieldsType: "FieldsV1",
    ...(context.subresource ? { subresource: context.subresource } : {}),
  };
}

/** What makes two entries one manager: an applier is the same whatever version it applied. */
function identity(entry: Omit<ManagedFieldsEntry, "fieldsV1">): string {
  const version = entry.operation === "Apply" ? "" : (entry.apiVersion ?? "");
  return JSON.stringify([entry.manager ?? "", entry.operation ?? "", version, entry.subresource ?? ""]);
}

function read(entries: readonly ManagedFieldsEntry[] | undefined): Managers {
  const managers: Managers = new Map();
  for (const { fieldsV1, ...entry } of entries ?? []) {
    managers.set(identity(entry), { entry, set: fromFieldsV1(fieldsV1) });
  }
  return managers;
}

function withManagers(object: KubeObject, managers: Managers): KubeObject {
  const { managedFields: _old, ...metadata } = object.metadata;
  const entries = [...managers.values()]
    .map(({ entry, set }) => ({ ...entry, fieldsV1: toFieldsV1(set) }))
    .sort(compareEntries);
  return {
    ...object,
    metadata: { ...metadata, ...(entries.length ? { managedFields: entries } : {}) },
  };
}

function compareEntries(a: ManagedFieldsEntry, b: ManagedFieldsEntry): number {
  const text = (one: ManagedFieldsEntry) => [
    one.operation ?? "",
    one.time ?? "",
    one.manager ?? "",
    one.apiVersion ?? "",
    one.subresource ?? "",
  ];
  const [left, right] = [text(a), text(b)];
  for (const [index, value] of left.entries()) if (value !== right[index]) return value < right[index]! ? -1 : 1;
  return 0;
}

const serverMetadata = new Set([
  "name",
  "namespace",
  "creationTimestamp",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
  "selfLink",
  "uid",
  "clusterName",
  "generation",
  "managedFields",
  "resourceVersion",
]);

/** An object without the fields that nobody can own (managedfields stripmeta). */
function bare(object: KubeObject | undefined): Json | undefined {
  if (!object) return undefined;
  const { apiVersion: _apiVersion, kind: _kind, metadata, ...rest } = object;
  const kept = Object.fromEntries(Object.entries(metadata ?? {}).filter(([field]) => !serverMetadata.has(field)));
  return { ...rest, metadata: kept };
}

/** What an empty object of a kind has: the structs that are values, which nobody comes to own by creating it. */
function zeroObject(scheme: Scheme, resource: Resource): Json {
  if (scheme.entry(resource).custom) return { metadata: {} };
  const fields = scheme.schemaOf(resource).fields ?? {};
  return {
    metadata: {},
    ...(fields["spec"] ? { spec: {} } : {}),
    ...(fields["status"] ? { status: {} } : {}),
    ...zeros[resourceKey(resource)],
  };
}

const template = { metadata: {}, spec: {} };
const zeros: Readonly<Record<string, Json>> = {
  "deployments.apps": { spec: { strategy: {}, template } },
  "statefulsets.apps": { spec: { updateStrategy: {}, template } },
  "daemonsets.apps": { spec: { updateStrategy: {}, template } },
  "replicasets.apps": { spec: { template } },
  "jobs.batch": { spec: { template } },
  "cronjobs.batch": { spec: { jobTemplate: { metadata: {}, spec: { template } } } },
  services: { status: { loadBalancer: {} } },
  "ingresses.networking.k8s.io": { status: { loadBalancer: {} } },
  "networkpolicies.networking.k8s.io": { spec: { podSelector: {} } },
  persistentvolumeclaims: { spec: { resources: {} } },
  "customresourcedefinitions.apiextensions.k8s.io": { spec: { names: {} }, status: { acceptedNames: {} } },
  "rolebindings.rbac.authorization.k8s.io": { roleRef: {} },
  "clusterrolebindings.rbac.authorization.k8s.io": { roleRef: {} },
  events: { involvedObject: {}, source: {} },
};

/** Fields that a strategy resets on this path, so that writing them owns nothing (GetResetFields). */
function ignoredFields(scheme: Scheme, resource: Resource, subresource: string | undefined): FieldSet {
  const hasStatus = resource.subresources?.includes("status") ?? false;
  if (subresource === "status") {
    const fields = Object.keys((scheme.schemaOf(resource) as Schema).fields ?? {});
    const others = fields.filter((field) => field !== "status" && field !== "metadata");
    return scheme.entry(resource).custom
      ? setOfFields(...others.map((field) => [field]), ["metadata"])
      : setOfFields(...others.map((field) => [field]));
  }
  return hasStatus ? setOfFields(["status"]) : setOfFields();
}
