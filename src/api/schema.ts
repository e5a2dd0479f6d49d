// The structural type of an object or a field: what may be in it, how lists and maps merge, defaults and bounds. One shape for
// built-in kinds (from `generated/definitions.json`), the Gateway API and users' CustomResourceDefinitions
// (apiextensions/v1 structural schemas, x-kubernetes-* extensions), so that decoding, pruning, defaulting, validation,
// patches, managed fields and OpenAPI read the same facts.

export type SchemaType =
  | "object"
  | "map"
  | "list"
  | "string"
  | "integer"
  | "number"
  | "boolean"
  | "quantity"
  | "int-or-string"
  | "any";

/** A CEL rule (x-kubernetes-validations). */
export interface ValidationRule {
  readonly rule: string;
  readonly message?: string;
  readonly messageExpression?: string;
  readonly reason?: string;
  readonly fieldPath?: string;
  readonly optionalOldSelf?: boolean;
}

export interface Schema {
  readonly type: SchemaType;
  /** The name of a built-in type (`io.k8s.api.core.v1.Service`); undefined for what a CRD declares. */
  readonly name?: string;
  /** `int32`, `int64`, `double`, `byte`, `date-time`, `micro-time`, … */
  readonly format?: string;
  /** Of an object: its fields by name. */
  readonly fields?: Readonly<Record<string, Schema>>;
  /** Of an object: the fields that must be there. */
  readonly required?: readonly string[];
  /** Of a map: the type of its values. */
  readonly values?: Schema;
  /** Of a list: the type of its items. */
  readonly items?: Schema;
  readonly listType?: "atomic" | "set" | "map";
  readonly listKeys?: readonly string[];
  readonly mapType?: "atomic" | "granular";
  readonly patchStrategy?: string;
  readonly patchMergeKey?: string;
  readonly default?: unknown;
  readonly nullable?: boolean;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: boolean;
  readonly exclusiveMaximum?: boolean;
  readonly multipleOf?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly uniqueItems?: boolean;
  readonly minProperties?: number;
  readonly maxProperties?: number;
  /** Unknown fields are kept (x-kubernetes-preserve-unknown-fields). */
  readonly preserveUnknown?: boolean;
  /** The field is a whole object of its own (x-kubernetes-embedded-resource). */
  readonly embedded?: boolean;
  readonly description?: string;
  readonly rules?: readonly ValidationRule[];
  readonly allOf?: readonly Schema[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly not?: Schema;
}

/** The schema of a type that nobody described: everything is kept. */
export const anySchema: Schema = { type: "any", preserveUnknown: true };

/** The child schema under a field name or map key; undefined when the schema does not know it. */
export function childSchema(schema: Schema | undefined, key: string): Schema | undefined {
  if (!schema) return undefined;
  if (schema.type === "object") {
    const fields = schema.fields;
    if (fields && Object.hasOwn(fields, key)) return fields[key];
    return schema.values;
  }
  return schema.type === "map" ? schema.values : undefined;
}

type Json = Readonly<Record<string, unknown>>;

/**
 * The schema of one version of a CustomResourceDefinition. `meta` is the schema of ObjectMeta, which the root of every
 * custom resource has whether or not its author wrote it down.
 */
export function schemaOfCustomResource(openAPIV3Schema: Json | undefined, meta: Schema): Schema {
  const root = openAPIV3Schema ? fromOpenAPI(openAPIV3Schema) : anySchema;
  const fields: Record<string, Schema> = {
    ...(root.fields ?? {}),
    apiVersion: { type: "string" },
    kind: { type: "string" },
    metadata: meta,
  };
  return { ...root, type: "object", fields };
}

/** Reads a JSON Schema in the form of apiextensions/v1 JSONSchemaProps. */
export function fromOpenAPI(source: Json): Schema {
  const schema: { -readonly [K in keyof Schema]: Schema[K] } = { type: typeOf(source) };
  const copied = [
    "format",
    "enum",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "nullable",
    "default",
    "description",
    "required",
  ] as const;
  for (const key of copied) {
    if (source[key] !== undefined) (schema as Record<string, unknown>)[key] = source[key];
  }
  const properties = source["properties"] as Record<string, Json> | undefined;
  if (properties) {
    schema.fields = Object.fromEntries(Object.entries(properties).map(([name, child]) => [name, fromOpenAPI(child)]));
  }
  const additional = source["additionalProperties"];
  if (additional && typeof additional === "object") {
    schema.values = fromOpenAPI(additional as Json);
    if (!properties) schema.type = "map";
  } else if (additional === true) schema.preserveUnknown = true;
  const items = source["items"];
  if (items && typeof items === "object") schema.items = fromOpenAPI(items as Json);
  if (source["x-kubernetes-preserve-unknown-fields"] === true) schema.preserveUnknown = true;
  if (source["x-kubernetes-embedded-resource"] === true) schema.embedded = true;
  const listType = source["x-kubernetes-list-type"] as Schema["listType"];
  if (listType) schema.listType = listType;
  if (source["x-kubernetes-list-map-keys"]) {
    schema.listKeys = source["x-kubernetes-list-map-keys"] as readonly string[];
  }
  if (source["x-kubernetes-map-type"]) schema.mapType = source["x-kubernetes-map-type"] as Schema["mapType"];
  if (source["x-kubernetes-validations"]) {
    schema.rules = source["x-kubernetes-validations"] as readonly ValidationRule[];
  }
  for (const junctor of ["allOf", "anyOf", "oneOf"] as const) {
    const list = source[junctor] as readonly Json[] | undefined;
    if (list) schema[junctor] = list.map(fromOpenAPI);
  }
  if (source["not"]) schema.not = fromOpenAPI(source["not"] as Json);
  return schema;
}

function typeOf(source: Json): SchemaType {
  if (source["x-kubernetes-int-or-string"] === true || source["format"] === "int-or-string") return "int-or-string";
  switch (source["type"]) {
    case "object":
      return "object";
    case "array":
      return "list";
    case "string":
    case "integer":
    case "number":
    case "boolean":
      return source["type"];
    default:
      return source["properties"] ? "object" : source["items"] ? "list" : "any";
  }
}
