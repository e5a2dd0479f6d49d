// OpenAPI v3 documents, one per group version, made from the schemas of the scheme: what `kubectl explain`, `apply`, `edit` and
// `diff` read. Names, types, enums, list and patch metadata, and the operations that say which patches are understood; no prose,
// because the facts that the scheme is made from have none.

import { createHash } from "node:crypto";
import { compact, type Json } from "./data.ts";
import { definition, definitionNames } from "./definitions.ts";
import { apiVersionOf } from "./resource.ts";
import type { Schema } from "./schema.ts";
import type { Scheme, SchemeEntry } from "./scheme.ts";

/** /openapi/v3: where the document of each group version is. The hash changes with the scheme. */
export function openapiIndex(scheme: Scheme): Json {
  const paths: Record<string, unknown> = {};
  for (const { group, version } of groupVersions(scheme)) {
    const path = documentPath(group, version);
    const entries = entriesOf(scheme, group, version);
    const facts = entries.map((entry) => [entry.resource.kind, entry.custom ? scheme.generation : 0]);
    const hash = createHash("sha256")
      .update(JSON.stringify(["1", path, facts]))
      .digest("hex")
      .toUpperCase()
      .slice(0, 32);
    paths[path] = { serverRelativeURL: `/openapi/v3/${path}?hash=${hash}` };
  }
  return { paths };
}

/** `/openapi/v3/apis/apps/v1` → the document; `path` is what follows `/openapi/v3/`. Undefined when it is not served. */
export function openapiDocument(scheme: Scheme, path: string): Json | undefined {
  const found = groupVersions(scheme).find(({ group, version }) => documentPath(group, version) === path);
  if (!found) return undefined;
  const entries = entriesOf(scheme, found.group, found.version);
  const schemas = new Components();
  const paths: Record<string, unknown> = {};
  for (const entry of entries) {
    const name = schemas.root(entry);
    const list = `${name}List`;
    schemas.put(list, listSchema(entry, name));
    Object.assign(paths, pathsOf(entry, name, list));
  }
  return {
    openapi: "3.0.0",
    info: { title: "Kubernetes", version: "v1.36.0" },
    paths,
    components: { schemas: schemas.all() },
  };
}

function groupVersions(scheme: Scheme): readonly { group: string; version: string }[] {
  const seen = new Map<string, { group: string; version: string }>();
  for (const { group, version } of scheme.resources()) seen.set(`${group}/${version}`, { group, version });
  return [...seen.values()];
}

const documentPath = (group: string, version: string) => (group === "" ? `api/${version}` : `apis/${group}/${version}`);

function entriesOf(scheme: Scheme, group: string, version: string): readonly SchemeEntry[] {
  return scheme.entries().filter(({ resource }) => resource.group === group && resource.version === version);
}

const kindOf = ({ resource }: SchemeEntry) => ({
  group: resource.group,
  kind: resource.kind,
  version: resource.version,
});

const reference = (name: string) => ({ $ref: `#/components/schemas/${name}` });

/** The schemas of one document: those of its kinds, and all that they refer to. */
class Components {
  readonly #schemas = new Map<string, Json>();

  put(name: string, schema: Json): void {
    this.#schemas.set(name, schema);
  }

