// The merging of route fragments into route tables: which rules serve which host, in which order. Only here do routes of one
// table meet; what each brings (rules, sort keys, hosts) was made before, so a table costs a walk over its routes.

import { compareHostPatterns } from "../../model/host-pattern.ts";
import type { HostPattern, RouteTable, RouteTableName, Rule, VirtualHost } from "../../model/model.ts";
import type { Provenance } from "../../model/provenance.ts";
import type { Place } from "./attachment.ts";
import type { GatewayPlan } from "./gateway-plan.ts";
import { listenerName, type RouteKey } from "./names.ts";
import { compareSortKeys } from "./precedence.ts";
import type { KeyedRule } from "./route-rules.ts";

/** What a route brings to the tables it is in. */
export interface RouteFragment {
  readonly key: RouteKey;
  readonly places: readonly Place[];
  readonly rules: readonly KeyedRule[];
}

/** A table that a Gateway's listeners ask for. */
export interface TablePlan {
  readonly name: RouteTableName;
  readonly from: Provenance;
  /** The listeners that serve from it, by name. */
  readonly listeners: readonly { readonly name: string; readonly hostname: HostPattern }[];
  /** Hosts that other TLS listeners of the port own: a request for one that came here is misdirected (RFC 9110 §15.5.20). */
  readonly misdirected: readonly { readonly hostname: HostPattern; readonly rule: Rule }[];
}

export function planTables(plan: GatewayPlan): readonly TablePlan[] {
  const tables = new Map<RouteTableName, TablePlan>();
  const served = plan.listeners.filter((listener) => listener.served);
  for (const listener of served) {
    const name = listener.table;
    if (name === undefined) continue;
    const from: Provenance = { kind: "Gateway", namespace: plan.namespace, name: plan.name, field: listener.field };
    const known = tables.get(name);
    const member = { name: listener.name, hostname: listener.hostname };
    if (known) {
      tables.set(name, { ...known, listeners: [...known.listeners, member] });
      continue;
    }
    const others = served.filter((other) => other !== listener && other.table !== name && other.port === listener.port);
    tables.set(name, {
      name,
      from,
      listeners: [member],
      misdirected: others.map((other) => ({
        hostname: other.hostname,
        rule: {
          from: { ...from, field: other.field },
          name: `${listenerName(plan.key, other.port)}/${other.name}`,
          match: {},
          filters: [],
          action: {
            kind: "respond",
            status: 421,
            reason: `this host is listener "${other.name}"'s; the connection is listener "${listener.name}"'s`,
          },
        },
      })),
    });
  }
  return [...tables.values()];
}

/** Rules of one listener for one host pattern, by the routes that bring them. */
interface Bucket {
  readonly listener: string;
  readonly host: HostPattern;
  readonly routes: RouteFragment[];
}

/**
 * Merges fragments. A host's entry has its own rules first, then those of the less specific hosts of the same listener: the
 * specification gives precedence to the more specific host among rules that match, and a table does not fall through.
 */
export function mergeTable(plan: TablePlan, fragments: readonly RouteFragment[]): RouteTable {
  const listeners = new Map(plan.listeners.map((listener) => [listener.name, listener.hostname]));
  const buckets = new Map<string, Bucket>();
  const entries = new Map<HostPattern, string>();
  for (const { name, hostname } of plan.listeners) entries.set(hostname, name);
  for (const fragment of fragments) {
    for (const place of fragment.places) {
      if (place.table !== plan.name || !listeners.has(place.listener)) continue;
      for (const host of place.hosts) {
        const key = `${place.listener} ${host}`;
        const bucket = buckets.get(key);
        if (bucket) bucket.routes.push(fragment);
        else buckets.set(key, { listener: place.listener, host, routes: [fragment] });
        entries.set(host, place.listener);
      }
    }
  }

  const merged = new Map<Bucket, readonly Rule[]>();
  const hosts: VirtualHost[] = [];
  for (const host of [...entries.keys()].sort(compareHostPatterns)) {
    const listener = entries.get(host)!;
    const rules: (readonly Rule[])[] = [];
    for (const pattern of widening(host)) {
      const bucket = buckets.get(`${listener} ${pattern}`);
      if (!bucket) continue;
      let own = merged.get(bucket);
      if (!own) {
        own = mergeRules(bucket.routes);
        merged.set(bucket, own);
      }
      rules.push(own);
    }
    hosts.push({ names: [host], rules: rules.length === 1 ? rules[0]! : rules.flat() });
  }
  for (const { hostname, rule } of plan.misdirected) {
    if (!entries.has(hostname)) hosts.push({ names: [hostname], rules: [rule] });
  }
  return { name: plan.name, from: plan.from, hosts };
}

function mergeRules(routes: readonly RouteFragment[]): readonly Rule[] {
  const all = routes.length === 1 ? routes[0]!.rules : routes.flatMap((route) => route.rules).sort(byKey);
  return all.map((one) => one.rule);
}

function byKey(a: KeyedRule, b: KeyedRule): number {
  return compareSortKeys(a.sort, b.sort);
}

/** A host and every pattern that covers it, the most specific first: `a.b.c`, `*.b.c`, `*.c`, `*`. */
function* widening(host: HostPattern): Generator<HostPattern> {
  yield host;
  if (host === "*") return;
  let rest = host.startsWith("*.") ? host.slice(2) : host;
  for (let dot = rest.indexOf("."); dot >= 0; dot = rest.indexOf(".")) {
    rest = rest.slice(dot + 1);
    yield `*.${rest}`;
  }
  yield "*";
}
