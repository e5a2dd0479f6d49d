// The verbs on resources: each reads its options and body, calls the store, and answers in the form that was asked for
// (apiserver endpoints/handlers). Semantics live in the store; here is only what HTTP adds.

import type { KubeObject } from "../api/object.ts";
import { type Resource, resourceKey } from "../api/resource.ts";
import { StatusError } from "../api/status-error.ts";
import type { EngineWriteOptions } from "../store/sqlite/engine.ts";
import type { ObjectKey, Patch } from "../store/store.ts";
import { deletedStatus, listBody, listMetadata, partialMetadata, sendObject } from "./answer.ts";
import { mediaType, readObject, readOptions, readPatch } from "./body.ts";
import type { Context, Target } from "./context.ts";
import type { Exchange } from "./exchange.ts";
import { type Accepted, negotiate, type Transform } from "./negotiate.ts";
import { deleteOptions, invalidOptions, listOptions, writeOptions } from "./request-options.ts";
import { tableOf } from "./tables.ts";
import { serveWatch } from "./watch-stream.ts";

const transforms: readonly Transform[] = ["Table", "PartialObjectMetadata"];
const listTransforms: readonly Transform[] = ["Table", "PartialObjectMetadataList", "PartialObjectMetadata"];

/** Kinds whose deletion is answered with the object instead of a Status (ReturnDeletedObject of their registries). */
const returnsDeleted = new Set([
  "pods",
  "services",
  "serviceaccounts",
  "persistentvolumes",
  "persistentvolumeclaims",
  "podtemplates",
  "resourcequotas",
]);

export function methodNotAllowed(): StatusError {
  return new StatusError(
    405,
    "MethodNotAllowed",
    "the server does not allow this method on the requested resource",
    {},
  );
}

/** Serves a request on a resource or on its `status` or `scale`. */
export async function serveResource(context: Context, exchange: Exchange, target: Target): Promise<void> {
  const { verb, name } = target;
  if (name === undefined) {
    if (verb === "list" || verb === "watch")
      return verb === "list" ? list(context, exchange, target) : watch(context, exchange, target);
    if (verb === "create") return create(context, exchange, target);
    if (verb === "deletecollection") return deleteCollection(context, exchange, target);
    throw methodNotAllowed();
  }
  switch (verb) {
    case "get":
      return get(context, exchange, target, name);
    case "watch":
      return watch(context, exchange, target);
    case "update":
      return update(context, exchange, target, name);
    case "patch":
      return patch(context, exchange, target, name);
    case "delete":
      if (target.subresource === undefined) return remove(context, exchange, target, name);
      throw methodNotAllowed();
    default:
      throw methodNotAllowed();
  }
}

function keyOf(target: Target, name: string): ObjectKey {
  const { resource, namespace } = target;
  return { resource, name, ...(namespace ? { namespace } : {}) };
}

async function get(context: Context, exchange: Exchange, target: Target, name: string): Promise<void> {
  const accepted = negotiate(exchange.header("accept"), exchange.query, { transforms });
  const key = keyOf(target, name);
  if (target.subresource === "scale") return sendObject(exchange, accepted, await context.store.scaleOf(key));
  const object = await context.store.get(key);
  if (!object) throw missing(target, name);
  answerObject(context, exchange, accepted, target.resource, object);
}

function missing({ resource }: Target, name: string): StatusError {
  return new StatusError(404, "NotFound", `${resourceKey(resource)} ${JSON.stringify(name)} not found`, {
    name,
    ...(resource.group ? { group: resource.group } : {}),
    kind: resource.plural,
  });
}

function answerObject(
  context: Context,
  exchange: Exchange,
  accepted: Accepted,
  resource: Resource,
  object: KubeObject,
  code = 200,
): void {
  if (accepted.as === "Table") {
    const table = tableOf(context, exchange, resource, [object], { resourceVersion: object.metadata.resourceVersion });
    sendObject(exchange, accepted, table, code);
  } else if (accepted.as) sendObject(exchange, accepted, partialMetadata(object), code);
  else sendObject(exchange, accepted, object, code);
}

async function list(context: Context, exchange: Exchange, target: Target): Promise<void> {
  const accepted = negotiate(exchange.header("accept"), exchange.query, { transforms: listTransforms });
  const { resource, namespace } = target;
  const snapshot = await context.store.list(resource, listOptions(exchange, namespace));
  const entry = context.store.scheme.entry(resource);
  const body = listBody(entry, snapshot);
  if (accepted.as === "Table") {
    sendObject(exchange, accepted, tableOf(context, exchange, resource, snapshot.items, listMetadata(snapshot)));
  } else if (accepted.as) {
    const items = snapshot.items.map(partialMetadata);
    const { metadata } = body;
    sendObject(exchange, accepted, {
      kind: "PartialObjectMetadataList",
      apiVersion: "meta.k8s.io/v1",
      metadata,
      items,
    });
  } else sendObject(exchange, accepted, body);
}

async function watch(context: Context, exchange: Exchange, target: Target): Promise<void> {
  await serveWatch(context, exchange, target);
}

