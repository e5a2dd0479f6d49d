// From a JSON body to an object of a kind: what is not known is dropped (or refused), what has the wrong type is refused, in
// the words of kube-apiserver. Built-in kinds behave as Go structs do (null is absent, empty optional lists and maps vanish);
// custom resources keep what their schema allows and are type-checked later, by validation.

import { isRecord, type Json, quote } from "./data.ts";
import { goTypeOf, isPointerScalar, isValueStruct, isValueTime } from "./go-shape.ts";
import { goFormat } from "./json.ts";
import type { KubeObject } from "./object.ts";
import { canonicalQuantity } from "./quantity.ts";
import { apiVersionOf, type Resource } from "./resource.ts";
import { childSchema, type Schema } from "./schema.ts";
import type { Scheme } from "./scheme.ts";
import { StatusError } from "./status-error.ts";
import { suggest } from "./suggest.ts";

export type FieldValidation = "Ignore" | "Warn" | "Strict";

export interface DecodeOptions {
  /** What to do about unknown and duplicate fields; `Warn` when absent, as upstream. */
  readonly fieldValidation?: FieldValidation | undefined;
  /** Paths from {@link ParsedJson.duplicates}; asked only when they matter. */
  readonly duplicates?: (() => readonly string[]) | undefined;
  /** Set when `value` is the result of a patch: refusals then name the patch. */
  readonly patch?: { readonly type: "json" | "merge" | "strategic" | "apply"; readonly body: unknown } | undefined;
}

export interface Decoded {
  readonly object: KubeObject;
  /** Texts for `Warning` headers. */
  readonly warnings: readonly string[];
}

interface Walk {
  readonly kind: string;
  readonly unknown: string[];
  readonly hints: string[];
  readonly structs: string[];
}

/** Thrown inside the walk; turned into a StatusError that names kind and version. */
class DecodeError extends Error {}

/**
 * Decodes a body for a resource. Throws StatusErrors: BadRequest for a wrong kind, type or (strict) unknown field; Invalid
 * when the body came out of a patch.
 */
export function decode(scheme: Scheme, resource: Resource, value: unknown, options: DecodeOptions = {}): Decoded {
  const entry = scheme.entry(resource);
  if (!isRecord(value)) {
    throw cannotHandle(
      resource,
      resource.kind,
      `json: cannot unmarshal ${jsonKind(value)} into Go value of type ${goTypeOf(entry.schema)}`,
    );
  }
  checkKind(scheme, resource, value);
  const walk: Walk = { kind: resource.kind, unknown: [], hints: [], structs: [] };
  let object: Json;
  try {
    object = entry.custom ? decodeCustom(value, entry.schema, walk) : decodeStruct(value, entry.schema, "", walk);
  } catch (error) {
    if (error instanceof DecodeError) throw refuse(resource, value, options, error.message, []);
    throw error;
  }
  const problems = [
    ...(options.fieldValidation === "Ignore"
      ? []
      : (options.duplicates?.() ?? []).map((path) => `duplicate field ${quote(path)}`)),
    // An applied configuration with unknown fields is refused when its ownership is worked out, in other words.
    ...(options.patch?.type === "apply" ? [] : walk.unknown.map((path) => `unknown field ${quote(path)}`)),
  ];
  if (options.fieldValidation === "Strict" && problems.length > 0) {
    throw refuse(resource, value, options, `strict decoding error: ${problems.slice(0, 100).join(", ")}`, walk.hints);
  }
  return {
    object: { ...object, apiVersion: apiVersionOf(resource), kind: resource.kind } as unknown as KubeObject,
    warnings: options.fieldValidation === "Ignore" ? [] : problems,
  };
}

function checkKind(scheme: Scheme, resource: Resource, value: Json): void {
  const kind = typeof value["kind"] === "string" ? value["kind"] : "";
  const apiVersion = typeof value["apiVersion"] === "string" ? value["apiVersion"] : "";
  if (kind === "" && apiVersion === "") return;
  if (kind === resource.kind && (apiVersion === apiVersionOf(resource) || apiVersion === "")) return;
  const version = apiVersion.split("/").at(-1)!;
  if (kind === resource.kind || kind === "") {
    throw new StatusError(
      400,
      "BadRequest",
      `the API version in the data (${apiVersion}) does not match the expected API version (${apiVersionOf(resource)})`,
    );
  }
  const known = scheme.byKind(apiVersion, kind);
  if (!known) {
    throw new StatusError(
      400,
      "BadRequest",
      `no kind ${quote(kind)} is registered for version ${quote(apiVersion)} in scheme "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go"`,
    );
  }
  const internal = resource.group === "" ? "core" : resource.group.split(".")[0]!;
  throw new StatusError(
    400,
    "BadRequest",
    `${kind} in version ${quote(version)} cannot be handled as a ${resource.kind}: converting (${version}.${kind}) to (${internal}.${resource.kind}): unknown conversion`,
  );
}

