// Resources as JSON text, each made once: a table of a thousand rules of which one changed costs one
// rule and joining, not writing all of it anew, and every proxy of a scope is sent the same text. Secrets are not kept in text.

import type { ResourceOf, ResourceType, RouteTable, Rule } from "./model.ts";
import { toWire } from "./wire-codec.ts";

const texts = new WeakMap<object, string>();

/** What `JSON.stringify` makes of a resource as it travels. */
export function resourceText<T extends ResourceType>(type: T, resource: ResourceOf[T]): string {
  if (type === "secrets") return JSON.stringify(toWire(type, resource));
  if (type === "routeTables") return kept(texts, resource, () => [...tablePieces(resource as RouteTable)].join(""));
  return keptText(resource);
}

/** As {@link resourceText}, of one rule of a table. */
export function ruleText(rule: Rule): string {
  return keptText(rule);
}

/** The pieces of {@link resourceText}, of which the longest is a rule's or a smaller resource's. What they were joined to is not kept. */
export function resourcePieces<T extends ResourceType>(type: T, resource: ResourceOf[T]): Iterable<string> {
  return type === "routeTables" ? tablePieces(resource as RouteTable) : [resourceText(type, resource)];
}

/** About as many characters as {@link resourceText} has, without joining a table's rules. */
export function resourceSize<T extends ResourceType>(type: T, resource: ResourceOf[T]): number {
  if (type !== "routeTables") return resourceText(type, resource).length;
  let size = 0;
  for (const { rules } of (resource as RouteTable).hosts) for (const rule of rules) size += keptText(rule).length;
  return size;
}

function* tablePieces(table: RouteTable): Generator<string> {
  yield* record(
    table,
    "hosts",
    list(table.hosts, (host) =>
      record(
        host,
        "rules",
        list(host.rules, (rule) => [ruleText(rule)]),
      ),
    ),
  );
}

/** An object whose field `special` has a text of its own. */
function* record(value: object, special: string, pieces: Iterable<string>): Generator<string> {
  let before = "{";
  for (const [name, field] of Object.entries(value)) {
    if (field === undefined) continue;
    yield `${before}${JSON.stringify(name)}:`;
    if (name === special) yield* pieces;
    else yield JSON.stringify(field);
    before = ",";
  }
  yield before === "{" ? "{}" : "}";
}

function* list<V>(values: readonly V[], pieces: (value: V) => Iterable<string>): Generator<string> {
  let before = "[";
  for (const value of values) {
    yield before;
    yield* pieces(value);
    before = ",";
  }
  yield before === "[" ? "[]" : "]";
}

function keptText(value: object): string {
  return kept(texts, value, () => JSON.stringify(value));
}

function kept<K extends object>(cache: WeakMap<K, string>, key: K, make: () => string): string {
  let value = cache.get(key);
  if (value === undefined) {
    value = make();
    cache.set(key, value);
  }
  return value;
}
