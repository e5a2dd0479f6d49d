// A route table told by what it shares with the one before: a change of one rule among a thousand travels, is parsed and is
// compiled as one rule. Parts that are shared are the same objects on both sides of the patch, so that whatever was made from
// them (their text, their compiled form) can be kept by identity.

import type { RouteTable, Rule, VirtualHost } from "./model.ts";

/** Rules of the base, by their place among all of its rules counted over its hosts: from the first up to, not with, the second. */
export type RuleRun = readonly [number, number];

export interface RouteTablePatch {
  readonly name: string;
  readonly from: RouteTable["from"];
  /** The version of the update that brought the table which the numbers refer to. */
  readonly base: number;
  /** A number is that host of the base, as it is. */
  readonly hosts: readonly (
    | number
    | { readonly names: VirtualHost["names"]; readonly rules: readonly (RuleRun | Rule)[] }
  )[];
}

/** What turns `base`, which update `version` brought, into `next`. Objects are compared by identity: what is not shared is sent. */
export function patchRouteTable(base: RouteTable, version: number, next: RouteTable): RouteTablePatch {
  const places = placesOf(base);
  const hosts = next.hosts.map((host) => {
    const same = base.hosts.indexOf(host);
    if (same >= 0) return same;
    const rules: (RuleRun | Rule)[] = [];
    let run: [number, number] | undefined;
    for (const rule of host.rules) {
      const place = places.get(rule);
      if (place === undefined) {
        rules.push(rule);
        run = undefined;
      } else if (run && run[1] === place) run[1]++;
      else {
        run = [place, place + 1];
        rules.push(run);
      }
    }
    return { names: host.names, rules };
  });
  return { name: next.name, from: next.from, base: version, hosts };
}

/** The table that {@link patchRouteTable} was given as `next`. Throws a RangeError when `base` has not what the patch refers to. */
export function patchedRouteTable(base: RouteTable, patch: RouteTablePatch): RouteTable {
  const rules = base.hosts.flatMap((host) => host.rules);
  const hosts = patch.hosts.map((host): VirtualHost => {
    if (typeof host === "number") return base.hosts[host] ?? missing(patch.name);
    return {
      names: host.names,
      rules: host.rules.flatMap((one) => (isRun(one) ? runOf(rules, one, patch.name) : [one])),
    };
  });
  return { name: patch.name, from: patch.from, hosts };
}

function runOf(rules: readonly Rule[], [start, end]: RuleRun, name: string): readonly Rule[] {
  return start >= 0 && start < end && end <= rules.length ? rules.slice(start, end) : missing(name);
}

function isRun(one: RuleRun | Rule): one is RuleRun {
  return Array.isArray(one);
}

function missing(name: string): never {
  throw new RangeError(`a patch of route table ${name} refers to rules that it has not`);
}

/** A rule that several hosts share is found at its last place; any of them is right. */
function placesOf(table: RouteTable): ReadonlyMap<Rule, number> {
  const places = new Map<Rule, number>();
  let place = 0;
  for (const host of table.hosts) for (const rule of host.rules) places.set(rule, place++);
  return places;
}
