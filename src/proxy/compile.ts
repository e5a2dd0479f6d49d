// Route tables of the model made ready to run: rules with their chains, choices and places in the metrics. Compiled beside
// the live table; `RouteTableRuntime.router` is the one reference that a change swaps.

import type { RouteTable, Rule, WeightedBackend } from "../model/model.ts";
import { FilterChain } from "./filters/order.ts";
import { Router } from "./router/router.ts";
import type { Metrics } from "./telemetry/metrics.ts";
import type { BackendRuntime, Backends } from "./upstream/backend.ts";
import { WeightedChoice } from "./upstream/choice.ts";

/** A table by its name: what listeners hold. `router` is undefined while the table is not known. */
export interface RouteTableRuntime {
  readonly name: string;
  router: Router<CompiledRule> | undefined;
}

export interface CompiledShare {
  readonly backend: BackendRuntime | undefined;
  readonly respond: Extract<WeightedBackend["target"], { respond: unknown }>["respond"] | undefined;
  readonly filters: FilterChain | undefined;
  readonly slot: number;
}

export interface CompiledRule {
  readonly rule: Rule;
  readonly filters: FilterChain | undefined;
  readonly shares: readonly CompiledShare[];
  /** Undefined when all weights are 0. */
  readonly choice: WeightedChoice | undefined;
  /** Milliseconds; 0 none. */
  readonly requestTimeout: number;
  readonly tryTimeout: number;
  readonly slot: number;
}

export function compileRouteTable(table: RouteTable, backends: Backends, metrics: Metrics): Router<CompiledRule> {
  return new Router(table, (rule) => compileRule(rule, backends, metrics));
}

function compileRule(rule: Rule, backends: Backends, metrics: Metrics): CompiledRule {
  const path = rule.match.path;
  const to = rule.action.kind === "forward" ? rule.action.to : [];
  const chain = (filters: Rule["filters"]) => (filters.length > 0 ? new FilterChain(filters, path) : undefined);
  return {
    rule,
    filters: chain(rule.filters),
    shares: to.map(({ target, filters }) => ({
      backend: "backend" in target ? backends.get(target.backend) : undefined,
      respond: "respond" in target ? target.respond : undefined,
      filters: chain(filters),
      slot: metrics.slot(rule.name, "backend" in target ? target.backend : ""),
    })),
    choice: to.some(({ weight }) => weight > 0) ? new WeightedChoice(to.map(({ weight }) => weight)) : undefined,
    requestTimeout: rule.timeouts?.request ?? 0,
    tryTimeout: rule.timeouts?.perTry ?? 0,
    slot: metrics.slot(rule.name, ""),
  };
}
