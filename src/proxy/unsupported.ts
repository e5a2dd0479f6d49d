// What the model can say and this proxy does not do yet. A resource that asks for it is refused with the words given here, so
// that no policy is ever silently left out. Who builds one of them takes its line away.

import type { Backend, RouteTable, WeightedBackend } from "../model/model.ts";
import { isKnownFilter } from "./filters/order.ts";

/** Why a backend cannot be taken; undefined when it can. */
export function unsupportedBackend(backend: Backend): string | undefined {
  // The header comes before the handshake, where no socket lets us write.
  if (backend.tls && backend.proxyProtocol) return said("proxyProtocol with tls");
  return undefined;
}

/** Why a route table cannot be taken. */
export function unsupportedTable(table: RouteTable): string | undefined {
  for (const { rules } of table.hosts) {
    for (const rule of rules) {
      const to: readonly WeightedBackend[] = rule.action.kind === "forward" ? rule.action.to : [];
      const filters = [...rule.filters, ...to.flatMap((one) => one.filters)];
      const filter = filters.find(({ kind }) => !isKnownFilter(kind));
      if (filter) return `${rule.name}: ${said(`filter ${filter.kind}`)}`;
    }
  }
  return undefined;
}

function said(what: string): string {
  return `${what} is not supported by this proxy yet`;
}
