// All filters of this proxy by their kind. In which order they run, and why, is the model's table (`model/filter-order.ts`), so
// that `decide` and the proxy cannot disagree; `forwarded.ts` runs before all of them.

import { inOrder } from "../../model/filter-order.ts";
import type { Filter as FilterConfig, PathMatch } from "../../model/model.ts";
import type { Filter, Handlers } from "../filter.ts";
import { addresses } from "./address-list.ts";
import { basicAuth } from "./basic-auth.ts";
import { bodyLimit } from "./body-limit.ts";
import { buffering } from "./buffering.ts";
import { compression } from "./compression.ts";
import { cookies } from "./cookie-change.ts";
import { cors } from "./cors.ts";
import { errorPages } from "./error-pages.ts";
import { externalAuth } from "./external-auth.ts";
import { fault } from "./fault.ts";
import { forwardingNames } from "./forwarded.ts";
import { globalRateLimit } from "./global-rate-limit.ts";
import { grpcWeb } from "./grpc-web.ts";
import { requestHeaders, responseHeaders } from "./header-change.ts";
import { jwt } from "./jwt.ts";
import { localRateLimit } from "./local-rate-limit.ts";
import { mirror } from "./mirror.ts";
import { query } from "./query-change.ts";
import { rewrite } from "./rewrite.ts";
import type { FilterRuntime } from "./runtime.ts";

const all = [
  compression,
  responseHeaders,
  addresses,
  cors,
  localRateLimit,
  bodyLimit,
  basicAuth,
  jwt,
  externalAuth,
  globalRateLimit,
  fault,
  grpcWeb,
  buffering,
  query,
  rewrite,
  requestHeaders,
  mirror,
  cookies,
  errorPages,
] as unknown as readonly Filter<FilterConfig["kind"]>[];

const byKind = new Map(all.map((filter) => [filter.kind, filter]));

/** Whether this proxy can do what a filter asks for. */
export function isKnownFilter(kind: FilterConfig["kind"]): boolean {
  return byKind.has(kind);
}

/** Filters that never look at what `forwarded.ts` puts into a request, nor change it. */
const blind: ReadonlySet<FilterConfig["kind"]> = new Set([
  "compression",
  "responseHeaders",
  "addresses",
  "cors",
  "bodyLimit",
  "grpcWeb",
  "buffering",
  "query",
  "rewrite",
  "cookies",
] as const);

/** Whether forwarding headers must be there one by one for these filters; otherwise finished lines will do. */
export function lookAtForwarding(filters: readonly FilterConfig[]): boolean {
  return filters.some((filter) => {
    if (blind.has(filter.kind)) return false;
    const names = namesOf(filter);
    return names === undefined || names.some((name) => forwardingNames.has(name));
  });
}

/** The request fields that a filter looks at, where it says which. */
function namesOf(filter: FilterConfig): readonly string[] | undefined {
  switch (filter.kind) {
    case "requestHeaders": {
      const { set, add, remove } = filter.change;
      return [...[...set, ...add].map(({ name }) => name), ...remove];
    }
    case "localRateLimit":
      return [...filter.key, ...(filter.when ?? [])].flatMap((one) => ("name" in one ? [one.name] : []));
    case "fault":
      return (filter.when ?? []).map(({ name }) => name);
    default:
      return undefined;
  }
}

/** The handlers of a rule or share, ready to run, in order. Throws an Error when a filter cannot be taken. */
export function compileFilters(
  filters: readonly FilterConfig[],
  runtime: FilterRuntime,
  match: PathMatch | undefined,
): Handlers[] {
  return inOrder(filters).map((config) => byKind.get(config.kind)!.compile(config, runtime, match));
}
