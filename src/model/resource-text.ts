// Resources as JSON text and their fingerprints, each made once: a table of a thousand rules of which one changed costs one
// rule and joining, not writing all of it anew, and every proxy of a scope is sent the same text. Secrets are not kept in text.

import { fingerprintOfText } from "./fingerprint.ts";
import type { ResourceOf, ResourceType, RouteTable, Secret } from "./model.ts";
import { toWire } from "./wire-codec.ts";

const texts = new WeakMap<object, string>();
const fingerprints = new WeakMap<object, string>();

/** As `fingerprint` of the model, which is what the proxy computes from what it was sent. */
export function knownFingerprint<T extends ResourceType>(type: T, resource: ResourceOf[T]): string {
  if (type === "secrets") return (resource as Secret).fingerprint;
  return kept(fingerprints, resource, () => fingerprintOfText(resourceText(type, resource)));
}

/** What `JSON.stringify` makes of a resource as it travels. */
export function resourceText<T extends ResourceType>(type: T, resource: ResourceOf[T]): string {
  if (type === "secrets") return JSON.stringify(toWire(type, resource));
  if (type === "routeTables") return kept(texts, resource, () => tableText(resource as RouteTable));
  return keptText(resource);
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