async function create(context: Context, exchange: Exchange, target: Target): Promise<void> {
  const { resource } = target;
  const accepted = negotiate(exchange.header("accept"), exchange.query, { transforms });
  const { value, duplicates } = await readObject(exchange, resource.kind);
  const options = { ...writeOptions(exchange, "CreateOptions"), duplicates };
  const object = await context.store.create(resource, placed(target, value), options);
  answerObject(context, exchange, accepted, resource, object, 201);
}

async function update(context: Context, exchange: Exchange, target: Target, name: string): Promise<void> {
  const { resource, subresource } = target;
  const accepted = negotiate(exchange.header("accept"), exchange.query, { transforms });
  const scale = subresource === "scale";
  const { value, duplicates } = await readObject(exchange, scale ? "Scale" : resource.kind);
  const options: EngineWriteOptions = { ...writeOptions(exchange, "UpdateOptions"), duplicates, ...sub(subresource) };
  const object = placed(target, value, name);
  if (scale) {
    const key = keyOf(target, name);
    return sendObject(exchange, accepted, await context.store.updateScale(key, object, options));
  }
  answerObject(context, exchange, accepted, resource, await context.store.update(resource, object, options));
}

async function patch(context: Context, exchange: Exchange, target: Target, name: string): Promise<void> {
  const { resource, subresource } = target;
  const accepted = negotiate(exchange.header("accept"), exchange.query, { transforms });
  const type = patchTypes[mediaType(exchange)];
  const custom = context.store.scheme.entry(resource).custom;
  if (type === undefined) throw new StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {});
  if (type === "strategic" && custom && subresource !== "scale") {
    throw new StatusError(
      415,
      "UnsupportedMediaType",
      "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
    );
  }
  const manager = exchange.query.get("fieldManager");
  const force = exchange.query.get("force");
  if (type === "apply" && !manager) {
    const message = "Required value: is required for apply patch";
    throw invalidOptions("PatchOptions", { reason: "FieldValueRequired", field: "fieldManager", message });
  }
  if (type !== "apply" && force) {
    const message = "Forbidden: may not be specified for non-apply patch";
    throw invalidOptions("PatchOptions", { reason: "FieldValueForbidden", field: "force", message });
  }
  const { value, duplicates } = await readPatch(exchange, type === "apply");
  const options: EngineWriteOptions = { ...writeOptions(exchange, "PatchOptions"), duplicates, ...sub(subresource) };
  const body: Patch =
    type === "apply"
      ? { type, body: value as KubeObject, fieldManager: manager!, force: force === "true" }
      : { type, body: value };
  const { object, created } = await context.store.patchOrCreate(keyOf(target, name), body, options);
  if (subresource === "scale") sendObject(exchange, accepted, object);
  else answerObject(context, exchange, accepted, resource, object, created ? 201 : 200);
}

const patchTypes: Readonly<Record<string, Patch["type"]>> = {
  "application/json-patch+json": "json",
  "application/merge-patch+json": "merge",
  "application/strategic-merge-patch+json": "strategic",
  "application/apply-patch+yaml": "apply",
};

const sub = (subresource: string | undefined) =>
  subresource ? { subresource: subresource as NonNullable<EngineWriteOptions["subresource"]> } : {};

async function remove(context: Context, exchange: Exchange, target: Target, name: string): Promise<void> {
  const { resource } = target;
  const accepted = negotiate(exchange.header("accept"), exchange.query);
  const options = deleteOptions(exchange, await readOptions(exchange));
  const { object, gone } = await context.store.startDeletion(keyOf(target, name), options);
  if (gone && !returnsDeleted.has(resourceKey(resource))) {
    sendObject(exchange, accepted, deletedStatus(resource, object));
  } else sendObject(exchange, accepted, object);
}

async function deleteCollection(context: Context, exchange: Exchange, target: Target): Promise<void> {
  const { resource, namespace } = target;
  const accepted = negotiate(exchange.header("accept"), exchange.query);
  const options = deleteOptions(exchange, await readOptions(exchange));
  const snapshot = await context.store.deleteCollection(resource, listOptions(exchange, namespace), options);
  sendObject(exchange, accepted, listBody(context.store.scheme.entry(resource), snapshot));
}

/** The object with the namespace (and name) of the request, which it must not contradict. */
export function placed(target: Target, value: unknown, name?: string): KubeObject {
  const object = (value !== null && typeof value === "object" && !Array.isArray(value) ? value : {}) as KubeObject;
  const metadata = (object.metadata ?? {}) as KubeObject["metadata"];
  const bad = (message: string) => new StatusError(400, "BadRequest", message);
  if (target.resource.scope === "Namespaced" && metadata.namespace && metadata.namespace !== target.namespace) {
    throw bad("the namespace of the provided object does not match the namespace sent on the request");
  }
  if (name !== undefined) {
    if (metadata.name && metadata.name !== name) {
      throw bad(`the name of the object (${metadata.name}) does not match the name on the URL (${name})`);
    }
    if (!metadata.name) throw bad(`the name of the object (based on URL) was undeterminable: name must be provided`);
  }
  const namespace = target.resource.scope === "Namespaced" ? target.namespace : undefined;
  return { ...object, metadata: { ...metadata, ...(namespace ? { namespace } : {}) } };
}
