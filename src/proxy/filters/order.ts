// The one table of filters: their order, and why each stands where it does. A rule's filters run in this order whatever order
// the rule lists them in; of one kind, in the rule's order, and those of a weighted share behind those of the rule. Answers
// pass the chain the other way round. `forwarded.ts` runs before all of them.

import type { Filter as FilterConfig, PathMatch } from "../../model/model.ts";
import type { RequestHead, ResponseHead } from "../exchange.ts";
import type { Filter, FilterContext, Handlers } from "../filter.ts";
import { requestHeaders, responseHeaders } from "./header-change.ts";
import { rewrite } from "./rewrite.ts";

const order: readonly { readonly filter: Filter<FilterConfig["kind"]>; readonly because: string }[] = [
  entry(rewrite, "says where the request goes, and must not see what header filters did to the host"),
  entry(requestHeaders, "users' last word on what the backend gets: after everything that the proxy computes"),
  entry(responseHeaders, "users' last word on what the client gets"),
];

function entry<Kind extends FilterConfig["kind"]>(filter: Filter<Kind>, because: string) {
  return { filter: filter as unknown as Filter<FilterConfig["kind"]>, because };
}

const rank = new Map(order.map(({ filter }, index) => [filter.kind, { filter, index }]));

/** Whether this proxy can do what a filter asks for. */
export function isKnownFilter(kind: FilterConfig["kind"]): boolean {
  return rank.has(kind);
}

/** The handlers of a rule or share, ready to run. */
export class FilterChain {
  readonly #request: NonNullable<Handlers["request"]>[] = [];
  readonly #response: NonNullable<Handlers["response"]>[] = [];

  constructor(filters: readonly FilterConfig[], match: PathMatch | undefined) {
    const sorted = filters.map((config) => ({ config, ...rank.get(config.kind)! })).sort((a, b) => a.index - b.index);
    for (const { config, filter } of sorted) {
      const handlers = filter.compile(config, match);
      if (handlers.request) this.#request.push(handlers.request);
      if (handlers.response) this.#response.unshift(handlers.response);
    }
  }

  request(head: RequestHead, context: FilterContext): void {
    for (let index = 0; index < this.#request.length; index++) this.#request[index]!(head, context);
  }

  response(head: ResponseHead): void {
    for (let index = 0; index < this.#response.length; index++) this.#response[index]!(head);
  }
}
