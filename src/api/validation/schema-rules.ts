// What a structural schema demands of a value: types, required fields, bounds, patterns, formats, list keys (apiextensions
// validation on go-openapi/validate, and its list-set / list-map rules). Texts are those of the API server.

import { equal, isRecord, quote } from "../data.ts";
import type { Schema } from "../schema.ts";
import { hasRules, validateRules } from "./cel.ts";
import {
  child,
  duplicate,
  type FieldError,
  invalidValue,
  notSupported,
  required,
  tooLong,
  tooMany,
  typeInvalid,
} from "./field-error.ts";
import { formatProblem } from "./formats.ts";
import { compilePattern } from "./pattern.ts";

/** Errors of a whole custom resource; metadata has its own rules. */
export function validateBySchema(
  object: Readonly<Record<string, unknown>>,
  schema: Schema,
  old?: Readonly<Record<string, unknown>>,
): FieldError[] {
  const { metadata: _meta, apiVersion: _version, kind: _kind, ...rest } = object;
  const { metadata: _m, apiVersion: _v, kind: _k, ...fields } = schema.fields ?? {};
  const root: Schema = {
    ...schema,
    fields,
    ...(schema.required
      ? {
          required: schema.required.filter(
            (one) => !(one in object) || !["metadata", "apiVersion", "kind"].includes(one),
          ),
        }
      : {}),
  };
  const errors = [...visit(rest, root, ""), ...lists(rest, root, "")];
  if (!hasRules(schema)) return errors;
  // Rules may count on types and required fields, so they are not asked while those are wrong.
  if (errors.some((error) => blocking.has(error.type))) return [...errors, notAllChecked];
  return [...errors, ...validateRules(object, schema, "", old)];
}

/** Errors of the status alone: all that a write to it can change. Rules of a schema may look beyond; see {@link hasRules}. */
export function validateStatusBySchema(object: Readonly<Record<string, unknown>>, schema: Schema): FieldError[] {
  const status = schema.fields?.["status"];
  if (!status || object["status"] === undefined) return [];
  const root: Schema = { type: "object", fields: { status } };
  const value = { status: object["status"] };
  return [...visit(value, root, ""), ...lists(value, root, "")];
}

const blocking = new Set(["FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid"]);
const notAllChecked = invalidValue(
  "<nil>",
  "null",
  "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
);

const kindOf = (value: unknown): string => {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return typeof value === "object" ? "object" : typeof value;
};

const typeNames: Readonly<Record<string, string>> = { map: "object", list: "array" };

function visit(value: unknown, schema: Schema, path: string): FieldError[] {
  if (value === null && schema.nullable) return [];
  const errors: FieldError[] = [];
  const own = path === "" ? "" : path;
  const inBody = (text: string) => `${own} in body ${text}`;
  const actual = kindOf(value);
  if (!typeFits(value, schema)) {
    const wanted = schema.type === "int-or-string" ? "integer,string" : (typeNames[schema.type] ?? schema.type);
    errors.push(typeInvalid(own, actual, `${inBody(`must be of type ${wanted}`)}: ${quote(actual)}`));
    if (schema.enum && !schema.enum.some((one) => equal(one, value)))
      errors.push(notSupported(own, value, schema.enum));
    return errors;
  }
  if (schema.enum && !schema.enum.some((one) => equal(one, value))) errors.push(notSupported(own, value, schema.enum));
  if (typeof value === "string") errors.push(...text(value, schema, own, inBody));
  else if (typeof value === "number") errors.push(...number(value, schema, own, inBody));
  else if (Array.isArray(value)) errors.push(...array(value, schema, own, inBody));
  else if (isRecord(value)) errors.push(...object(value, schema, own, inBody));
  errors.push(...junctors(value, schema, own));
  return errors;
}

function typeFits(value: unknown, schema: Schema): boolean {
  switch (schema.type) {
    case "any":
      return true;
    case "object":
    case "map":
      return isRecord(value);
    case "list":
      return Array.isArray(value);
    case "integer":
      return typeof value === "number" && Number.isInteger(value);
    case "number":
      return typeof value === "number";
    case "string":
    case "quantity":
      return typeof value === "string";
    case "boolean":
      return typeof value === "boolean";
    case "int-or-string":
      return typeof value === "string" || (typeof value === "number" && Number.isInteger(value));
  }
}

function text(value: string, schema: Schema, path: string, inBody: (text: string) => string): FieldError[] {
  const errors: FieldError[] = [];
  const length = [...value].length;
  if (schema.maxLength !== undefined && length > schema.maxLength) {
    // go-openapi stops at the first of length and pattern.
    return [tooLong(path, schema.maxLength)];
  }
  if (schema.minLength !== undefined && length < schema.minLength) {
    return [invalidValue(path, value, inBody(`should be at least ${schema.minLength} chars long`))];
  }
  if (schema.pattern !== undefined && !compilePattern(schema.pattern).matches(value)) {
    errors.push(invalidValue(path, value, inBody(`should match '${schema.pattern}'`)));
  }
  if (schema.format !== undefined && formatProblem(schema.format, value)) {
    errors.push(typeInvalid(path, value, `${inBody(`must be of type ${schema.format}`)}: ${quote(value)}`));
  }
  return errors;
}

