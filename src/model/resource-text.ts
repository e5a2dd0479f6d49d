// Resources as JSON text, each made once: a table of a thousand rules of which one changed costs one
// rule and joining, not writing all of it anew, and every proxy of a scope is sent the same text. Secrets are not kept in text.

import type { ResourceOf, ResourceType, RouteTable } from "./model.ts";
import { toWire } from "./wire-codec.ts";

const texts = new WeakMap<object, string>();

/** What `JSON.stringify` makes of a resource as it travels. */
export function resourceText<T extends ResourceType>(type: T, resource: ResourceOf[T]): string {
  if (type === "secrets") return JSON.stringify(toWire(type, resource));
  if (type === "routeTables") return kept(texts, resource, () => tableText(resource as RouteTable));
  return keptText(resource);
}

/** About as many characters as {@link resourceText} has, without joining a table's rules. */
export function resourceSize<T extends ResourceType>(type: T, resource: ResourceOf[T]): number {
  if (type !== "routeTables") return resourceText(type, resource).length;
  let size = 0;
  for (const { rules } of (resource as RouteTable).hosts) for (const rule of rules) size += keptText(rule).length;
  return size;
}

function tableText(table: RouteTable): string {
  return record(table, "hosts", () =>
    list(table.hosts, (host) => record(host, "rules", () => list(host.rules, keptText))),
  );
}

/** An object whose field `special` has a text of its own. */
function record(value: object, special: string, text: () => string): string {
  const fields: string[] = [];
  for (const [name, field] of Object.entries(value)) {
    if (field !== undefined)
      fields.push(`${JSON.stringify(name)}:${name === special ? text() : JSON.stringify(field)}`);
  }
  return `{${fields.join()}}`;
}

function list<V>(values: readonly V[], text: (value: V) => string): string {
  return `[${values.map(text).join()}]`;
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
