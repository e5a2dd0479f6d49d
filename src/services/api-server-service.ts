// The Service `default/kubernetes`, its EndpointSlices and its Endpoints: how pods reach the API server (pkg/controlplane/controller/
// kubernetesservice, pkg/controlplane/reconcilers). Written once at start; running it again writes only what differs.

import {
  CoreEndpoints,
  type EndpointSlice,
  EndpointSlices,
  type Endpoints,
  type Service,
  Services,
} from "../api/kinds.ts";
import { isStatusReason } from "../api/status-error.ts";
import { addressAt, parseCidr } from "../base/cidr.ts";
import { ipFamily } from "../base/ip.ts";
import { deepEqual } from "../collections/equal.ts";
import type { Store } from "../store/store.ts";
import { skipMirrorLabel } from "./endpoint-mirroring.ts";
import { type FamilyName, serviceNameLabel } from "./objects.ts";

export interface ApiServerAddress {
  /** Where the API server listens, as pods reach it: one address of each family, the primary one first. */
  readonly addresses: readonly string[];
  readonly port: number;
  /** The Services' ranges, likewise: the first address of each is the Service's. */
  readonly serviceCidrs: readonly string[];
}

/**
 * The objects as they should be, with a slice for each family. The Service has all families, where upstream gives it the primary
 * one only (KEP-2438 is not done there).
 */
export function apiServerObjects(api: ApiServerAddress): {
  service: Service;
  slices: readonly EndpointSlice[];
  endpoints: Endpoints;
} {
  const clusterIPs = api.serviceCidrs.map((text) => {
    const cidr = parseCidr(text);
    if (!cidr) throw new RangeError(`${text} is no range of addresses`);
    return addressAt(cidr, 1);
  });
  const ipFamilies = clusterIPs.map(familyName);
  const ports = [{ name: "https", protocol: "TCP", port: api.port }] as const;
  return {
    service: {
      apiVersion: "v1",
      kind: "Service",
      metadata: {
        name: "kubernetes",
        namespace: "default",
        labels: { component: "apiserver", provider: "kubernetes" },
      },
      spec: {
        type: "ClusterIP",
        clusterIP: clusterIPs[0],
        clusterIPs,
        ipFamilies,
        ipFamilyPolicy: clusterIPs.length > 1 ? "PreferDualStack" : "SingleStack",
        internalTrafficPolicy: "Cluster",
        sessionAffinity: "None",
        ports: [{ name: "https", protocol: "TCP", port: 443, targetPort: api.port }],
      },
    },
    slices: api.addresses.map((address, at) => ({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: {
        name: at === 0 ? "kubernetes" : `kubernetes-${familyName(address).toLowerCase()}`,
        namespace: "default",
        labels: { [serviceNameLabel]: "kubernetes" },
      },
      addressType: familyName(address),
      endpoints: [{ addresses: [address], conditions: { ready: true } }],
      ports,
    })),
    endpoints: {
      apiVersion: "v1",
      kind: "Endpoints",
      metadata: { name: "kubernetes", namespace: "default", labels: { [skipMirrorLabel]: "true" } },
      subsets: [{ addresses: [{ ip: api.addresses[0]! }], ports }],
    },
  };
}

function familyName(address: string): FamilyName {
  return ipFamily(address) === 6 ? "IPv6" : "IPv4";
}

/** Creates them, or corrects what stands. Tries again when somebody else writes at the same time. */
export async function publishApiServer(store: Store, api: ApiServerAddress): Promise<void> {
  const { service, slices, endpoints } = apiServerObjects(api);
  for (let attempt = 0; ; attempt++) {
    try {
      const nowService = await store.get({ resource: Services, namespace: "default", name: "kubernetes" });
      if (!nowService) await store.create(Services, service);
      else if (!deepEqual(nowService.spec?.ports, service.spec?.ports)) {
        await store.update(Services, { ...nowService, spec: { ...nowService.spec, ports: service.spec?.ports } });
      }
      for (const slice of slices) await publishSlice(store, slice);
      const key = { resource: CoreEndpoints, namespace: "default", name: "kubernetes" };
      const nowEndpoints = (await store.get(key)) as Endpoints | undefined;
      if (!nowEndpoints) await store.create(CoreEndpoints, endpoints);
      else if (!deepEqual(nowEndpoints.subsets, endpoints.subsets)) {
        await store.update(CoreEndpoints, { ...nowEndpoints, subsets: endpoints.subsets });
      }
      return;
    } catch (error) {
      const raced = isStatusReason(error, "Conflict") || isStatusReason(error, "AlreadyExists");
      if (!raced || attempt >= 4) throw error;
    }
  }
}

async function publishSlice(store: Store, slice: EndpointSlice): Promise<void> {
  const key = { resource: EndpointSlices, namespace: "default", name: slice.metadata.name };
  const now = await store.get(key);
  if (!now) await store.create(EndpointSlices, slice);
  else if (now["addressType"] !== slice.addressType) {
    await store.delete(key);
    await store.create(EndpointSlices, slice);
  } else if (!deepEqual([now["endpoints"], now["ports"]], [slice.endpoints, slice.ports])) {
    await store.update(EndpointSlices, { ...now, endpoints: slice.endpoints, ports: slice.ports });
  }
}
