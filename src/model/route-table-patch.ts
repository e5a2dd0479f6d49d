// A route table told by what it shares with the one before and by rules that travel beside it: a change of one rule among a thousand
// travels, is parsed and is compiled as one rule, and a large table travels as rules in frames of a moderate size. Parts that are shared are
// the same objects on both sides of the patch, so that whatever was made from them (their text, their compiled form) can be kept by identity.

import type { RouteTable, Rule, VirtualHost } from "./model.ts";

/**
 * Rules by their place among all of the base, counted over its hosts, and then those that travel with the update: from the first
 * up to, not with, the second.
 */
export type RuleRun = readonly [number, number];

export interface RouteTablePatch {
  readonly name: string;
  readonly from: RouteTable["from"];
  /** The version of the update that brought the table which the numbers refer to. Absent: they refer to none. */
  readonly base?: number;
  /** A number is that host of the base, as it is. */
  readonly hosts: readonly (number | { readonly names: VirtualHost["names"]; readonly rules: readonly RuleRun[] })[];
}

/** Rules that travel beside the patches of an update, each once. */
export class NewRules {
  readonly rules: Rule[] = [];
  readonly #places = new Map<Rule, number>();

  place(rule: Rule): number {
    let place = this.#places.get(rule);
    if (place === undefined) {
      place = this.rules.push(rule) - 1;
      this.#places.set(rule, place);
    }
    return place;
  }
}

/**
 * What makes `next` of `base`, which update `version` brought, and of `added`, to which rules are added that the base has not. Rules
 * and hosts are compared by identity.
 */
export function patchRouteTable(
  base: { readonly table: RouteTable; readonly version: number } | undefined,
  next: RouteTable,
  added: NewRules,
): RouteTablePatch {
  const places = placesOf(base?.table);
  const hostsOfBase = new Map(base?.table.hosts.map((host, place) => [host, place]));
  const ofBase = rulesOf(base?.table).length;
  const hosts = next.hosts.map((host) => {
    const same = hostsOfBase.get(host);
    if (same !== undefined) return same;
    const rules: RuleRun[] = [];
    let run: [number, number] | undefined;
    for (const rule of host.rules) {
      const place = places.get(rule) ?? ofBase + added.place(rule);
      if (run?.[1] === place) run[1]++;
      else {
        run = [place, place + 1];
        rules.push(run);
      }
    }
    return { names: host.names, rules };
  });
  return { name: next.name, from: next.from, ...(base ? { base: base.version } : {}), hosts };
}

/** The table that {@link patchRouteTable} was given as `next`. Throws a RangeError when what the patch refers to is not there. */
export function patchedRouteTable(
  base: RouteTable | undefined,
  patch: RouteTablePatch,
  added: readonly Rule[],
): RouteTable {
  const rules = [...rulesOf(base), ...added];
  const hosts = patch.hosts.map((host): VirtualHost => {
    if (typeof host === "number") return base?.hosts[host] ?? missing(patch.name);
    return { names: host.names, rules: host.rules.flatMap((run) => runOf(rules, run, patch.name)) };
  });
  return { name: patch.name, from: patch.from, hosts };
}

function runOf(rules: readonly Rule[], [start, end]: RuleRun, name: string): readonly Rule[] {
  return start >= 0 && start < end && end <= rules.length ? rules.slice(start, end) : missing(name);
}

function missing(name: string): never {
  throw new RangeError(`a patch of route table ${name} refers to rules that are not there`);
}

function rulesOf(table: RouteTable | undefined): readonly Rule[] {
  return table?.hosts.flatMap((host) => host.rules) ?? [];
}

/** A rule that several hosts share is found at its last place; any of them is right. */
function placesOf(table: RouteTable | undefined): ReadonlyMap<Rule, number> {
  return new Map(rulesOf(table).map((rule, place) => [rule, place]));
}
