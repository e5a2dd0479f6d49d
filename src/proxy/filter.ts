// A filter: one kind of the model's `Filter` made ready to run. What it needs is computed when a route table is compiled; a
// rule's chain holds exactly the handlers it needs, so a filter that is not configured costs nothing.

import type { Filter as FilterConfig, PathMatch } from "../model/model.ts";
import type { RequestHead, ResponseHead } from "./exchange.ts";

/** What a filter's handlers may know of the exchange beside the message. */
export interface FilterContext {
  /** The request's path as it came: rewrites start from it, also after another rewrite. */
  readonly path: string;
}

export interface Handlers {
  readonly request?: (head: RequestHead, context: FilterContext) => void;
  readonly response?: (head: ResponseHead) => void;
}

export interface Filter<Kind extends FilterConfig["kind"]> {
  readonly kind: Kind;
  /** `match` is the path condition of the rule that it is for. */
  compile(config: Extract<FilterConfig, { kind: Kind }>, match: PathMatch | undefined): Handlers;
}
