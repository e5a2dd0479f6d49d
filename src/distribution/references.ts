// Which resources a resource names: listeners their route tables, secrets and backends; route tables their backends and what
// their filters name; a backend its endpoints and secrets. These edges decide what a proxy is sent. They have no cycles.

import { filterReferences } from "../model/filter-references.ts";
import type { Backend, Listener, ResourceOf, ResourceType, RouteTable, Rule, WeightedBackend } from "../model/model.ts";

/** `backends/service/shop/cart/80`: a resource among all types. */
export type ResourceId = string;

export function resourceId(type: ResourceType, name: string): ResourceId {
  return `${type}/${name}`;
}

export function splitId(id: ResourceId): { type: ResourceType; name: string } {
  const slash = id.indexOf("/");
  return { type: id.slice(0, slash) as ResourceType, name: id.slice(slash + 1) };
}

const none: ReadonlySet<ResourceId> = new Set();

/** What `resource` names directly. */
export function referencesOf<T extends ResourceType>(
  type: T,
  resource: ResourceOf[T] | undefined,
): ReadonlySet<ResourceId> {
  if (resource === undefined) return none;
  if (type === "listeners") return ofListener(resource as Listener);
  if (type === "routeTables") return ofRouteTable(resource as RouteTable);
  if (type === "backends") return ofBackend(resource as Backend);
  return none;
}

function ofBackend({ name, tls }: Backend): ReadonlySet<ResourceId> {
  const ids = new Set([resourceId("endpoints", name)]);
  if (tls?.certificate !== undefined) ids.add(resourceId("secrets", tls.certificate));
  if (tls && tls.authorities !== "system" && tls.authorities !== "insecure")
    ids.add(resourceId("secrets", tls.authorities));
  return ids;
}

function ofListener(listener: Listener): ReadonlySet<ResourceId> {
  const ids = new Set<ResourceId>();
  if (listener.tracing) ids.add(resourceId("backends", listener.tracing.backend));
  for (const chain of listener.chains) {
    for (const secret of chain.tls?.certificates ?? []) ids.add(resourceId("secrets", secret));
    const authorities = chain.tls?.clients?.authorities;
    if (authorities !== undefined) ids.add(resourceId("secrets", authorities));
    if ("routes" in chain.serve) ids.add(resourceId("routeTables", chain.serve.routes));
    else addBackends(ids, chain.serve.tcp);
  }
  return ids;
}

function ofRouteTable(table: RouteTable): ReadonlySet<ResourceId> {
  const ids = new Set<ResourceId>();
  for (const host of table.hosts) {
    for (const rule of host.rules) for (const id of ofRule(rule)) ids.add(id);
  }
  return ids;
}

/** Of a table of which one rule changed, all other rules are the same objects. */
const known = new WeakMap<Rule, readonly ResourceId[]>();

function ofRule(rule: Rule): readonly ResourceId[] {
  let ids = known.get(rule);
  if (!ids) {
    const set = new Set<ResourceId>();
    addFilters(set, rule.filters);
    if (rule.action.kind === "forward") addBackends(set, rule.action.to);
    ids = [...set];
    known.set(rule, ids);
  }
  return ids;
}

function addBackends(ids: Set<ResourceId>, shares: readonly WeightedBackend[]): void {
  for (const { target, filters } of shares) {
    if ("backend" in target) ids.add(resourceId("backends", target.backend));
    addFilters(ids, filters);
  }
}

/** What the proxy itself asks, and Secrets of users. */
function addFilters(ids: Set<ResourceId>, filters: Rule["filters"]): void {
  for (const filter of filters) {
    const { backends, secrets } = filterReferences(filter);
    for (const { name } of backends) ids.add(resourceId("backends", name));
    for (const { name } of secrets) ids.add(resourceId("secrets", name));
  }
}
