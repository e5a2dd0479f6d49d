// Objects as the Table that `kubectl get` prints.

import type { KubeObject } from "../api/object.ts";
import type { Resource } from "../api/resource.ts";
import { StatusError } from "../api/status-error.ts";
import { type IncludeObject, type Table, tableFor } from "../api/table.ts";
import type { Context } from "./context.ts";
import type { Exchange } from "./exchange.ts";

export function tableOf(
  context: Context,
  exchange: Exchange,
  resource: Resource,
  items: readonly KubeObject[],
  metadata: Readonly<Record<string, unknown>>,
  withColumns = true,
): Table {
  const includeObject = exchange.query.get("includeObject") || undefined;
  if (includeObject && !["None", "Metadata", "Object"].includes(includeObject)) {
    throw new StatusError(400, "BadRequest", `unrecognized includeObject value: ${JSON.stringify(includeObject)}`);
  }
  return tableFor(context.store.scheme, resource, items, {
    now: context.clock.now(),
    includeObject: includeObject as IncludeObject | undefined,
    metadata,
    withColumns,
  });
}
