// What the model can say and this proxy does not do, or may not do as it was started. A resource that asks for it is refused with
// the words given here, so that no policy is ever silently left out.

import { messageOf } from "../base/errors.ts";
import type { Backend, Filter, Rule, WeightedBackend } from "../model/model.ts";
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

/** Why a rule cannot be taken. */
export function unsupportedRule(rule: Rule): string | undefined {
  const to: readonly WeightedBackend[] = rule.action.kind === "forward" ? rule.action.to : [];
  const unknown = ({ kind }: Filter) => !isKnownFilter(kind);
  const filter = rule.filters.find(unknown) ?? to.flatMap(({ filters }) => filters).find(unknown);
  return filter && said(`filter ${filter.kind}`);
}

function said(what: string): string {
  return `${what} is not supported by this proxy yet`;
}
