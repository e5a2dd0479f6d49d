// The kinds that a stack follows, each as a collection: made once, shared by everything that is derived from them.

import {
  ConfigMaps,
  CustomResourceDefinitions,
  DaemonSets,
  Deployments,
  EndpointSlices,
  GatewayClasses,
  Gateways,
  GRPCRoutes,
  HTTPRoutes,
  Ingresses,
  Namespaces,
  Nodes,
  Pods,
  ReferenceGrants,
  ReplicaSets,
  Secrets,
  ServiceCIDRs,
  Services,
  StatefulSets,
  TCPRoutes,
  TLSRoutes,
  UDPRoutes,
} from "../api/kinds.ts";
import { type Resource, resourceKey } from "../api/resource.ts";
import { fromStore, type StoreCollection } from "../collections/from-store.ts";
import type { Store } from "../store/store.ts";

const followed = {
  configMaps: ConfigMaps,
  customResourceDefinitions: CustomResourceDefinitions,
  daemonSets: DaemonSets,
  deployments: Deployments,
  endpointSlices: EndpointSlices,
  gatewayClasses: GatewayClasses,
  gateways: Gateways,
  grpcRoutes: GRPCRoutes,
  httpRoutes: HTTPRoutes,
  ingresses: Ingresses,
  namespaces: Namespaces,
  nodes: Nodes,
  pods: Pods,
  referenceGrants: ReferenceGrants,
  replicaSets: ReplicaSets,
  secrets: Secrets,
  serviceCidrs: ServiceCIDRs,
  services: Services,
  statefulSets: StatefulSets,
  tcpRoutes: TCPRoutes,
  tlsRoutes: TLSRoutes,
  udpRoutes: UDPRoutes,
} satisfies Record<string, Resource>;

export type StackObjects = { readonly [K in keyof typeof followed]: StoreCollection };

/** Follows all kinds; resolves when each has been read once. */
export async function followObjects(store: Store): Promise<StackObjects> {
  const entries = Object.entries(followed).map(([name, resource]) => [name, fromStore(store, resource)] as const);
  await Promise.all(entries.map(([, collection]) => collection.ready));
  return Object.fromEntries(entries) as StackObjects;
}

/** The collection of a kind, or undefined when nobody follows it. */
export function collectionOf(
  objects: StackObjects,
  fits: (resource: Resource) => boolean,
): StoreCollection | undefined {
  const found = Object.entries(followed).find(([, resource]) => fits(resource));
  return found && objects[found[0] as keyof StackObjects];
}

/** Collections of any kind: those that are followed already, and others as they are asked for. */
export function collector(objects: StackObjects, store: Store): (resource: Resource) => StoreCollection {
  const others = new Map<string, StoreCollection>();
  return (resource) => {
    const key = resourceKey(resource);
    const known = collectionOf(objects, (one) => resourceKey(one) === key) ?? others.get(key);
    if (known) return known;
    const made = fromStore(store, resource);
    others.set(key, made);
    return made;
  };
}
