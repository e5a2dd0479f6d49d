// The one table of kinds: which resources exist, under which names, with which types. Built-in kinds come from
// `generated/resources.json` (Kubernetes 1.36, Gateway API 1.6); CustomResourceDefinitions are added and removed while
// it is in use. Everything else in this room asks the scheme; no other list of kinds exists.

import { definition, gatewaySchema, generated } from "./definitions.ts";
import * as constants from "./generated/constants.ts";
import { apiVersionOf, type Resource, type ResourceKey, resourceKey } from "./resource.ts";
import type { Schema } from "./schema.ts";

/** A subresource with the kind that it reads and writes (`scale` → autoscaling/v1 Scale). */
export interface Subresource {
  readonly name: string;
  readonly kind: string;
  readonly group?: string;
  readonly version?: string;
  readonly verbs: readonly string[];
}

/** A column of a table. `jsonPath` where it is declared (custom resources); built-in cells are computed in `table.ts`. */
export interface Column {
  readonly name: string;
  readonly type: string;
  readonly format: string;
  readonly priority: number;
  readonly description?: string;
  readonly jsonPath?: string;
}

/** Where a custom resource keeps what its scale subresource shows. */
export interface ScalePaths {
  readonly specReplicasPath: string;
  readonly statusReplicasPath: string;
  readonly labelSelectorPath?: string;
}

/** All that the scheme knows of one resource. */
export interface SchemeEntry {
  readonly resource: Resource;
  readonly schema: Schema;
  readonly columns: readonly Column[];
  readonly subresources: readonly Subresource[];
  /** Declared by a CRD (or, like the Gateway API, treated as if): types are checked by its schema, not by a Go struct. */
  readonly custom: boolean;
  /** The version that objects are kept in; one per resource key. */
  readonly storage: boolean;
  readonly scale?: ScalePaths;
  readonly listKind: string;
  /** Fields that field selectors may use, besides metadata.name and metadata.namespace (CRD selectableFields). */
  readonly selectableFields?: readonly string[];
}

export interface AddOptions {
  readonly columns?: readonly Column[];
  readonly subresources?: readonly Subresource[];
  readonly storage?: boolean;
  readonly scale?: ScalePaths;
  readonly listKind?: string;
  readonly selectableFields?: readonly string[];
}

interface Row extends Omit<Resource, "subresources"> {
  readonly subresources?: readonly Subresource[];
  readonly columns: readonly (readonly [string, string, string, number?])[];
  readonly type?: string;
  readonly custom?: boolean;
  readonly storage?: boolean;
}

export class Scheme {
  readonly #entries = new Map<string, SchemeEntry>(); // by `version/key`
  readonly #byKey = new Map<ResourceKey, SchemeEntry[]>();
  readonly #byKind = new Map<string, SchemeEntry>(); // by `apiVersion kind`
  #generation = 0;

