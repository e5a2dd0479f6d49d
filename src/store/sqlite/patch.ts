// Patches: applied to the object as it is now, in the version of the request; the result goes the way of every update.
// Server-side apply makes what does not exist (apiserver endpoints/handlers/patch.go).

import type { KubeObject } from "../../api/object.ts";
import { resourceKey } from "../../api/resource.ts";
import { StatusError } from "../../api/status-error.ts";
import type { ObjectKey, Patch } from "../store.ts";
import { begin, type Engine, type EngineWriteOptions, notFound } from "./engine.ts";
import { presenter } from "./read.ts";
import { scaleOf, withScale } from "./scale.ts";
import { applyConfiguration, decodeValues, patched } from "./values.ts";
import { createDecoded, writeUpdate } from "./write.ts";

export function patchObject(
  engine: Engine,
  key: ObjectKey,
  patch: Patch,
  options: EngineWriteOptions,
): { object: KubeObject; created: boolean } {
  const { resource, name } = key;
  const { subresource } = options;
  const namespace = resource.scope === "Namespaced" ? key.namespace : undefined;
  const stored = begin(engine).get(resourceKey(resource), namespace, name);
  if (patch.type === "apply" && subresource !== "scale") {
    checkApplied(patch.body, key);
    const body = placedAt(patch.body, key);
    const old = stored && presenter(resource)(stored);
    if (!old && subresource) throw notFound(resource, name);
    const next = applyConfiguration(engine, resource, old, { ...patch, body }, options);
    if (!next) return { object: stored!, created: false };
    if (!stored) return { object: createDecoded(engine, resource, next, options, true), created: true };
    return { object: writeUpdate(engine, key, stored, next, options, subresource, true), created: false };
  }
  if (!stored) throw notFound(resource, name);
  const old = presenter(resource)(stored);
  if (subresource === "scale") {
    const scale = patched(engine, key, scaleOf(engine, key, old), patch) as KubeObject;
    return { object: writeScale(engine, key, stored, scale, options), created: false };
  }
  const result = patched(engine, key, old, patch) as KubeObject;
  const decoded = decodeValues(engine, resource, result, options, patch);
  checkUnmoved(decoded, key);
  return { object: writeUpdate(engine, key, stored, decoded, options, subresource), created: false };
}

export function updateScale(
  engine: Engine,
  key: ObjectKey,
  scale: KubeObject,
  options: EngineWriteOptions,
): KubeObject {
  const stored = begin(engine).get(resourceKey(key.resource), key.namespace, key.name);
  if (!stored) throw notFound(key.resource, key.name);
  return writeScale(engine, key, stored, scale, options);
}

function writeScale(
  engine: Engine,
  key: ObjectKey,
  stored: KubeObject,
  scale: KubeObject,
  options: EngineWriteOptions,
): KubeObject {
  const next = withScale(engine, key, presenter(key.resource)(stored), scale);
  return scaleOf(engine, key, writeUpdate(engine, key, stored, next, options, "scale"));
}

function checkApplied(body: KubeObject, key: ObjectKey): void {
  if (body.metadata?.managedFields !== undefined) {
    throw new StatusError(400, "BadRequest", "metadata.managedFields must be nil");
  }
  checkUnmoved(body, key);
}

/** A configuration need not repeat what the path says. */
function placedAt(body: KubeObject, key: ObjectKey): KubeObject {
  const namespace = key.resource.scope === "Namespaced" ? key.namespace : undefined;
  return { ...body, metadata: { ...body.metadata, name: key.name, ...(namespace ? { namespace } : {}) } };
}

/** A patch does not rename or move an object. */
function checkUnmoved(object: KubeObject, key: ObjectKey): void {
  const { name, namespace } = object.metadata ?? {};
  if (name && name !== key.name) {
    throw new StatusError(
      400,
      "BadRequest",
      `the name of the object (${name}) does not match the name on the URL (${key.name})`,
    );
  }
  if (key.resource.scope === "Namespaced" && namespace && namespace !== key.namespace) {
    throw new StatusError(
      400,
      "BadRequest",
      `the namespace of the object (${namespace}) does not match the namespace on the URL (${key.namespace})`,
    );
  }
}
