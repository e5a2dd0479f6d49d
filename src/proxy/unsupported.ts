// What the model can say and this proxy does not do, or may not do as it was started. A resource that asks for it is refused with
// the words given here, so that no policy is ever silently left out.

import { messageOf } from "../base/errors.ts";
import type { Backend, RouteTable, WeightedBackend } from "../model/model.ts";
import { isKnownFilter } from "./filters/order.ts";
import { checkOriginalSource } from "./upstream/original-source.ts";

/** Why a backend cannot be taken; undefined when it can. */
export function unsupportedBackend(backend: Backend): string | undefined {
  if (!backend.originalSource) return undefined;
  try {
    checkOriginalSource(backend.originalSource.mark);
    return undefined;
  } catch (error) {
    return `originalSource: ${messageOf(error)}`;
  }
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