  /** All served resources, one row per version. */
  resources(): readonly Resource[] {
    return [...this.#entries.values()].map((entry) => entry.resource);
  }

  entries(): readonly SchemeEntry[] {
    return [...this.#entries.values()];
  }

  /** Grows with every change; documents made from the scheme are good as long as it is the same. */
  get generation(): number {
    return this.#generation;
  }

  /** The resource in its storage version. */
  byKey(key: ResourceKey): Resource | undefined {
    return this.#storageEntry(key)?.resource;
  }

  byPath(group: string, version: string, plural: string): Resource | undefined {
    return this.#entries.get(`${version}/${resourceKey({ group, plural })}`)?.resource;
  }

  byKind(apiVersion: string, kind: string): Resource | undefined {
    return this.#byKind.get(`${apiVersion} ${kind}`)?.resource;
  }

  /** All served versions of a resource, the preferred one first. */
  versionsOf(key: ResourceKey): readonly Resource[] {
    return (this.#byKey.get(key) ?? []).map((entry) => entry.resource);
  }

  /** The version in which objects of this resource are kept. */
  storageVersion(resource: Resource): Resource {
    return this.byKey(resourceKey(resource)) ?? resource;
  }

  entry(resource: Resource): SchemeEntry {
    const found = this.#entries.get(`${resource.version}/${resourceKey(resource)}`);
    if (!found) throw new Error(`the scheme has no ${resource.plural} in ${apiVersionOf(resource)}`);
    return found;
  }

  /** The structural type of a resource's objects. */
  schemaOf(resource: Resource): Schema {
    return this.entry(resource).schema;
  }

  /** Adds a resource, or replaces the same version of it. */
  add(resource: Resource, schema: Schema, options: AddOptions = {}): void {
    this.#put({
      resource,
      schema,
      columns: options.columns ?? [ageColumn],
      subresources: options.subresources ?? [],
      custom: true,
      storage: options.storage ?? true,
      listKind: options.listKind ?? `${resource.kind}List`,
      ...(options.scale ? { scale: options.scale } : {}),
      ...(options.selectableFields ? { selectableFields: options.selectableFields } : {}),
    });
  }

  /** Removes a resource with all its versions. */
  remove(key: ResourceKey): void {
    for (const entry of this.#byKey.get(key) ?? []) {
      this.#entries.delete(`${entry.resource.version}/${key}`);
      this.#byKind.delete(`${apiVersionOf(entry.resource)} ${entry.resource.kind}`);
    }
    this.#byKey.delete(key);
    this.#generation++;
  }

  /** For {@link builtinScheme}. */
  addRow(row: Row): void {
    const { columns, subresources, type, custom, storage, ...names } = row;
    const bare: Resource = {
      ...names,
      ...(subresources?.length ? { subresources: subresources.map((one) => one.name) } : {}),
    };
    const resource = constantOf(bare) ?? bare;
    const apiVersion = apiVersionOf(resource);
    let schema: Schema | undefined;
    this.#put({
      resource,
      get schema() {
        schema ??= custom ? gatewaySchema(apiVersion, names.kind) : definition(type!);
        return schema;
      },
      columns: custom ? customColumns(columns) : columns.map(builtinColumn),
      subresources: (subresources ?? []).map((one) => ({ ...one, ...kindGroups[one.kind] })),
      custom: custom ?? false,
      storage: storage ?? !custom,
      listKind: `${names.kind}List`,
    });
  }

  #put(entry: SchemeEntry): void {
    const { resource } = entry;
    const key = resourceKey(resource);
    this.#entries.set(`${resource.version}/${key}`, entry);
    this.#byKind.set(`${apiVersionOf(resource)} ${resource.kind}`, entry);
    const versions = (this.#byKey.get(key) ?? []).filter((one) => one.resource.version !== resource.version);
    versions.push(entry);
    versions.sort((a, b) => compareVersions(a.resource.version, b.resource.version));
    this.#byKey.set(key, versions);
    this.#generation++;
  }

  #storageEntry(key: ResourceKey): SchemeEntry | undefined {
    const versions = this.#byKey.get(key);
    return versions?.find((entry) => entry.storage) ?? versions?.[0];
  }
}

/** The kinds of Kubernetes 1.36 and of the Gateway API 1.6. Each call makes a table of its own. */
export function builtinScheme(): Scheme {
  const scheme = new Scheme();
  for (const row of generated<Row[]>("resources.json")) {
    // Autoscalers are kept in autoscaling/v2 (`conversion.ts`).
    const other = row.group === "autoscaling" && row.version === "v1";
    if (row.type || row.custom) scheme.addRow(other ? { ...row, storage: false } : row);
  }
  return scheme;
}

/** Kubernetes' version order (apimachinery version.CompareKubeAwareVersionStrings): v2, v1, v1beta1, v1alpha1, others. */
export function compareVersions(a: string, b: string): number {
  const parse = (text: string) => /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(text);
  const [left, right] = [parse(a), parse(b)];
  if (!left || !right) return left ? -1 : right ? 1 : a < b ? -1 : a > b ? 1 : 0;
  const rank = (match: RegExpExecArray) => (match[2] === undefined ? 2 : match[2] === "beta" ? 1 : 0);
  return rank(right) - rank(left) || Number(right[1]) - Number(left[1]) || Number(right[3] ?? 0) - Number(left[3] ?? 0);
}

export const nameColumn: Column = { name: "Name", type: "string", format: "name", priority: 0 };
export const ageColumn: Column = {
  name: "Age",
  type: "date",
  format: "",
  priority: 0,
  jsonPath: ".metadata.creationTimestamp",
};

const builtinColumn = ([name, type, format, priority]: Row["columns"][number]): Column => ({
  name,
  type,
  format,
  priority: priority ?? 0,
});

/** Columns of the Gateway API's rows are `[name, type, jsonPath]`; without any, a CRD shows its age. */
function customColumns(columns: Row["columns"]): readonly Column[] {
  if (columns.length === 0) return [ageColumn];
  return columns.map(([name, type, jsonPath, priority]) => ({
    name,
    type,
    format: "",
    priority: priority ?? (name === "Description" ? 1 : 0),
    jsonPath,
  }));
}

/** The groups of subresource kinds that are not their parent's. */
const kindGroups: Readonly<Record<string, { readonly group: string; readonly version: string }>> = {
  Scale: { group: "autoscaling", version: "v1" },
  Eviction: { group: "policy", version: "v1" },
  TokenRequest: { group: "authentication.k8s.io", version: "v1" },
};

const constantsByPath = new Map<string, Resource>(
  Object.values(constants).map((resource) => [`${resource.version}/${resourceKey(resource)}`, resource]),
);

/** The constant of `kinds.ts` for the same resource, so that there is one object for it. */
function constantOf(resource: Resource): Resource | undefined {
  return constantsByPath.get(`${resource.version}/${resourceKey(resource)}`);
}
