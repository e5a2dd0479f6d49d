// Which of several matching rules goes first: HTTPRouteRule.matches (Gateway API), word by word. The key of a match is made
// once, when its route is translated; tables only compare keys.

import type { Match } from "../../model/model.ts";
import type { RouteKey } from "./names.ts";

export interface SortKey {
  /** Path kind, path length, method, headers, query parameters as one number: the larger goes first. */
  readonly weight: number;
  /** Creation time and name of the route: the smaller goes first. */
  readonly age: string;
  /** Position in the route: the smaller goes first. */
  readonly position: number;
}

/** The specification leaves regular expressions open: here they go after exact paths and before prefixes. */
const pathRank = { exact: 3, regex: 2, segments: 1, prefix: 1 } as const;

export function sortKey(match: Match, created: string, route: RouteKey, position: number): SortKey {
  const rank = match.path ? pathRank[match.path.kind] : 0;
  const length = Math.min(match.path?.value.length ?? 0, 9999);
  const method = match.method === undefined ? 0 : 1;
  const headers = Math.min(match.headers?.length ?? 0, 99);
  const query = Math.min(match.query?.length ?? 0, 99);
  return {
    weight: (((rank * 10_000 + length) * 10 + method) * 100 + headers) * 100 + query,
    age: `${created} ${route}`,
    position,
  };
}

export function compareSortKeys(a: SortKey, b: SortKey): number {
  if (a.weight !== b.weight) return b.weight - a.weight;
  if (a.age !== b.age) return a.age < b.age ? -1 : 1;
  return a.position - b.position;
}
