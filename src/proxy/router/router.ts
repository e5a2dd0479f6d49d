// A route table compiled for lookup: the host by map, the rule by path index and predicates. It must answer what the model's
// `decide` answers (a property test says so); what is done with the rule is not its business, so a rule's payload is the
// caller's.

import { atOnce, type Steps } from "../../base/steps.ts";
import { isNamedOnly, namedMethod } from "../../model/connect.ts";
import { parseAuthority } from "../../model/host-pattern.ts";
import type { Match, RouteTable, Rule, VirtualHost } from "../../model/model.ts";
import type { RequestHead } from "../exchange.ts";
import { PathIndex } from "./path-index.ts";
import { compileMatch, type Predicate } from "./predicate.ts";

/** Why no rule was found; words of the error table. */
export type NotFound = "bad_host" | "bad_path" | "no_host" | "no_route" | "misdirected" | "method_not_supported";

/** Distinct authorities remembered, so that the usual ones are parsed once. */
const maxRemembered = 1024;
const maxRememberedLength = 128;

export class Router<R> {
  readonly #exact = new Map<string, HostRules<R>>();
  /** By what follows the star: `.example.com`. */
  readonly #wildcard = new Map<string, HostRules<R>>();
  #any: HostRules<R> | undefined;
  readonly #remembered = new Map<string, HostRules<R> | NotFound>();

  /** `payload` is called for each rule, in order, but for those of hosts that are in `made` already. */
  constructor(
    table: RouteTable,
    payload: (rule: Rule) => R,
    made?: { get(host: VirtualHost): HostRules<R> | undefined },
  ) {
    for (const host of table.hosts) {
      const rules = made?.get(host) ?? atOnce(HostRules.of(host, payload));
      for (const name of host.names) {
        if (name === "*") this.#any ??= rules;
        else if (name.startsWith("*.")) {
          if (!this.#wildcard.has(name.slice(1))) this.#wildcard.set(name.slice(1), rules);
        } else if (!this.#exact.has(name)) this.#exact.set(name, rules);
      }
    }
  }

  /** The rules that are found under exactly this pattern. */
  hostOf(pattern: string): HostRules<R> | undefined {
    if (pattern === "*") return this.#any;
    return pattern.startsWith("*.") ? this.#wildcard.get(pattern.slice(1)) : this.#exact.get(pattern);
  }

  find(head: RequestHead): R | NotFound {
    const host = this.#remembered.get(head.authority) ?? this.#lookUp(head.authority);
    const found = typeof host === "string" ? host : (host.find(head) ?? "no_route");
    return (found === "no_route" || found === "no_host") && isNamedOnly(head.method) ? "method_not_supported" : found;
  }

  #lookUp(authority: string): HostRules<R> | NotFound {
    const parsed = parseAuthority(authority);
    const found = parsed ? this.#host(parsed.host) : "bad_host";
    if (authority.length <= maxRememberedLength) {
      if (this.#remembered.size >= maxRemembered) this.#remembered.clear();
      this.#remembered.set(authority, found);
    }
    return found;
  }

  #host(host: string): HostRules<R> | NotFound {
    const exact = this.#exact.get(host);
    if (exact) return exact;
    // The leftmost dot first: the longest wildcard. At least one character must be left for the star.
    for (let dot = host.indexOf(".", 1); dot >= 0; dot = host.indexOf(".", dot + 1)) {
      const wildcard = this.#wildcard.get(host.slice(dot));
      if (wildcard) return wildcard;
    }
    return this.#any ?? "no_host";
  }
}

/** The rules of one host, ready to be asked. They do not change: what other rules share with them is taken over. */
export class HostRules<R> {
  readonly #rules: readonly Rule[];
  readonly #index: PathIndex;
  readonly #predicates: (readonly Predicate[])[] = [];
  readonly #payloads: R[] = [];
  /** Of each rule: the method that it takes because it names it. */
  readonly #named: (string | undefined)[] = [];

  private constructor(rules: readonly Rule[], index: PathIndex) {
    this.#rules = rules;
    this.#index = index;
  }

  /**
   * In steps, a rule each; `payload` is called for each rule, in order. What stays as it was in `before`, which may be any other
   * rules, is taken from there: the index where no path differs, and whatever was made of rules that are the same objects in the
   * same place.
   */
  static *of<R>(host: VirtualHost, payload: (rule: Rule) => R, before?: HostRules<R>): Steps<HostRules<R>> {
    const { rules } = host;
    const index = before && samePaths(rules, before.#rules) ? before.#index : undefined;
    const made = new HostRules<R>(rules, index ?? new PathIndex());
    for (let at = 0; at < rules.length; at++) {
      const rule = rules[at]!;
      const same = before !== undefined && before.#rules[at] === rule;
      if (!same || at % 64 === 0) yield;
      if (!index) made.#index.add(rule.match, at);
      made.#predicates.push(same ? before.#predicates[at]! : predicatesOf(rule.match));
      made.#named.push(namedMethod(rule));
      made.#payloads.push(same ? before.#payloads[at]! : payload(rule));
    }
    return made;
  }

  find(head: RequestHead): R | undefined {
    const of = { predicates: this.#predicates, named: this.#named, head };
    const number = this.#index.find(head.path, isNamedOnly(head.method) ? names : holds, of);
    return number < 0 ? undefined : this.#payloads[number];
  }
}

const predicates = new WeakMap<Match, readonly Predicate[]>();

/** Compiled once for a match: hosts and tables change around it. */
function predicatesOf(match: Match): readonly Predicate[] {
  let compiled = predicates.get(match);
  if (!compiled) {
    compiled = compileMatch(match, !PathIndex.answers(match));
    predicates.set(match, compiled);
  }
  return compiled;
}

function samePaths(some: readonly Rule[], others: readonly Rule[]): boolean {
  return some.length === others.length && some.every((rule, at) => rule === others[at] || samePath(rule, others[at]!));
}

function samePath({ match: { path: one } }: Rule, { match: { path: other } }: Rule): boolean {
  return one?.kind === other?.kind && one?.value === other?.value && one?.ignoreCase === other?.ignoreCase;
}

interface Asked {
  readonly predicates: (readonly Predicate[])[];
  readonly named: readonly (string | undefined)[];
  readonly head: RequestHead;
}

function names(number: number, of: Asked): boolean {
  return of.named[number] === of.head.method && holds(number, of);
}

function holds(number: number, of: Asked): boolean {
  const predicates = of.predicates[number]!;
  for (let index = 0; index < predicates.length; index++) if (!predicates[index]!(of.head)) return false;
  return true;
}
