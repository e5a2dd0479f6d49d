// A route table compiled for lookup: the host by map, the rule by path index and predicates. It must answer what the model's
// `decide` answers (a property test says so); what is done with the rule is not its business, so a rule's payload is the
// caller's.

import { connectRefusal } from "../../model/connect.ts";
import { parseAuthority } from "../../model/host-pattern.ts";
import type { Match, RouteTable, Rule, VirtualHost } from "../../model/model.ts";
import type { RequestHead } from "../exchange.ts";
import { PathIndex } from "./path-index.ts";
import { compileMatch, type Predicate } from "./predicate.ts";

/** Why no rule was found; words of the error table. */
export type NotFound = "bad_host" | "no_host" | "no_route" | "misdirected" | "method_not_supported";

/** Distinct authorities remembered, so that the usual ones are parsed once. */
const maxRemembered = 1024;
const maxRememberedLength = 128;

export class Router<R> {
  readonly #exact = new Map<string, HostRules<R>>();
  /** By what follows the star: `.example.com`. */
  readonly #wildcard = new Map<string, HostRules<R>>();
  #any: HostRules<R> | undefined;
  readonly #remembered = new Map<string, HostRules<R> | NotFound>();

  /** `payload` is called for each rule, in order. Hosts that are in `made` are taken from there, others put there. */
  constructor(table: RouteTable, payload: (rule: Rule) => R, made = new WeakMap<VirtualHost, HostRules<R>>()) {
    for (const host of table.hosts) {
      const rules = made.get(host) ?? new HostRules(host, payload);
      made.set(host, rules);
      for (const name of host.names) {
        if (name === "*") this.#any ??= rules;
        else if (name.startsWith("*.")) {
          if (!this.#wildcard.has(name.slice(1))) this.#wildcard.set(name.slice(1), rules);
        } else if (!this.#exact.has(name)) this.#exact.set(name, rules);
      }
    }
  }

  find(head: RequestHead): R | NotFound {
    const host = this.#remembered.get(head.authority) ?? this.#lookUp(head.authority);
    const found = typeof host === "string" ? host : (host.find(head) ?? "no_route");
    // CONNECT is a method that is not there where no rule takes it.
    return (found === "no_route" || found === "no_host") && head.method === "CONNECT" ? "method_not_supported" : found;
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

export class HostRules<R> {
  readonly #index: PathIndex;
  readonly #predicates: (readonly Predicate[])[];
  readonly #payloads: R[];
  readonly #connects: readonly boolean[];

  constructor(host: VirtualHost, payload: (rule: Rule) => R) {
    this.#index = new PathIndex(host.rules.map((rule) => rule.match));
    this.#predicates = host.rules.map((rule) => predicatesOf(rule.match));
    this.#payloads = host.rules.map(payload);
    this.#connects = host.rules.map((rule) => connectRefusal(rule) === undefined);
  }

  find(head: RequestHead): R | undefined {
    const of = { predicates: this.#predicates, connects: this.#connects, head };
    const number = this.#index.find(head.path, head.method === "CONNECT" ? connects : holds, of);
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

interface Asked {
  readonly predicates: (readonly Predicate[])[];
  readonly connects: readonly boolean[];
  readonly head: RequestHead;
}

function connects(number: number, of: Asked): boolean {
  return of.connects[number]! && holds(number, of);
}

function holds(number: number, of: Asked): boolean {
  const predicates = of.predicates[number]!;
  for (let index = 0; index < predicates.length; index++) if (!predicates[index]!(of.head)) return false;
  return true;
}
