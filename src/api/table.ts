// Tables (meta.k8s.io/v1 Table): what `kubectl get` prints. Columns come from the scheme; the cells of built-in kinds are
// computed in `printers.ts`, those of custom resources by the JSONPath of their columns.

import { isRecord } from "./data.ts";
import { ageOf } from "./duration.ts";
import { select } from "./json-path.ts";
import type { KubeObject } from "./object.ts";
import { printers } from "./printers.ts";
import { type Resource, resourceKey } from "./resource.ts";
import { type Column, nameColumn, type Scheme, type SchemeEntry } from "./scheme.ts";

export type Cell = string | number | boolean | null;
export type IncludeObject = "None" | "Metadata" | "Object";

export interface TableOptions {
  /** Milliseconds since the Unix epoch, for ages. */
  readonly now: number;
  /** What each row carries of its object; metadata when absent. */
  readonly includeObject?: IncludeObject | undefined;
  /** The list's metadata (resourceVersion, continue, remainingItemCount). */
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  /** False leaves the column definitions out, as in all but the first event of a watch. */
  readonly withColumns?: boolean | undefined;
}

export interface TableRow {
  readonly cells: readonly Cell[];
  readonly object: unknown;
}

export interface Table {
  readonly kind: "Table";
  readonly apiVersion: "meta.k8s.io/v1";
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly columnDefinitions: readonly Omit<Column, "jsonPath">[] | null;
  readonly rows: readonly TableRow[];
}

/** The table of some objects of one resource. */
export function tableFor(
  scheme: Scheme,
  resource: Resource,
  objects: readonly KubeObject[],
  options: TableOptions,
): Table {
  const entry = scheme.entry(resource);
  const columns = columnsOf(entry);
  return {
    kind: "Table",
    apiVersion: "meta.k8s.io/v1",
    metadata: options.metadata ?? {},
    columnDefinitions:
      options.withColumns === false
        ? null
        : columns.map(({ name, type, format, description, priority }) => ({
            name,
            type,
            format,
            description: description ?? "",
            priority,
          })),
    rows: objects.map((object) => ({
      cells: cellsOf(entry, columns, object, options.now),
      object: rowObject(object, options.includeObject ?? "Metadata"),
    })),
  };
}

/** The columns of a resource's table, its name first. */
export function columnsOf(entry: SchemeEntry): readonly Column[] {
  if (entry.custom) return [nameColumn, ...entry.columns];
  return entry.columns.length > 0 ? entry.columns : [nameColumn, createdAt];
}

const createdAt: Column = { name: "Created At", type: "date", format: "", priority: 0 };

/** metadata alone, in the form that rows and metadata clients get. */
export function partialMetadata(object: KubeObject): Record<string, unknown> {
  return { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata: object.metadata };
}

function rowObject(object: KubeObject, include: IncludeObject): unknown {
  if (include === "None") return null;
  return include === "Object" ? object : partialMetadata(object);
}

function cellsOf(entry: SchemeEntry, columns: readonly Column[], object: KubeObject, now: number): readonly Cell[] {
  if (entry.custom) {
    return columns.map((column) => (column === nameColumn ? object.metadata.name : customCell(column, object, now)));
  }
  const printer = printers[resourceKey(entry.resource)];
  if (printer) return printer(object, now);
  return columns.map((column) => {
    if (column.name === "Name") return object.metadata.name;
    if (column.name === "Age") return ageOf(object.metadata.creationTimestamp, now);
    if (column.name === "Created At") return object.metadata.creationTimestamp ?? null;
    return null;
  });
}

/** A declared column (apiextensions tableconvertor): the first match only; a type that does not fit prints nothing. */
function customCell(column: Column, object: KubeObject, now: number): Cell {
  const value = select(object, column.jsonPath ?? "")?.[0];
  if (value === undefined || value === null) return null;
  switch (column.type) {
    case "date":
      return typeof value === "string" ? ageOf(value, now) : "<unknown>";
    case "integer":
      return typeof value === "number" ? Math.trunc(value) : null;
    case "number":
      return typeof value === "number" ? value : null;
    case "boolean":
      return typeof value === "boolean" ? value : null;
    default:
      return isRecord(value) || Array.isArray(value) ? JSON.stringify(value) : String(value);
  }
}
