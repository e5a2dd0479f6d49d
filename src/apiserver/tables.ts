// Objects as the Table that `kubectl get` prints.

import type { KubeObject } from "../api/object.ts";
import type { Resource } from "../api/resource.ts";
import type { Context } from "./context.ts";
import type { Exchange } from "./exchange.ts";

export function tableOf(
  context: Context,
  exchange: Exchange,
  resource: Resource,
  items: readonly KubeObject[],
  metadata: object,
): Record<string, unknown> {
  const include = exchange.query.get("includeObject") ?? "Metadata";
  return {
    kind: "Table",
    apiVersion: "meta.k8s.io/v1",
    metadata,
    columnDefinitions: [{ name: "Name", type: "string", format: "name", description: "", priority: 0 }],
    rows: items.map((object) => ({
      cells: [object.metadata.name],
      object:
        include === "None"
          ? null
          : { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata: object.metadata },
    })),
  };
}