function number(value: number, schema: Schema, path: string, inBody: (text: string) => string): FieldError[] {
  const errors: FieldError[] = [];
  if (schema.multipleOf !== undefined && value % schema.multipleOf !== 0) {
    errors.push(invalidValue(path, value, inBody(`should be a multiple of ${schema.multipleOf}`)));
  }
  if (schema.maximum !== undefined) {
    if (schema.exclusiveMaximum ? value >= schema.maximum : value > schema.maximum) {
      errors.push(
        invalidValue(
          path,
          value,
          inBody(`should be less than ${schema.exclusiveMaximum ? "" : "or equal to "}${schema.maximum}`),
        ),
      );
    }
  }
  if (schema.minimum !== undefined) {
    if (schema.exclusiveMinimum ? value <= schema.minimum : value < schema.minimum) {
      errors.push(
        invalidValue(
          path,
          value,
          inBody(`should be greater than ${schema.exclusiveMinimum ? "" : "or equal to "}${schema.minimum}`),
        ),
      );
    }
  }
  if (schema.type === "integer" && schema.format === "int32" && (value > 2147483647 || value < -2147483648)) {
    errors.push(invalidValue(path, value, inBody("must be of type int32")));
  }
  return errors;
}

function array(value: unknown[], schema: Schema, path: string, inBody: (text: string) => string): FieldError[] {
  const errors: FieldError[] = [];
  if (schema.maxItems !== undefined && value.length > schema.maxItems)
    errors.push(tooMany(path, value.length, schema.maxItems));
  if (schema.minItems !== undefined && value.length < schema.minItems) {
    errors.push(invalidValue(path, value.length, inBody(`should have at least ${schema.minItems} items`)));
  }
  if (schema.items) {
    for (const [index, item] of value.entries()) errors.push(...visit(item, schema.items, `${path}[${index}]`));
  }
  return errors;
}

function object(
  value: Readonly<Record<string, unknown>>,
  schema: Schema,
  path: string,
  inBody: (text: string) => string,
): FieldError[] {
  const errors: FieldError[] = [];
  const count = Object.keys(value).length;
  if (schema.maxProperties !== undefined && count > schema.maxProperties)
    errors.push(tooMany(path, count, schema.maxProperties));
  if (schema.minProperties !== undefined && count < schema.minProperties) {
    errors.push(invalidValue(path, count, inBody(`should have at least ${schema.minProperties} properties`)));
  }
  for (const [field, fieldSchema] of Object.entries(schema.fields ?? {})) {
    if (value[field] !== undefined) errors.push(...visit(value[field], fieldSchema, child(path, field)));
  }
  for (const field of schema.required ?? []) {
    if (value[field] === undefined) errors.push(required(child(path, field)));
  }
  if (schema.values) {
    for (const [key, one] of Object.entries(value)) {
      if (schema.fields && Object.hasOwn(schema.fields, key)) continue;
      errors.push(...visit(one, schema.values, child(path, key)));
    }
  }
  return errors;
}

function junctors(value: unknown, schema: Schema, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const passes = (one: Schema) => visit(value, one, path).length === 0;
  for (const one of schema.allOf ?? []) errors.push(...visit(value, one, path));
  if (schema.anyOf && !schema.anyOf.some(passes)) {
    errors.push(invalidValue(path, shown(value), `${path} in body must validate at least one schema (anyOf)`));
  }
  if (schema.oneOf) {
    const count = schema.oneOf.filter(passes).length;
    if (count !== 1) {
      errors.push(
        invalidValue(
          path,
          shown(value),
          `${path} in body must validate one and only one schema (oneOf). ${count === 0 ? "Found none valid" : `Found ${count} valid alternatives`}`,
        ),
      );
    }
  }
  if (schema.not && passes(schema.not)) {
    errors.push(invalidValue(path, shown(value), `${path} in body must not validate the schema (not)`));
  }
  return errors;
}

const shown = (value: unknown) => (isRecord(value) || Array.isArray(value) ? kindOf(value) : value);

/** Items of a set, and keys of a list map, must differ. */
function lists(value: unknown, schema: Schema, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (Array.isArray(value)) {
    if (schema.listType === "set") {
      for (const [index, item] of value.entries()) {
        if (value.slice(0, index).some((one) => equal(one, item))) errors.push(duplicate(`${path}[${index}]`, item));
      }
    } else if (schema.listType === "map") {
      const keysOf = (item: unknown) =>
        Object.fromEntries((schema.listKeys ?? []).map((key) => [key, isRecord(item) ? item[key] : undefined]));
      const seen = new Set<string>();
      for (const [index, item] of value.entries()) {
        const keys = keysOf(item);
        const text = JSON.stringify(keys);
        if (seen.has(text)) errors.push(duplicate(`${path}[${index}]`, keys));
        seen.add(text);
      }
    }
    if (schema.items)
      for (const [index, item] of value.entries()) errors.push(...lists(item, schema.items, `${path}[${index}]`));
  } else if (isRecord(value)) {
    for (const [field, item] of Object.entries(value)) {
      const fieldSchema = schema.fields && Object.hasOwn(schema.fields, field) ? schema.fields[field] : schema.values;
      if (fieldSchema) errors.push(...lists(item, fieldSchema, child(path, field)));
    }
  }
  return errors;
}
