// What filters name beside their own values: backends that the proxy itself asks, and Secrets.

import type { Filter } from "./filters.ts";
import type { BackendName, RouteTable, SecretName } from "./model.ts";

export interface FilterReferences {
  /** By the field that names it, inside the filter. */
  readonly backends: readonly {
    readonly field: string;
    readonly name: BackendName;
    /** It must speak HTTP/2. */
    readonly grpc?: boolean;
  }[];
  readonly secrets: readonly { readonly field: string; readonly name: SecretName }[];
}

const none: FilterReferences = { backends: [], secrets: [] };

export function filterReferences(filter: Filter): FilterReferences {
  switch (filter.kind) {
    case "basicAuth":
      return { backends: [], secrets: [{ field: "users", name: filter.users }] };
    case "jwt":
      return {
        backends: filter.providers.flatMap(({ keys }, index) =>
          "backend" in keys ? [{ field: `providers[${index}].keys.backend`, name: keys.backend }] : [],
        ),
        secrets: [],
      };
    case "externalAuth":
      return {
        backends: [{ field: "service", name: filter.service, grpc: filter.protocol.kind === "grpc" }],
        secrets: [],
      };
    case "globalRateLimit":
      return { backends: [{ field: "service", name: filter.service, grpc: true }], secrets: [] };
    case "mirror":
      return { backends: [{ field: "backend", name: filter.backend }], secrets: [] };
    case "errorPages":
      return {
        backends: filter.pages.flatMap(({ answer }, index) =>
          "backend" in answer ? [{ field: `pages[${index}].answer.backend`, name: answer.backend }] : [],
        ),
        secrets: [],
      };
    default:
      return none;
  }
}

/** All filters of a table, those of shares included. */
export function* filtersOf(table: RouteTable): Generator<Filter> {
  for (const { rules } of table.hosts) {
    for (const { filters, action } of rules) {
      yield* filters;
      if (action.kind === "forward") for (const to of action.to) yield* to.filters;
    }
  }
}
