// The Service `default/kubernetes`, its EndpointSlice and its Endpoints: how pods reach the API server (pkg/controlplane/controller/
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
import { serviceNameLabel } from "./objects.ts";

export interface ApiServerAddress {
  /** Where the API server listens, as pods reach it. */
  readonly address: string;
  readonly port: number;
  /** The Services' range: its first address is the Service's. */
  readonly serviceCidr: string;
}

/** The objects as they should be. */
export function apiServerObjects(api: ApiServerAddress): {
  service: Service;
  slice: EndpointSlice;
  endpoints: Endpoints;
} {
  const cidr = parseCidr(api.serviceCidr);
  if (!cidr) throw new RangeError(`${api.serviceCidr} is no range of addresses`);
  const clusterIP = addressAt(cidr, 1);
  const family = cidr.family === 4 ? "IPv4" : "IPv6";
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
        clusterIP,
        clusterIPs: [clusterIP],
        ipFamilies: [family],
        ipFamilyPolicy: "SingleStack",
        internalTrafficPolicy: "Cluster",
        sessionAffinity: "None",
        ports: [{ name: "https", protocol: "TCP", port: 443, targetPort: api.port }],
      },
    },
    slice: {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name: "kubernetes", namespace: "default", labels: { [serviceNameLabel]: "kubernetes" } },
      addressType: ipFamily(api.address) === 6 ? "IPv6" : "IPv4",
      endpoints: [{ addresses: [api.address], conditions: { ready: true } }],
      ports: [{ name: "https", protocol: "TCP", port: api.port }],
    },
    endpoints: {
      apiVersion: "v1",
      kind: "Endpoints",
      metadata: { name: "kubernetes", namespace: "default", labels: { [skipMirrorLabel]: "true" } },
      subsets: [{ addresses: [{ ip: api.address }], ports: [{ name: "https", protocol: "TCP", port: api.port }] }],
    },
  };
}

/** Creates them, or corrects what stands. Tries again when somebody else writes at the same time. */
export async function publishApiServer(store: Store, api: ApiServerAddress): Promise<void> {
  const { service, slice, endpoints } = apiServerObjects(api);
  for (let attempt = 0; ; attempt++) {
    try {
      const nowService = await store.get({ resource: Services, namespace: "default", name: "kubernetes" });
      if (!nowService) await store.create(Services, service);
      else if (!deepEqual(nowService.spec?.ports, service.spec?.ports)) {
        await store.update(Services, { ...nowService, spec: { ...nowService.spec, ports: service.spec?.ports } });
      }
      const nowSlice = await store.get({ resource: EndpointSlices, namespace: "default", name: "kubernetes" });
      if (!nowSlice) await store.create(EndpointSlices, slice);
      else if (nowSlice["addressType"] !== slice.addressType) {
        await store.delete({ resource: EndpointSlices, namespace: "default", name: "kubernetes" });
        await store.create(EndpointSlices, slice);
      } else if (!deepEqual([nowSlice["endpoints"], nowSlice["ports"]], [slice.endpoints, slice.ports])) {
        await store.update(EndpointSlices, { ...nowSlice, endpoints: slice.endpoints, ports: slice.ports });
      }
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
