// Route tables of the model made ready to run: rules with their chains, choices and places in the metrics. Compiled beside
// the live table; `RouteTableRuntime.router` is the one reference that a change swaps.

import { messageOf } from "../base/errors.ts";
import type { Steps } from "../base/steps.ts";
import type { RouteTable, Rule, VirtualHost, WeightedBackend } from "../model/model.ts";
import type { Provenance } from "../model/provenance.ts";
import type { Handlers } from "./filter.ts";
import { compileFilters, lookAtForwarding } from "./filters/order.ts";
import type { FilterRuntime } from "./filters/runtime.ts";
import { HostRules, Router } from "./router/router.ts";
import type { Metrics } from "./telemetry/metrics.ts";
import { unsupportedRule } from "./unsupported.ts";
import type { BackendRuntime } from "./upstream/backend.ts";
import type { Backends } from "./upstream/backends.ts";
import { WeightedChoice } from "./upstream/choice.ts";

export type CompiledTable = Router<CompiledRule>;

/** A table by its name: what listeners hold. `router` is undefined while the table is not known. */
export interface RouteTableRuntime {
  readonly name: string;
  router: CompiledTable | undefined;
}

export interface CompiledShare {
  readonly backend: BackendRuntime | undefined;
  readonly respond: Extract<WeightedBackend["target"], { respond: unknown }>["respond"] | undefined;
  /** Those of the rule, then those of the share; undefined when there are none. */
  readonly filters: readonly Handlers[] | undefined;
  /** Whether one of them looks at the forwarding headers. */
  readonly looksAtForwarding: boolean;
  readonly slot: number;
  /** Its weight is above 0. */
  readonly open: boolean;
}

export interface CompiledRule {
  readonly rule: Rule;
  /** For requests that take no share. */
  readonly filters: readonly Handlers[] | undefined;
  readonly looksAtForwarding: boolean;
  readonly shares: readonly CompiledShare[];
  /** Undefined when all weights are 0. */
  readonly choice: WeightedChoice | undefined;
  /** Milliseconds; 0 none. */
  readonly requestTimeout: number;
  readonly responseTimeout: number;
  readonly tryTimeout: number;
  readonly idleTimeout: number;
  readonly streamTimeout: number;
  /** Whether it has policies for the tries of a request. */
  readonly hasPolicies: boolean;
  readonly slot: number;
}

/**
 * Compiles tables. What is the same object as before (`route-table-patch.ts` keeps rules and hosts the same) is not compiled
 * again, so that a change costs what it changes, and a rule's weighted choice goes on where it was.
 */
export class RouteCompiler {
  readonly #backends: Backends;
  readonly #metrics: Metrics;
  readonly #filters: FilterRuntime;
  readonly #rules = new WeakMap<Rule, CompiledRule>();
  readonly #hosts = new WeakMap<VirtualHost, HostRules<CompiledRule>>();

  constructor(backends: Backends, metrics: Metrics, filters: FilterRuntime) {
    this.#backends = backends;
    this.#metrics = metrics;
    this.#filters = filters;
  }

  /** In steps, a rule each. `before` is what the table is to take the place of. Throws a {@link RuleProblem} for a rule that it cannot take. */
  *compile(table: RouteTable, before?: CompiledTable): Steps<CompiledTable> {
    for (const host of table.hosts) {
      if (this.#hosts.has(host)) continue;
      const [name] = host.names;
      const known = name === undefined ? undefined : before?.hostOf(name);
      this.#hosts.set(host, yield* HostRules.of(host, this.#rule, known));
    }
    return new Router(table, this.#rule, this.#hosts);
  }

  readonly #rule = (rule: Rule): CompiledRule => {
    let compiled = this.#rules.get(rule);
    if (!compiled) {
      try {
        compiled = compileRule(rule, this.#backends, this.#metrics, this.#filters);
      } catch (error) {
        throw new RuleProblem(`${rule.name}: ${messageOf(error)}`, rule.from);
      }
      this.#rules.set(rule, compiled);
    }
    return compiled;
  };
}

/** Why a rule cannot be taken, and the object that asked for it. */
export class RuleProblem extends Error {
  readonly from: Provenance;

  constructor(message: string, from: Provenance) {
    super(message);
    this.from = from;
  }
}

/** Of one share there is nothing to choose: rules that have no other need none of their own. */
const only = new WeightedChoice([1]);

function compileRule(rule: Rule, backends: Backends, metrics: Metrics, runtime: FilterRuntime): CompiledRule {
  const unsupported = unsupportedRule(rule);
  if (unsupported) throw new Error(unsupported);
  const path = rule.match.path;
  const to = rule.action.kind === "forward" ? rule.action.to : [];
  const ofRule = compileFilters(rule.filters, runtime, path);
  const chain = (filters: Rule["filters"]) => {
    const all = filters.length > 0 ? [...ofRule, ...compileFilters(filters, runtime, path)] : ofRule;
    return all.length > 0 ? all : undefined;
  };
  return {
    rule,
    filters: chain([]),
    looksAtForwarding: lookAtForwarding(rule.filters),
    shares: to.map(({ target, filters, weight }) => ({
      backend: "backend" in target ? backends.get(target.backend) : undefined,
      respond: "respond" in target ? target.respond : undefined,
      filters: chain(filters),
      looksAtForwarding: lookAtForwarding([...rule.filters, ...filters]),
      slot: metrics.slot(rule.name, "backend" in target ? target.backend : ""),
      open: weight > 0,
    })),
    choice: choiceAmong(to),
    requestTimeout: rule.timeouts?.request ?? 0,
    responseTimeout: rule.timeouts?.response ?? 0,
    tryTimeout: rule.timeouts?.perTry ?? 0,
    idleTimeout: rule.timeouts?.idle ?? 0,
    streamTimeout: rule.timeouts?.stream ?? 0,
    hasPolicies: [rule.retry, rule.hash, rule.persistence, rule.attemptCount].some((policy) => policy !== undefined),
    slot: metrics.slot(rule.name, ""),
  };
}

function choiceAmong(to: readonly WeightedBackend[]): WeightedChoice | undefined {
  if (!to.some(({ weight }) => weight > 0)) return undefined;
  return to.length === 1 ? only : new WeightedChoice(to.map(({ weight }) => weight));
}
