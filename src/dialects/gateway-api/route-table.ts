// The merging of route fragments into route tables: which rules serve which host, in which order. Only here do routes of one
// table meet; what each brings (rules, sort keys, hosts) was made before, so a table costs a walk over its routes.

import { compareHostPatterns } from "../../model/host-pattern.ts";
import type { HostPattern, RouteTable, RouteTableName, Rule } from "../../model/model.ts";
import type { Provenance } from "../../model/provenance.ts";
import type { Place } from "./attachment.ts";
import type { GatewayPlan } from "./gateway-plan.ts";
import { answer, listenerName, type RouteKey } from "./names.ts";
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
          action: answer(
            421,
            `this host is listener "${other.name}"'s; the connection is listener "${listener.name}"'s`,
            "this host is not served on this connection",
          ),
        },
      })),
    });
  }
  return [...tables.values()];
}

/** The routes of one listener for one host pattern. */
interface Bucket {
  readonly routes: RouteFragment[];
  rules: readonly Rule[] | undefined;
}

/** The buckets of one listener. */
interface Section {
  readonly buckets: Map<HostPattern, Bucket>;
  /** Whether any of the patterns is a wildcard, whose rules more specific hosts repeat. */
  wild: boolean;
}

/**
 * Merges fragments. A host's entry has its own rules first, then those of the less specific hosts of the same listener: the
 * specification gives precedence to the more specific host among rules that match, and a table does not fall through.
 * Exact hosts come in the order of their routes, then wildcards, the most specific first.
 */
export function mergeTable(plan: TablePlan, fragments: readonly RouteFragment[]): RouteTable {
  const sections = new Map<string, Section>();
  const owners = new Map<HostPattern, Section>();
  for (const { name, hostname } of plan.listeners) {
    const section: Section = { buckets: new Map(), wild: false };
    sections.set(name, section);
    owners.set(hostname, section);
  }
  for (const fragment of fragments) {
    for (const place of fragment.places) {
      const section = place.table === plan.name ? sections.get(place.listener) : undefined;
      if (!section) continue;
      for (const host of place.hosts) {
        const bucket = section.buckets.get(host);
        if (bucket) {
          bucket.routes.push(fragment);
          continue;
        }
        section.buckets.set(host, { routes: [fragment], rules: undefined });
        if (host.startsWith("*")) section.wild = true;
        owners.set(host, section);
      }
    }
  }

  const known = new Map<string, Bucket[]>();
  const hosts: { names: HostPattern[]; rules: readonly Rule[] }[] = [];
  const byRules = new Map<readonly Rule[], HostPattern[]>();
  for (const host of ordered(owners.keys())) {
    const section = owners.get(host)!;
    const rules = hostRules(host, section, known);
    const twins = byRules.get(rules);
    if (twins) {
      twins.push(host);
      continue;
    }
    const names = [host];
    byRules.set(rules, names);
    hosts.push({ names, rules });
  }
  for (const { hostname, rule } of plan.misdirected) {
    if (!owners.has(hostname)) hosts.push({ names: [hostname], rules: [rule] });
  }
  return { name: plan.name, from: plan.from, hosts };
}

/** Exact hosts do not compete, and stay in their order; wildcards are sorted. */
function ordered(patterns: Iterable<HostPattern>): readonly HostPattern[] {
  const exact: HostPattern[] = [];
  const wild: HostPattern[] = [];
  for (const pattern of patterns) (pattern.startsWith("*") ? wild : exact).push(pattern);
  return [...exact, ...wild.sort(compareHostPatterns)];
}

function hostRules(host: HostPattern, section: Section, known: Map<string, Bucket[]>): readonly Rule[] {
  const own = section.buckets.get(host);
  if (!section.wild) return own ? rulesOf(own, known) : [];
  const parts: (readonly Rule[])[] = [];
  for (const pattern of widening(host)) {
    const bucket = section.buckets.get(pattern);
    if (bucket) parts.push(rulesOf(bucket, known));
  }
  return parts.length === 1 ? parts[0]! : parts.flat();
}

/** One list for all buckets of the same routes, so that hosts which are served alike become one entry. */
function rulesOf(bucket: Bucket, known: Map<string, Bucket[]>): readonly Rule[] {
  if (bucket.rules) return bucket.rules;
  const { routes } = bucket;
  const key = `${routes.length} ${routes[0]!.key} ${routes.at(-1)!.key}`;
  const alike = known.get(key);
  const twin = alike?.find((other) => other.routes.every((route, i) => route === routes[i]));
  bucket.rules = twin?.rules ?? mergeRules(routes);
  if (!alike) known.set(key, [bucket]);
  else if (!twin) alike.push(bucket);
  return bucket.rules;
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