  all(): Json {
    return Object.fromEntries([...this.#schemas].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  /** The name of a kind's own schema. */
  root(entry: SchemeEntry): string {
    const { resource, schema } = entry;
    const extension = { "x-kubernetes-group-version-kind": [kindOf(entry)] };
    if (schema.name) {
      this.need(schema.name);
      this.put(schema.name, { ...this.#schemas.get(schema.name), ...extension });
      return schema.name;
    }
    const name = `${resource.group.split(".").reverse().join(".")}.${resource.version}.${resource.kind}`;
    this.put(name, { ...this.inline(schema), ...extension });
    return name;
  }

  /** Makes a built-in type part of the document. */
  need(name: string): void {
    if (this.#schemas.has(name)) return;
    this.#schemas.set(name, {}); // types may refer to themselves
    const schema = definition(name);
    this.#schemas.set(name, schema.type === "object" ? this.inline(schema) : leaf(schema));
  }

  /** A schema where it is used: built-in types by reference, all else written out. */
  use(schema: Schema): Json {
    if (!schema.name || !isDefinition(schema.name)) return this.inline(schema);
    this.need(schema.name);
    const extras = annotations(schema, true);
    return Object.keys(extras).length === 0 ? reference(schema.name) : { allOf: [reference(schema.name)], ...extras };
  }

  inline(schema: Schema): Json {
    const own = annotations(schema, false);
    switch (schema.type) {
      case "object": {
        const fields = schema.fields ?? {};
        const properties = Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, this.use(field)]));
        return compact({
          type: "object",
          ...own,
          required: schema.required?.length ? schema.required : undefined,
          properties: Object.keys(properties).length ? properties : undefined,
          additionalProperties: schema.values ? this.use(schema.values) : undefined,
        });
      }
      case "map":
        return { type: "object", ...own, additionalProperties: schema.values ? this.use(schema.values) : {} };
      case "list":
        return { type: "array", ...own, items: schema.items ? this.use(schema.items) : {} };
      default:
        return { ...leaf(schema), ...own };
    }
  }
}

const names = new Set<string>();
function isDefinition(name: string): boolean {
  if (names.size === 0) for (const one of definitionNames()) names.add(one);
  return names.has(name);
}

function leaf(schema: Schema): Json {
  switch (schema.type) {
    case "quantity":
      return { oneOf: [{ type: "string" }, { type: "number" }] };
    case "int-or-string":
      return schema.name
        ? { oneOf: [{ type: "integer" }, { type: "string" }], format: "int-or-string" }
        : { "x-kubernetes-int-or-string": true };
    case "any":
      return schema.name?.endsWith("RawExtension") || schema.name?.endsWith("FieldsV1") ? { type: "object" } : {};
    default:
      return compact({ type: schema.type, format: schema.format });
  }
}

/** Bounds, defaults and the x-kubernetes extensions. `byReference` leaves out what the referred type says itself. */
function annotations(schema: Schema, byReference: boolean): Json {
  const own = compact({
    default: schema.default,
    "x-kubernetes-list-type": schema.listType,
    "x-kubernetes-list-map-keys": schema.listKeys,
    "x-kubernetes-patch-strategy": schema.patchStrategy,
    "x-kubernetes-patch-merge-key": schema.patchMergeKey,
    "x-kubernetes-preserve-unknown-fields": schema.preserveUnknown && !schema.name ? true : undefined,
  });
  if (byReference) return own;
  return compact({
    ...own,
    description: schema.description,
    enum: schema.enum,
    nullable: schema.nullable,
    minimum: schema.minimum,
    maximum: schema.maximum,
    minLength: schema.minLength,
    maxLength: schema.maxLength,
    pattern: schema.pattern,
    minItems: schema.minItems,
    maxItems: schema.maxItems,
    minProperties: schema.minProperties,
    maxProperties: schema.maxProperties,
    format: schema.type === "object" || schema.type === "map" || schema.type === "list" ? undefined : schema.format,
    "x-kubernetes-map-type": schema.mapType,
  });
}

function listSchema(entry: SchemeEntry, item: string): Json {
  return {
    type: "object",
    required: ["items"],
    properties: {
      apiVersion: { type: "string" },
      items: { type: "array", items: reference(item) },
      kind: { type: "string" },
      metadata: { type: "object" },
    },
    "x-kubernetes-group-version-kind": [{ ...kindOf(entry), kind: entry.listKind }],
  };
}

const parameters = (names: readonly string[]) =>
  names.map((name) => ({ name, in: "query", schema: { type: "string", uniqueItems: true } }));
const writing = parameters(["dryRun", "fieldManager", "fieldValidation"]);
const patching = [...writing, { name: "force", in: "query", schema: { type: "boolean", uniqueItems: true } }];
const listing = parameters(["labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "watch"]);

function pathsOf(entry: SchemeEntry, schema: string, list: string): Json {
  const { resource } = entry;
  const prefix = resource.group === "" ? `/api/${resource.version}` : `/apis/${apiVersionOf(resource)}`;
  const collection =
    resource.scope === "Namespaced"
      ? `${prefix}/namespaces/{namespace}/${resource.plural}`
      : `${prefix}/${resource.plural}`;
  const extension = (action: string) => ({
    "x-kubernetes-action": action,
    "x-kubernetes-group-version-kind": kindOf(entry),
  });
  const answer = (name: string) => ({
    responses: { "200": { description: "OK", content: { "application/json": { schema: reference(name) } } } },
  });
  const body = (types: readonly string[], name: string) => ({
    requestBody: {
      required: true,
      content: Object.fromEntries(types.map((type) => [type, { schema: reference(name) }])),
    },
  });
  const patches = [
    "application/json-patch+json",
    "application/merge-patch+json",
    ...(entry.custom ? [] : ["application/strategic-merge-patch+json"]),
    "application/apply-patch+yaml",
  ];
  const has = (verb: string) => resource.verbs.includes(verb);
  const onCollection = compact({
    get: has("list") ? { ...extension("list"), parameters: listing, ...answer(list) } : undefined,
    post: has("create")
      ? { ...extension("post"), parameters: writing, ...body(["*/*"], schema), ...answer(schema) }
      : undefined,
    delete: has("deletecollection")
      ? { ...extension("deletecollection"), parameters: listing, ...answer(schema) }
      : undefined,
  });
  const onObject = compact({
    get: has("get") ? { ...extension("get"), ...answer(schema) } : undefined,
    put: has("update")
      ? { ...extension("put"), parameters: writing, ...body(["*/*"], schema), ...answer(schema) }
      : undefined,
    patch: has("patch")
      ? { ...extension("patch"), parameters: patching, ...body(patches, schema), ...answer(schema) }
      : undefined,
    delete: has("delete")
      ? { ...extension("delete"), parameters: parameters(["dryRun"]), ...answer(schema) }
      : undefined,
  });
  return { [collection]: onCollection, [`${collection}/{name}`]: onObject };
}
