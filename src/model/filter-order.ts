// The one table of filters: their order, and why each stands where it does. A rule's filters run in this order whatever order
// the rule lists them in; of one kind, in the rule's order, and those of a weighted share behind all of the rule. Answers pass
// the other way round, the proxy's own included. Precedents: the phases of NGINX (limits before access, access before content)
// and the HTTP filters of Envoy as Istio and Envoy Gateway order them.

import type { Filter, FilterKind } from "./filters.ts";

const order: readonly { readonly kind: FilterKind; readonly because: string }[] = [
  at("compression", "last on the way out: codes what all others have made of the answer, and nobody changes it after"),
  at("responseHeaders", "users' last word on what the client gets, on refusals of all that follow, too"),
  at("addresses", "costs least, and nothing more is spent on who may not come"),
  at("cors", "a preflight carries no credentials, so it is answered before they are asked for"),
  at(
    "localRateLimit",
    "before passwords and tokens: guessing is what it limits first (NGINX: preaccess before access)",
  ),
  at("bodyLimit", "what is too long is refused before anybody reads or authorizes it"),
  at("basicAuth", "credentials that are checked here come before questions to others"),
  at("jwt", "as basicAuth; what it says of the user can be asked and counted by what follows"),
  at("externalAuth", "asks another process, so only about requests that are good so far"),
  at("globalRateLimit", "may count by who was authenticated, and asks another process"),
  at("fault", "stands for a slow or broken backend, so whoever would not reach that does not meet it"),
  at("grpcWeb", "behind all that refuses by what came (bodyLimit counts the text form); those that follow see gRPC"),
  at("buffering", "reads bodies only of those who may send them, and before the backend is kept waiting"),
  at("query", "what goes to the backend; after all that decides by what came"),
  at("rewrite", "says where the request goes, and must not see what header filters did to the host"),
  at("requestHeaders", "users' last word on what the backend gets: after everything that the proxy computes"),
  at("mirror", "copies what the backend gets"),
  at("cookies", "answers: first what the backend itself said is changed"),
  at("errorPages", "answers: the page that stands for an error is then coded and marked as any other"),
];

function at(kind: FilterKind, because: string) {
  return { kind, because };
}

const rank = new Map(order.map(({ kind }, index) => [kind, index]));

/** Filters of one rule, or of one share, in the order they run in. */
export function inOrder(filters: readonly Filter[]): readonly Filter[] {
  if (filters.length < 2) return filters;
  return [...filters].sort((a, b) => (rank.get(a.kind) ?? order.length) - (rank.get(b.kind) ?? order.length));
}
