// Server-side apply by kubectl of an object that `kubectl apply` made before without it: the fields of its
// last-applied-configuration annotation are the same user's, so they do not conflict, and the annotation follows what is
// applied now (apimachinery managedfields/internal lastappliedmanager.go and lastappliedupdater.go).

import { isRecord, type Json, sortedKeys } from "../data.ts";
import type { KubeObject } from "../object.ts";
import type { Resource } from "../resource.ts";
import type { Scheme } from "../scheme.ts";
import { isStatusReason } from "../status-error.ts";
import { difference, members, printPath, setOfFields, union } from "./field-set.ts";
import { type Applied, type ApplyContext, applyServerSide } from "./managed-fields.ts";
import { compare, fieldSetOf } from "./typed.ts";

const annotation = "kubectl.kubernetes.io/last-applied-configuration";

/** Like {@link applyServerSide}; anybody but kubectl gets just that. */
export function applyConfiguration(
  scheme: Scheme,
  resource: Resource,
  live: KubeObject | undefined,
  configuration: KubeObject,
  context: ApplyContext,
): Applied {
  if (context.manager !== "kubectl") return applyServerSide(scheme, resource, live, configuration, context);
  let applied: Applied;
  try {
    applied = applyServerSide(scheme, resource, live, configuration, context);
  } catch (error) {
    if (!isStatusReason(error, "Conflict") || !live) throw error;
    const own = ownedByAnnotation(scheme, resource, live);
    const causes = error.details?.causes ?? [];
    if (causes.length === 0 || !causes.every((cause) => cause.field !== undefined && own.has(cause.field))) throw error;
    applied = applyServerSide(scheme, resource, live, configuration, { ...context, force: true });
  }
  const { object } = applied;
  if (object.metadata.annotations?.[annotation] === undefined) return applied;
  const text = lastApplied(configuration);
  if (object.metadata.annotations[annotation] === text) return applied;
  const annotations = { ...object.metadata.annotations, [annotation]: text };
  return { object: { ...object, metadata: { ...object.metadata, annotations } }, changed: true };
}

/** The fields, as conflicts print them, that the annotation has and that still are as it says. */
function ownedByAnnotation(scheme: Scheme, resource: Resource, live: KubeObject): ReadonlySet<string> {
  let configuration: unknown;
  try {
    configuration = JSON.parse(live.metadata.annotations?.[annotation] ?? "");
  } catch {
    return new Set();
  }
  if (!isRecord(configuration)) return new Set();
  const schema = scheme.schemaOf(resource);
  const { modified, added, removed } = compare(configuration, live, schema);
  const kept = [added, modified, removed].reduce(difference, fieldSetOf(configuration, schema));
  // The annotation itself is not in the configuration that it keeps, and is kubectl's all the same.
  const set = union(kept, setOfFields(["metadata", "annotations", annotation]));
  return new Set([...members(set)].map(printPath));
}

/** A configuration as the annotation keeps it: without the annotation, keys in order, a newline at the end. */
function lastApplied(configuration: KubeObject): string {
  const { annotations, managedFields: _, ...metadata } = configuration.metadata;
  const { [annotation]: _own, ...others } = annotations ?? {};
  const bare: Json = {
    ...configuration,
    metadata: { ...metadata, ...(Object.keys(others).length > 0 ? { annotations: others } : {}) },
  };
  return `${JSON.stringify(sortedKeys(bare))}\n`;
}
