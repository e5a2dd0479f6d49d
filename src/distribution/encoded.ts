// The `update` message of the local protocol (`model/wire.ts`), written from texts that are made once a resource; of a route
// table that the proxy has in force only the differences are written, and what is large goes ahead in frames of its own.

import { type ResourceOf, type ResourceType, type RouteTable, resourceTypes } from "../model/model.ts";
import { resourceSize, resourceText, ruleText } from "../model/resource-text.ts";
import { NewRules, patchRouteTable } from "../model/route-table-patch.ts";
import { usualFrameLength } from "../model/wire.ts";
import type { Delta } from "./subscription.ts";

/** The messages of a delta as JSON: the `update`, and before it what of it is sent ahead. */
export function updateTexts(delta: Delta): string[] {
  const added = new NewRules();
  const tables = delta.upsert.routeTables ?? [];
  const isPatch = (table: RouteTable) =>
    delta.bases?.has(table.name) === true || resourceSize("routeTables", table) > usualFrameLength;
  const patches = tables.filter(isPatch).map((table) => patchRouteTable(delta.bases?.get(table.name), table, added));
  const parts = new Parts();
  for (const type of resourceTypes) {
    const resources: readonly ResourceOf[ResourceType][] = delta.upsert[type] ?? [];
    const whole = type === "routeTables" ? tables.filter((table) => !isPatch(table)) : resources;
    for (const one of whole) parts.add(type, resourceText(type, one));
  }
  for (const rule of added.rules) parts.add("rules", ruleText(rule));
  const { upsert, rules } = parts;
  const update = [
    '"type":"update"',
    `"version":${delta.version}`,
    `"upsert":${upsertText(upsert)}`,
    `"remove":${JSON.stringify(delta.remove)}`,
    ...(patches.length > 0 ? [`"patch":${JSON.stringify(patches)}`] : []),
    ...(rules.length > 0 ? [`"rules":[${rules.join()}]`] : []),
  ];
  return [...parts.ahead, `{${update.join()}}`];
}

/** Gathers what an update brings; whenever that is a frame's worth, it goes ahead. */
class Parts {
  readonly ahead: string[] = [];
  upsert = new Map<ResourceType, string[]>();
  rules: string[] = [];
  #length = 0;

  add(to: ResourceType | "rules", text: string): void {
    if (this.#length > 0 && this.#length + text.length > usualFrameLength) {
      this.ahead.push(`{"type":"ahead","upsert":${upsertText(this.upsert)},"rules":[${this.rules.join()}]}`);
      this.upsert = new Map();
      this.rules = [];
      this.#length = 0;
    }
    this.#length += text.length + 1;
    if (to === "rules") this.rules.push(text);
    else {
      const texts = this.upsert.get(to) ?? [];
      texts.push(text);
      this.upsert.set(to, texts);
    }
  }
}

function upsertText(upsert: ReadonlyMap<ResourceType, readonly string[]>): string {
  return `{${[...upsert].map(([type, texts]) => `"${type}":[${texts.join()}]`).join()}}`;
}
