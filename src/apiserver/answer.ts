// Objects, lists and failures as bytes: encoded in the form that the client negotiated. Encodings of stored objects are
// remembered with the object, so that a change seen by many watches is encoded once.

import { stringify } from "yaml";
import type { KubeObject } from "../api/object.ts";
import { apiVersionOf, type Resource } from "../api/resource.ts";
import type { SchemeEntry } from "../api/scheme.ts";
import { StatusError } from "../api/status-error.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Snapshot } from "../store/store.ts";
import type { Exchange } from "./exchange.ts";
import { type Accepted, contentTypes } from "./negotiate.ts";

const encodings = new WeakMap<KubeObject, string>();

/** The JSON of a frozen object. */
export function encodeObject(object: KubeObject): string {
  let text = encodings.get(object);
  if (text === undefined) {
    text = JSON.stringify(object);
    encodings.set(object, text);
  }
  return text;
}

export function sendObject(exchange: Exchange, accepted: Accepted, body: unknown, code = 200): void {
  exchange.send(code, contentTypes[accepted.format === "protobuf" ? "json" : accepted.format], encode(accepted, body));
}

export function encode(accepted: Pick<Accepted, "format" | "pretty">, body: unknown): string {
  if (accepted.format === "yaml")
    return stringify(body, { lineWidth: 0, sortMapEntries: true, aliasDuplicateObjects: false });
  if (accepted.pretty) return `${JSON.stringify(body, null, 2)}\n`;
  return `${Object.isFrozen(body) ? encodeObject(body as KubeObject) : JSON.stringify(body)}\n`;
}

/** A list object. Items of built-in kinds do not repeat their kind and apiVersion, those of custom resources do. */
export function listBody(entry: SchemeEntry, snapshot: Snapshot): Record<string, unknown> {
  return {
    kind: entry.listKind,
    apiVersion: apiVersionOf(entry.resource),
    metadata: listMetadata(snapshot),
    items: entry.custom ? snapshot.items : snapshot.items.map(({ apiVersion: _a, kind: _k, ...rest }) => rest),
  };
}

export function listMetadata(snapshot: Snapshot): Record<string, unknown> {
  return {
    resourceVersion: snapshot.resourceVersion,
    ...(snapshot.continue ? { continue: snapshot.continue } : {}),
    ...(snapshot.remainingItemCount === undefined ? {} : { remainingItemCount: snapshot.remainingItemCount }),
  };
}

export function partialMetadata(object: KubeObject): Record<string, unknown> {
  return { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata: object.metadata };
}

/** The answer to a deletion that is complete (metav1.Status Success). */
export function deletedStatus(resource: Resource, object: KubeObject): Record<string, unknown> {
  return {
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Success",
    details: {
      name: object.metadata.name,
      ...(resource.group ? { group: resource.group } : {}),
      kind: resource.plural,
      ...(object.metadata.uid ? { uid: object.metadata.uid } : {}),
    },
  };
}

/** Any failure in the API's form. What is no StatusError is a fault of this program: logged whole, answered without detail. */
export function statusOf(
  error: unknown,
  log: Logger,
): { code: number; body: Record<string, unknown>; retryAfter?: number } {
  if (!(error instanceof StatusError)) {
    log.error("a request failed", { error: messageOf(error), stack: error instanceof Error ? error.stack : undefined });
    return statusOf(new StatusError(500, "InternalError", `Internal error occurred: ${messageOf(error)}`), log);
  }
  const retryAfter = error.details?.retryAfterSeconds;
  return { code: error.code, body: error.toStatus(), ...(retryAfter ? { retryAfter } : {}) };
}

export function sendError(exchange: Exchange, error: unknown, log: Logger): void {
  const { code, body, retryAfter } = statusOf(error, log);
  // kubectl would print them beside the error; its output is to be the same as with any other API server.
  if (error instanceof StatusError && !exchange.header("user-agent")?.startsWith("kubectl/")) {
    for (const hint of error.hints) exchange.warn(hint);
  }
  exchange.send(
    code,
    "application/json",
    `${JSON.stringify(body)}\n`,
    retryAfter ? { "retry-after": String(retryAfter) } : {},
  );
}

export function sendText(exchange: Exchange, code: number, text: string): void {
  exchange.send(code, "text/plain; charset=utf-8", text, { "x-content-type-options": "nosniff" });
}
