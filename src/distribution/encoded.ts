// The `update` message of the local protocol (`model/wire.ts`), written from texts that are made once a resource; of a route
// table that the proxy has in force only the differences are written.

import { type ResourceOf, type ResourceType, type RouteTable, resourceTypes } from "../model/model.ts";
import { resourceText } from "../model/resource-text.ts";
import { patchRouteTable } from "../model/route-table-patch.ts";
import type { Delta } from "./subscription.ts";

/** The `update` message of a delta (`model/wire.ts`) as JSON. */
export function updateText(delta: Delta): string {
  const upsert: string[] = [];
  for (const type of resourceTypes) {
    const resources: readonly ResourceOf[ResourceType][] = delta.upsert[type] ?? [];
    const whole =
      type === "routeTables"
        ? (resources as readonly RouteTable[]).filter(({ name }) => !delta.bases?.has(name))
        : resources;
    if (whole.length > 0) upsert.push(`"${type}":${list(whole, (one) => resourceText(type, one))}`);
  }
  const patches = (delta.upsert.routeTables ?? []).flatMap((table) => {
    const base = delta.bases?.get(table.name);
    return base ? [patchRouteTable(base.table, base.version, table)] : [];
  });
  const fields = [
    ...[
      '"type":"update"',
      `"version":${delta.version}`,
      `"upsert":{${upsert.join()}}`,
      `"remove":${JSON.stringify(delta.remove)}`,
    ],
    ...(patches.length > 0 ? [`"patch":${JSON.stringify(patches)}`] : []),
  ];
  return `{${fields.join()}}`;
}

function list<V>(values: readonly V[], text: (value: V) => string): string {
  return `[${values.map(text).join()}]`;
}
