// The built-in types as schemas, made from `generated/` the first time that one is asked for (a start that serves nothing
// reads none of it). Types refer to each other by name and some to themselves, so fields are resolved when they are read.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Schema, SchemaType } from "./schema.ts";

interface FieldFact {
  readonly type: string;
  readonly required?: boolean;
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly list?: "atomic" | "set" | "map";
  readonly keys?: readonly string[];
  readonly map?: "atomic" | "granular";
  readonly patch?: string;
  readonly patchKey?: string;
}
interface TypeFact {
  readonly fields?: Readonly<Record<string, string | FieldFact>>;
  readonly type?: string;
  readonly map?: "atomic" | "granular";
  readonly kind?: string;
}

const once = <T>(make: () => T): (() => T) => {
  let made: { value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
};

/** A generated JSON file of this room. */
export function generated<T>(name: string): T {
  return JSON.parse(readFileSync(join(import.meta.dir, "generated", name), "utf8")) as T;
}

const facts = once(() => generated<Record<string, TypeFact>>("definitions.json"));
const gatewayFacts = once(() => generated<Record<string, GatewayNode>>("gateway-schemas.json"));

/** The names of all built-in types. */
export function definitionNames(): readonly string[] {
  return Object.keys(facts());
}

/** `v1 Service` → the name of its type. */
export function definitionOfKind(apiVersion: string, kind: string): string | undefined {
  return byKind().get(`${apiVersion} ${kind}`);
}

const byKind = once(() => {
  const map = new Map<string, string>();
  for (const [name, fact] of Object.entries(facts())) if (fact.kind) map.set(fact.kind, name);
  return map;
});

const known = new Map<string, Schema>();

/** The schema of a built-in type. Throws when there is none of that name. */
export function definition(name: string): Schema {
  const seen = known.get(name);
  if (seen) return seen;
  const fact = facts()[name];
  if (!fact) throw new Error(`no built-in type is named ${name}`);
  const schema = fact.fields ? new StructSchema(name, fact) : leaf(name, fact.type ?? "any");
  known.set(name, schema);
  return schema;
}

/** A built-in struct: its fields are made when first read, because types are recursive. */
class StructSchema implements Schema {
  readonly type = "object";
  readonly name: string;
  readonly mapType?: "atomic" | "granular";
  readonly required?: readonly string[];
  readonly #fact: TypeFact;
  #fields: Readonly<Record<string, Schema>> | undefined;

  constructor(name: string, fact: TypeFact) {
    this.name = name;
    this.#fact = fact;
    if (fact.map) this.mapType = fact.map;
    const required = Object.entries(fact.fields ?? {}).flatMap(([field, use]) =>
      typeof use !== "string" && use.required ? [field] : [],
    );
    if (required.length) this.required = required;
  }

  get fields(): Readonly<Record<string, Schema>> {
    this.#fields ??= Object.fromEntries(
      Object.entries(this.#fact.fields ?? {}).map(([field, use]) => [field, fieldSchema(use)]),
    );
    return this.#fields;
  }
}

function fieldSchema(use: string | FieldFact): Schema {
  if (typeof use === "string") return parseType(use);
  const base = parseType(use.type);
  const extra: Record<string, unknown> = {};
  if (use.default !== undefined) extra["default"] = use.default;
  if (use.enum) extra["enum"] = use.enum;
  if (use.list) extra["listType"] = use.list;
  if (use.keys) extra["listKeys"] = use.keys;
  if (use.map) extra["mapType"] = use.map;
  if (use.patch) extra["patchStrategy"] = use.patch;
  if (use.patchKey) extra["patchMergeKey"] = use.patchKey;
  if (Object.keys(extra).length === 0) return base;
  if (base instanceof StructSchema) {
    return {
      type: "object",
      name: base.name,
      get fields() {
        return base.fields;
      },
      ...(base.required ? { required: base.required } : {}),
      ...(base.mapType ? { mapType: base.mapType } : {}),
      ...extra,
    };
  }
  return { ...base, ...extra };
}

const types = new Map<string, Schema>();

function parseType(type: string): Schema {
  const seen = types.get(type);
  if (seen) return seen;
  let schema: Schema;
  if (type.startsWith("[")) schema = { type: "list", items: parseType(type.slice(1, -1)) };
  else if (type.startsWith("{")) schema = { type: "map", values: parseType(type.slice(1, -1)) };
  else schema = type.includes(".") ? definition(type) : leaf(undefined, type);
  types.set(type, schema);
  return schema;
}

function leaf(name: string | undefined, text: string): Schema {
  const [type, format] = text.split(":") as [string, string | undefined];
  if (type === "object") return { type: "any", ...(name ? { name } : {}), preserveUnknown: true };
  return {
    type: type as SchemaType,
    ...(name ? { name } : {}),
    ...(format ? { format } : {}),
    ...(type === "any" ? { preserveUnknown: true } : {}),
  };
}

interface GatewayNode {
  readonly type: string;
  readonly fields?: Readonly<Record<string, GatewayNode | string>>;
  readonly items?: GatewayNode;
  readonly values?: GatewayNode;
  readonly list?: "atomic" | "set" | "map";
  readonly keys?: readonly string[];
  readonly map?: "atomic" | "granular";
  readonly rules?: number;
  readonly [more: string]: unknown;
}

/** The schema of a Gateway API kind, `gateway.networking.k8s.io/v1 HTTPRoute`. */
export function gatewaySchema(apiVersion: string, kind: string): Schema {
  const node = gatewayFacts()[`${apiVersion} ${kind}`];
  if (!node) throw new Error(`no Gateway API kind ${apiVersion} ${kind}`);
  const root = fromGatewayNode(node);
  return { ...root, fields: { ...root.fields, metadata: objectMetaSchema() } };
}

/** The schema of metadata (apimachinery meta/v1 ObjectMeta). */
export function objectMetaSchema(): Schema {
  return definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
}

function fromGatewayNode(node: GatewayNode | string): Schema {
  if (typeof node === "string") return { type: node as SchemaType };
  const { type, fields, items, values, list, keys, map, rules: _count, ...bounds } = node;
  const schema: Record<string, unknown> = { ...bounds, type: type === "array" ? "list" : type };
  if (fields) {
    schema["fields"] = Object.fromEntries(Object.entries(fields).map(([name, one]) => [name, fromGatewayNode(one)]));
  }
  if (items) schema["items"] = fromGatewayNode(items);
  if (values) {
    schema["values"] = fromGatewayNode(values);
    if (!fields) schema["type"] = "map";
  }
  if (list) schema["listType"] = list;
  if (keys) schema["listKeys"] = keys;
  if (map) schema["mapType"] = map;
  return schema as unknown as Schema;
}
