// JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7386) on plain data. Our own small one because the API server answers every
// operation that cannot be done with one text, and because the input must stay untouched.

import { equal, isRecord } from "../data.ts";
import { StatusError } from "../status-error.ts";

/** Applies a list of operations. Throws `Invalid` when one cannot be done, `BadRequest` when the body is no JSON patch. */
export function jsonPatch<T>(object: T, body: unknown): T {
  if (!Array.isArray(body)) {
    throw new StatusError(
      400,
      "BadRequest",
      "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch",
    );
  }
  if (body.length > 10_000) {
    throw new StatusError(
      413,
      "RequestEntityTooLarge",
      `Request entity too large: The allowed maximum operations in a JSON patch is 10000, got ${body.length}`,
    );
  }
  let result: unknown = structuredClone(object);
  for (const operation of body) result = applyOne(result, operation);
  return result as T;
}

/** Applies a merge patch: null removes, objects merge, all else replaces. */
export function mergePatch<T>(object: T, body: unknown): T {
  if (!isRecord(body)) {
    throw new StatusError(400, "BadRequest", "error decoding patch: Invalid JSON Patch");
  }
  return merge(object, body) as T;
}

function merge(target: unknown, patch: unknown): unknown {
  if (!isRecord(patch)) return patch;
  const out: Record<string, unknown> = isRecord(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete out[key];
    else out[key] = merge(out[key], value);
  }
  return out;
}

const refused = () =>
  new StatusError(422, "Invalid", "the server rejected our request due to an error in our request", {});

function applyOne(document: unknown, operation: unknown): unknown {
  if (!isRecord(operation) || typeof operation["path"] !== "string") throw refused();
  const path = pointer(operation["path"]);
  switch (operation["op"]) {
    case "add":
      return write(document, path, structuredClone(operation["value"]), "add");
    case "replace":
      return write(document, path, structuredClone(operation["value"]), "replace");
    case "remove":
      return write(document, path, undefined, "remove");
    case "move": {
      const from = pointer(operation["from"]);
      const value = read(document, from);
      if (value === undefined) throw refused();
      return write(write(document, from, undefined, "remove"), path, value, "add");
    }
    case "copy": {
      const value = read(document, pointer(operation["from"]));
      if (value === undefined) throw refused();
      return write(document, path, structuredClone(value), "add");
    }
    case "test": {
      const found = read(document, path);
      if (!equal(found ?? null, operation["value"] ?? null)) throw refused();
      return document;
    }
    default:
      throw refused();
  }
}

function pointer(text: unknown): string[] {
  if (typeof text !== "string") throw refused();
  if (text === "") return [];
  if (!text.startsWith("/")) throw refused();
  return text
    .slice(1)
    .split("/")
    .map((part) => part.replace(/~1/g, "/").replace(/~0/g, "~"));
}

function read(document: unknown, path: readonly string[]): unknown {
  let at = document;
  for (const part of path) {
    if (Array.isArray(at)) at = /^(0|[1-9]\d*)$/.test(part) ? at[Number(part)] : undefined;
    else if (isRecord(at) && Object.hasOwn(at, part)) at = at[part];
    else return undefined;
  }
  return at;
}

/** Changes `document` in place (it is our copy) and returns it, or the new root. */
function write(document: unknown, path: readonly string[], value: unknown, how: "add" | "replace" | "remove"): unknown {
  if (path.length === 0) {
    if (how === "remove") throw refused();
    return value;
  }
  const parent = read(document, path.slice(0, -1));
  const last = path.at(-1)!;
  if (Array.isArray(parent)) {
    if (how === "add" && last === "-") parent.push(value);
    else {
      if (!/^(0|[1-9]\d*)$/.test(last)) throw refused();
      const index = Number(last);
      if (index > parent.length - (how === "add" ? 0 : 1)) throw refused();
      if (how === "add") parent.splice(index, 0, value);
      else if (how === "replace") parent[index] = value;
      else parent.splice(index, 1);
    }
    return document;
  }
  if (!isRecord(parent)) throw refused();
  if (how !== "add" && !Object.hasOwn(parent, last)) throw refused();
  if (how === "remove") delete (parent as Record<string, unknown>)[last];
  else (parent as Record<string, unknown>)[last] = value;
  return document;
}
