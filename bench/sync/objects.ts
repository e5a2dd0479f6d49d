// The Services of this benchmark, as an API server has them, and what one changed endpoint is.

import type { EndpointSlice, Service } from "../../src/api/kinds.ts";
import type { KubeObject } from "../../src/api/object.ts";
import { resolveService } from "../../src/services/resolved-service.ts";
import { type ServicePort, servicePortsOf } from "../../src/services/service-table.ts";

export interface Size {
  readonly services: number;
  /** Of each Service. */
  readonly endpoints: number;
}

export const node = { name: "node-1", address: "192.168.0.2" } as const;
export const podRange = "10.128.0.0/9";
export const serviceRange = "10.96.0.0/12";

/** As many endpoints as the controller puts into one slice. */
const perSlice = 100;

export interface ServiceWithSlices {
  readonly service: Service;
  readonly slices: readonly EndpointSlice[];
}

/** Service number `n`, its endpoint in the middle having moved `moved` times. */
export function serviceNumber(n: number, { endpoints }: Size, moved = 0): ServiceWithSlices {
  const name = `svc-${n}`;
  const clusterIP = `10.${96 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
  const middle = endpoints >> 1;
  const address = (at: number) => {
    // 16 addresses for each of many Services, 65,536 for one.
    const number = (endpoints > 8 ? n << 16 : n << 4) + (at === middle ? endpoints + moved : at) + 1;
    return `10.${128 + ((number >> 16) & 127)}.${(number >> 8) & 255}.${number & 255}`;
  };
  const all = Array.from({ length: endpoints }, (_, at) => ({
    addresses: [address(at)],
    conditions: { ready: true, serving: true, terminating: false },
    nodeName: at === 0 ? node.name : "node-2",
  }));
  const slices: EndpointSlice[] = [];
  for (let at = 0; at < all.length; at += perSlice) {
    slices.push({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: {
        name: `${name}-${at / perSlice}`,
        namespace: "ns",
        labels: { "kubernetes.io/service-name": name },
      },
      addressType: "IPv4",
      ports: [{ name: "http", protocol: "TCP", port: 8080 }],
      endpoints: all.slice(at, at + perSlice),
    });
  }
  const service: Service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: "ns" },
    spec: {
      type: "ClusterIP",
      clusterIP,
      clusterIPs: [clusterIP],
      ipFamilies: ["IPv4"],
      ipFamilyPolicy: "SingleStack",
      internalTrafficPolicy: "Cluster",
      sessionAffinity: "None",
      ports: [{ name: "http", protocol: "TCP", port: 80, targetPort: 8080 }],
    },
  };
  return { service, slices };
}

/** A Service after a change as a store has it: slices that say the same as before are the same objects. */
export function movedOn(before: ServiceWithSlices, after: ServiceWithSlices): ServiceWithSlices {
  const slices = after.slices.map((one, at) => (Bun.deepEquals(one, before.slices[at]) ? before.slices[at]! : one));
  return { service: before.service, slices };
}

export function rowsOf({ service, slices }: ServiceWithSlices): readonly ServicePort[] {
  return servicePortsOf(resolveService(service, slices), node);
}

export function nodeObject(): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: node.name },
    status: { addresses: [{ type: "InternalIP", address: node.address }] },
  };
}

export function titleOf({ services, endpoints }: Size): string {
  return services === 1 ? `1 Service of ${endpoints} endpoints` : `${services} Services of ${endpoints} endpoints`;
}
