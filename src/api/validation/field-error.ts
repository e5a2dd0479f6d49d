// Errors of one field, and the `Invalid` status that carries them (apimachinery util/validation/field, api/errors.NewInvalid).

import { quote, sortedKeys } from "../data.ts";
import type { Resource } from "../resource.ts";
import { StatusError } from "../status-error.ts";

export type FieldErrorType =
  | "FieldValueRequired"
  | "FieldValueInvalid"
  | "FieldValueTypeInvalid"
  | "FieldValueNotSupported"
  | "FieldValueForbidden"
  | "FieldValueDuplicate"
  | "FieldValueNotFound"
  | "FieldValueTooLong"
  | "FieldValueTooMany"
  | "InternalError";

/** `field` is a path as upstream prints it: `spec.ports[0].name`, `data[a/b]`. `message` is the text after it. */
export interface FieldError {
  readonly type: FieldErrorType;
  readonly field: string;
  readonly message: string;
}

/** Appends a field name to a path. */
export function child(path: string, name: string | number): string {
  if (typeof name === "number") return `${path}[${name}]`;
  return path === "" ? name : `${path}.${name}`;
}

/** Appends a map key to a path. */
export function keyed(path: string, key: string): string {
  return `${path}[${key}]`;
}

const withDetail = (text: string, detail: string) => (detail === "" ? text : `${text}: ${detail}`);

export function required(field: string, detail = ""): FieldError {
  return { type: "FieldValueRequired", field, message: withDetail("Required value", detail) };
}

export function invalidValue(field: string, value: unknown, detail: string): FieldError {
  return { type: "FieldValueInvalid", field, message: withDetail(`Invalid value: ${printed(value)}`, detail) };
}

export function typeInvalid(field: string, value: unknown, detail: string): FieldError {
  return { type: "FieldValueTypeInvalid", field, message: withDetail(`Invalid value: ${printed(value)}`, detail) };
}

export function notSupported(field: string, value: unknown, supported: readonly unknown[]): FieldError {
  const list = supported.map((one) => (typeof one === "string" ? quote(one) : JSON.stringify(one))).join(", ");
  const detail = supported.length ? `: supported values: ${list}` : "";
  return { type: "FieldValueNotSupported", field, message: `Unsupported value: ${printed(value)}${detail}` };
}

export function forbidden(field: string, detail: string): FieldError {
  return { type: "FieldValueForbidden", field, message: `Forbidden: ${detail}` };
}

export function duplicate(field: string, value: unknown): FieldError {
  return { type: "FieldValueDuplicate", field, message: `Duplicate value: ${printed(value)}` };
}

export function notFound(field: string, value: unknown): FieldError {
  return { type: "FieldValueNotFound", field, message: `Not found: ${printed(value)}` };
}

export function tooLong(field: string, limit: number): FieldError {
  return { type: "FieldValueTooLong", field, message: `Too long: may not be more than ${limit} bytes` };
}

export function tooMany(field: string, actual: number, limit: number): FieldError {
  return {
    type: "FieldValueTooMany",
    field,
    message: `Too many: ${actual}: must have at most ${limit} item${limit === 1 ? "" : "s"}`,
  };
}

/** Values print as JSON with sorted keys. */
export function printed(value: unknown): string {
  if (value === undefined) return "null";
  if (typeof value === "string") return quote(value);
  const own = typeof value === "object" && value !== null && "toJSON" in value;
  return JSON.stringify(own ? value : sortedKeys(value));
}

/** The 422 answer. Without errors it is the caller's mistake; the message of one error stands alone, more are listed. */
export function invalid(
  resource: Pick<Resource, "group" | "kind">,
  name: string,
  errors: readonly FieldError[],
): StatusError {
  const kind = resource.group === "" ? resource.kind : `${resource.kind}.${resource.group}`;
  const texts = [...new Set(errors.map((error) => `${error.field}: ${error.message}`))];
  const list = texts.length === 1 ? texts[0]! : `[${texts.join(", ")}]`;
  return new StatusError(422, "Invalid", `${kind} ${quote(name)} is invalid: ${list}`, {
    ...(name ? { name } : {}),
    ...(resource.group ? { group: resource.group } : {}),
    kind: resource.kind,
    causes: errors.map((error) => ({ reason: error.type, message: error.message, field: error.field })),
  });
}
