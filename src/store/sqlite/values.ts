// Where the engine asks the pure half of the API (`src/api`) about the values of an object: its decoding and defaults, its
// managed fields, its validation, and what a patch makes of it.

import { decode } from "../../api/decode.ts";
import { applyDefaults } from "../../api/defaults.ts";
import { definition } from "../../api/definitions.ts";
import { applyConfiguration as mergeConfiguration } from "../../api/managed-fields/last-applied.ts";
import { managerOfUserAgent, trackUpdate } from "../../api/managed-fields/managed-fields.ts";
import type { KubeObject, ManagedFieldsEntry } from "../../api/object.ts";
import { jsonPatch, mergePatch } from "../../api/patch/json-patch.ts";
import { strategicMergePatch } from "../../api/patch/strategic.ts";
import { type Resource, resourceKey } from "../../api/resource.ts";
import type { Schema } from "../../api/schema.ts";
import { StatusError } from "../../api/status-error.ts";
import { invalid, validateCreate, validateUpdate } from "../../api/validation/validate.ts";
import type { ObjectKey, Patch } from "../store.ts";
import type { Engine, EngineWriteOptions, Subresource } from "./engine.ts";

/** The object with unknown fields refused, warned of or dropped, and defaults filled in. */
export function decodeValues(
  engine: Engine,
  resource: Resource,
  object: KubeObject,
  options: EngineWriteOptions,
  patch?: Patch,
): KubeObject {
  const decoded = decode(engine.scheme, resource, object, {
    fieldValidation: options.fieldValidation,
    duplicates: options.duplicates,
    patch,
  });
  for (const warning of decoded.warnings) options.onWarning?.(warning);
  return applyDefaults(engine.scheme, resource, decoded.object);
}

/** The object with the fields noted that its writer now manages. `old` is in the version of the request. */
export function manageFields(
  engine: Engine,
  resource: Resource,
  old: KubeObject | undefined,
  object: KubeObject,
  subresource: Subresource | undefined,
  options: EngineWriteOptions,
): KubeObject {
  const tracked = trackUpdate(engine.scheme, resource, old, object, writer(engine, subresource, options));
  return subresource === "scale" ? withoutScaleTimes(tracked) : tracked;
}

/** Managers of the scale subresource are kept without a time (apimachinery managedfields ScaleHandler.ToParent). */
function withoutScaleTimes(object: KubeObject): KubeObject {
  const entries = (object.metadata.managedFields ?? []).map((entry) => {
    if (entry.subresource !== "scale") return entry;
    const { time: _, ...rest } = entry;
    return rest;
  });
  const order = (entry: ManagedFieldsEntry) => `${entry.operation} ${entry.time ?? ""}`;
  entries.sort((a, b) => (order(a) < order(b) ? -1 : order(a) > order(b) ? 1 : 0));
  return { ...object, metadata: { ...object.metadata, managedFields: entries } };
}

/** What server-side apply makes of the object as it is (undefined: there is none); undefined when nothing changes. */
export function applyConfiguration(
  engine: Engine,
  resource: Resource,
  old: KubeObject | undefined,
  patch: Patch & { readonly type: "apply" },
  options: EngineWriteOptions,
): KubeObject | undefined {
  // Decoded for its refusals and warnings only: what was applied is owned as it was written, empty maps too.
  const { fieldValidation, duplicates } = options;
  const { warnings } = decode(engine.scheme, resource, patch.body, { fieldValidation, duplicates, patch });
  for (const warning of warnings) options.onWarning?.(warning);
  const { object, changed } = mergeConfiguration(engine.scheme, resource, old, patch.body, {
    ...writer(engine, options.subresource, options),
    manager: patch.fieldManager,
    force: patch.force,
  });
  if (!changed) return undefined;
  const decoded = decode(engine.scheme, resource, object, { fieldValidation: "Ignore" });
  return applyDefaults(engine.scheme, resource, decoded.object);
}

function writer(engine: Engine, subresource: Subresource | undefined, options: EngineWriteOptions) {
  const manager = options.fieldManager ?? managerOfUserAgent(options.userAgent ?? "fairlead");
  return { manager, now: engine.clock.now(), subresource };
}

/** What a patch makes of an object, not yet decoded. */
export function patched(engine: Engine, key: ObjectKey, object: KubeObject, patch: Patch): unknown {
  switch (patch.type) {
    case "json":
      return jsonPatch(object, patch.body);
    case "merge":
      return mergePatch(object, patch.body);
    case "strategic":
      return strategicMergePatch(strategicSchema(engine, key, object), object, patch.body);
    case "apply":
      return mergePatch(object, patch.body);
  }
}

function strategicSchema(engine: Engine, key: ObjectKey, object: KubeObject): Schema {
  if (object.kind === "Scale" && key.resource.kind !== "Scale") return definition("io.k8s.api.autoscaling.v1.Scale");
  const entry = engine.scheme.entry(key.resource);
  if (!entry.custom) return entry.schema;
  throw new StatusError(
    415,
    "UnsupportedMediaType",
    "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
  );
}

/** Throws Invalid (422) with all that is wrong. */
export function validateValues(
  engine: Engine,
  resource: Resource,
  object: KubeObject,
  old: KubeObject | undefined,
  subresource: Subresource | undefined,
): void {
  if (subresource === "binding") return; // changes what a pod's own rules forbid to change
  const { scheme } = engine;
  const found = old
    ? validateUpdate(scheme, resource, object, old, subresource)
    : validateCreate(scheme, resource, object);
  const errors = found.filter((error) => !engine.tolerates(resourceKey(resource), error));
  if (errors.length > 0) throw invalid(resource, object.metadata.name ?? "", errors);
}