function cannotHandle(resource: Resource, kind: string, text: string): StatusError {
  return new StatusError(
    400,
    "BadRequest",
    `${kind} in version ${quote(resource.version)} cannot be handled as a ${resource.kind}: ${text}`,
  );
}

function refuse(
  resource: Resource,
  value: unknown,
  options: DecodeOptions,
  text: string,
  hints: readonly string[],
): StatusError {
  let error: StatusError;
  if (options.patch && options.patch.type !== "apply") {
    const shown = options.patch.type === "strategic" ? goFormat(options.patch.body) : JSON.stringify(value);
    const message = `Invalid value: ${quote(shown)}: ${text}`;
    error = new StatusError(422, "Invalid", ` "" is invalid: patch: ${message}`, {
      causes: [{ reason: "FieldValueInvalid", message, field: "patch" }],
    });
  } else error = cannotHandle(resource, resource.kind, text);
  error.hints = hints;
  return error;
}

function note(walk: Walk, path: string, field: string, known: readonly string[]): void {
  walk.unknown.push(path);
  const meant = suggest(field, known);
  if (meant)
    walk.hints.push(
      `unknown field ${quote(path)}: did you mean ${quote(path.slice(0, path.length - field.length) + meant)}?`,
    );
}

/** An object of a built-in struct type. */
function decodeStruct(value: Json, schema: Schema, path: string, walk: Walk): Json {
  const fields = schema.fields ?? {};
  const out: Record<string, unknown> = {};
  walk.structs.push(schema.name ?? walk.kind);
  for (const [field, given] of Object.entries(value)) {
    const own = path === "" ? field : `${path}.${field}`;
    const child = Object.hasOwn(fields, field) ? fields[field]! : undefined;
    if (!child) {
      note(walk, own, field, Object.keys(fields));
      continue;
    }
    if (given === null || given === undefined) continue;
    const decoded = decodeValue(given, child, own, walk);
    if (!isZero(decoded, child, schema, field)) out[field] = decoded;
  }
  for (const field of Object.keys(fields)) {
    if (out[field] !== undefined) continue;
    if (isValueTime(schema, field)) out[field] = null;
    if (isValueStruct(schema, field)) out[field] = decodeStruct({}, fields[field]!, "", walk);
  }
  walk.structs.pop();
  return out;
}

/** What Go's `omitempty` leaves out when the object is written again. */
function isZero(value: unknown, schema: Schema, parent: Schema, field: string): boolean {
  if (Array.isArray(value)) return value.length === 0 && !parent.required?.includes(field);
  if (schema.type === "map")
    return isRecord(value) && Object.keys(value).length === 0 && !parent.required?.includes(field);
  if (value === "" || value === 0 || value === false) {
    return !parent.required?.includes(field) && !isPointerScalar(parent, field);
  }
  return false;
}

