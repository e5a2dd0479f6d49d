// The one table of filters: their order, and why each stands where it does. A rule's filters run in this order whatever order
// the rule lists them in; of one kind, in the rule's order, and those of a weighted share behind all of the rule. Answers pass
// the other way round, the proxy's own included. Precedents: the phases of NGINX (limits before access, access before content)
// and the HTTP filters of Envoy as Istio and Envoy Gateway order them. `forwarded.ts` runs before all of them.

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
import { requestHeaders, responseHeaders } from "./header-change.ts";
import { jwt } from "./jwt.ts";
import { localRateLimit } from "./local-rate-limit.ts";
import { mirror } from "./mirror.ts";
import { query } from "./query-change.ts";
import { rewrite } from "./rewrite.ts";
import type { FilterRuntime } from "./runtime.ts";

const order: readonly { readonly filter: Filter<FilterConfig["kind"]>; readonly because: string }[] = [
  entry(compression, "last on the way out: codes what all others have made of the answer, and nobody changes it after"),
  entry(responseHeaders, "users' last word on what the client gets, on refusals of all that follow, too"),
  entry(addresses, "costs least, and nothing more is spent on who may not come"),
  entry(cors, "a preflight carries no credentials, so it is answered before they are asked for"),
  entry(
    localRateLimit,
    "before passwords and tokens: guessing is what it limits first (NGINX: preaccess before access)",
  ),
  entry(bodyLimit, "what is too long is refused before anybody reads or authorizes it"),
  entry(basicAuth, "credentials that are checked here come before questions to others"),
  entry(jwt, "as basicAuth; what it says of the user can be asked and counted by what follows"),
  entry(externalAuth, "asks another process, so only about requests that are good so far"),
  entry(fault, "stands for a slow or broken backend, so whoever would not reach that does not meet it"),
  entry(buffering, "reads bodies only of those who may send them, and before the backend is kept waiting"),
  entry(query, "what goes to the backend; after all that decides by what came"),
  entry(rewrite, "says where the request goes, and must not see what header filters did to the host"),
  entry(requestHeaders, "users' last word on what the backend gets: after everything that the proxy computes"),
  entry(mirror, "copies what the backend gets"),
  entry(cookies, "answers: first what the backend itself said is changed"),
  entry(errorPages, "answers: the page that stands for an error is then coded and marked as any other"),
];

function entry<Kind extends FilterConfig["kind"]>(filter: Filter<Kind>, because: string) {
  return { filter: filter as unknown as Filter<FilterConfig["kind"]>, because };
}

const rank = new Map(order.map(({ filter }, index) => [filter.kind, { filter, index }]));

/** Whether this proxy can do what a filter asks for. */
export function isKnownFilter(kind: FilterConfig["kind"]): boolean {
  return rank.has(kind);
}

/** The handlers of a rule or share, ready to run, in order. Throws an Error when a filter cannot be taken. */
export function compileFilters(
  filters: readonly FilterConfig[],
  runtime: FilterRuntime,
  match: PathMatch | undefined,
): Handlers[] {
  return filters
    .map((config) => ({ config, ...rank.get(config.kind)! }))
    .sort((a, b) => a.index - b.index)
    .map(({ config, filter }) => filter.compile(config, runtime, match));
}