function decodeValue(value: unknown, schema: Schema, path: string, walk: Walk): unknown {
  switch (schema.type) {
    case "object":
      if (!isRecord(value)) throw mismatch(value, schema, path, walk);
      return decodeStruct(value, schema, path, walk);
    case "map": {
      if (!isRecord(value)) throw mismatch(value, schema, path, walk);
      const out: Record<string, unknown> = {};
      for (const [key, given] of Object.entries(value)) {
        if (given === null) {
          out[key] = schema.values?.type === "string" ? "" : null;
          continue;
        }
        out[key] = schema.values ? decodeValue(given, schema.values, path, walk) : given;
      }
      return out;
    }
    case "list": {
      if (!Array.isArray(value)) throw mismatch(value, schema, path, walk);
      return value.map((item, index) => {
        if (item === null)
          return schema.items?.type === "object"
            ? decodeStruct({}, schema.items, "", walk)
            : schema.items?.type === "string"
              ? ""
              : null;
        return schema.items ? decodeValue(item, schema.items, `${path}[${index}]`, walk) : item;
      });
    }
    case "string":
      if (typeof value !== "string") throw mismatch(value, schema, path, walk);
      return decodeText(value, schema);
    case "boolean":
      if (typeof value !== "boolean") throw mismatch(value, schema, path, walk);
      return value;
    case "integer":
      if (typeof value !== "number") throw mismatch(value, schema, path, walk);
      if (!Number.isInteger(value) || (schema.format === "int32" && Math.abs(value) > 2 ** 31)) {
        throw mismatch(value, schema, path, walk, `number ${value}`);
      }
      return value;
    case "number":
      if (typeof value !== "number") throw mismatch(value, schema, path, walk);
      return value;
    case "quantity": {
      const text =
        typeof value === "number"
          ? canonicalQuantity(String(value))
          : typeof value === "string"
            ? canonicalQuantity(value)
            : undefined;
      if (text === undefined) {
        throw new DecodeError(
          "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        );
      }
      return text;
    }
    case "int-or-string":
      if (typeof value === "string" || (typeof value === "number" && Number.isInteger(value))) return value;
      throw mismatch(value, schema, path, walk, undefined, typeof value === "number" ? "int32" : "string");
    case "any":
      return value;
  }
}

function decodeText(value: string, schema: Schema): string {
  if (schema.format === "byte") {
    const bad = badBase64(value);
    if (bad !== undefined) throw new DecodeError(`illegal base64 data at input byte ${bad}`);
    return value;
  }
  if (schema.format === "date-time" && value !== "") {
    const match = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)$/.exec(value);
    if (!match || Number.isNaN(Date.parse(value))) {
      throw new DecodeError(
        `parsing time ${quote(value)} as "2006-01-02T15:04:05Z07:00": cannot parse ${quote(value)} as "2006"`,
      );
    }
    if (schema.name?.endsWith("MicroTime")) return value;
    return `${new Date(value).toISOString().slice(0, 19)}Z`;
  }
  return value;
}

/** The first byte that is not standard padded base64 (RFC 4648), as Go counts; line breaks are ignored. */
function badBase64(text: string): number | undefined {
  let count = 0;
  for (let at = 0; at < text.length; at++) {
    const one = text[at]!;
    if (one === "\n" || one === "\r") continue;
    if (one === "=") {
      const rest = text.slice(at).replace(/[\r\n]/g, "");
      const need = count % 4 === 2 ? "==" : count % 4 === 3 ? "=" : undefined;
      return need !== undefined && rest === need ? undefined : at;
    }
    if (!/[A-Za-z0-9+/]/.test(one)) return at;
    count++;
  }
  return count % 4 === 0 ? undefined : text.length - (count % 4);
}

function jsonKind(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return typeof value === "boolean" ? "bool" : typeof value;
}

function mismatch(
  value: unknown,
  schema: Schema,
  path: string,
  walk: Walk,
  shown = jsonKind(value),
  goType = goTypeOf(schema),
): DecodeError {
  const struct = walk.structs.at(-1)!.split(".").at(-1)!;
  const field = path.replace(/\[\d+\]/g, "");
  return new DecodeError(`json: cannot unmarshal ${shown} into Go struct field ${struct}.${field} of type ${goType}`);
}

/** A custom resource: metadata is decoded as a struct, all else is pruned by its schema. */
function decodeCustom(value: Json, schema: Schema, walk: Walk): Json {
  const out = prune(value, schema, "", walk, true) as Record<string, unknown>;
  if (value["metadata"] !== undefined && value["metadata"] !== null) {
    if (!isRecord(value["metadata"]))
      throw new DecodeError(
        `json: cannot unmarshal ${jsonKind(value["metadata"])} into Go struct field .metadata of type v1.ObjectMeta`,
      );
    const meta = schema.fields?.["metadata"];
    out["metadata"] = meta
      ? decodeStruct(value["metadata"], meta, "metadata", { ...walk, kind: "ObjectMeta" })
      : value["metadata"];
  }
  return out;
}

/** Drops what a structural schema does not know (apiextensions pruning). */
function prune(value: unknown, schema: Schema, path: string, walk: Walk, root = false): unknown {
  if (Array.isArray(value)) {
    return schema.items ? value.map((item, index) => prune(item, schema.items!, `${path}[${index}]`, walk)) : value;
  }
  if (!isRecord(value)) return value;
  const out: Record<string, unknown> = {};
  for (const [field, given] of Object.entries(value)) {
    if ((root || schema.embedded) && (field === "apiVersion" || field === "kind" || field === "metadata")) {
      out[field] = given;
      continue;
    }
    const own = path === "" ? field : `${path}.${field}`;
    const child = childSchema(schema, field);
    if (child) out[field] = prune(given, child, own, walk);
    else if (schema.preserveUnknown) out[field] = given;
    else note(walk, own, field, Object.keys(schema.fields ?? {}));
  }
  return out;
}
