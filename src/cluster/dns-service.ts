// The Service that pods' resolv.conf names: `kube-system/kube-dns` at the tenth address of each Service range, in front of the
// stack's own DNS server. It has no selector; its EndpointSlices, one of each family, are written here.

import { type EndpointSlice, EndpointSlices, type Service, Services } from "../api/kinds.ts";
import { isStatusReason } from "../api/status-error.ts";
import { addressAt, parseCidr } from "../base/cidr.ts";
import { ipFamily } from "../base/ip.ts";
import type { Store } from "../store/store.ts";

const where = { namespace: "kube-system", name: "kube-dns" };

/** The Service's address: kubeadm's convention, the tenth of the range. */
export function dnsAddress(serviceCidr: string): string {
  const cidr = parseCidr(serviceCidr);
  if (!cidr) throw new RangeError(`${serviceCidr} is no address range`);
  return addressAt(cidr, 10);
}

/** Where the DNS server listens: one address of each family, the primary one first. */
export interface DnsPlace {
  readonly addresses: readonly string[];
  readonly port: number;
  readonly metricsPort: number;
}

/** Writes the objects where they differ; the Service has an address of each of the ranges. */
export async function publishDns(store: Store, serviceCidrs: readonly string[], server: DnsPlace): Promise<void> {
  if (!(await store.get({ resource: Services, ...where }))) {
    await store.create(Services, dnsService(serviceCidrs, server));
  }
  for (const slice of dnsSlices(server)) {
    const existing = await store.get({ resource: EndpointSlices, ...where, name: slice.metadata.name });
    if (existing) await store.update(EndpointSlices, { ...existing, endpoints: slice.endpoints, ports: slice.ports });
    else await store.create(EndpointSlices, slice).catch(unlessThere);
  }
}

function dnsService(serviceCidrs: readonly string[], { port, metricsPort }: DnsPlace): Service {
  const clusterIPs = serviceCidrs.map(dnsAddress);
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { ...where, labels: { "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS" } },
    spec: {
      clusterIP: clusterIPs[0],
      clusterIPs,
      ipFamilyPolicy: clusterIPs.length > 1 ? "PreferDualStack" : "SingleStack",
      ports: [
        { name: "dns", port: 53, protocol: "UDP", targetPort: port },
        { name: "dns-tcp", port: 53, protocol: "TCP", targetPort: port },
        { name: "metrics", port: 9153, protocol: "TCP", targetPort: metricsPort },
      ],
    },
  };
}

function dnsSlices({ addresses, port, metricsPort }: DnsPlace): readonly EndpointSlice[] {
  return addresses.map((address, at): EndpointSlice => {
    const addressType = ipFamily(address) === 6 ? "IPv6" : "IPv4";
    return {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: {
        ...where,
        name: at === 0 ? where.name : `${where.name}-${addressType.toLowerCase()}`,
        labels: {
          "kubernetes.io/service-name": where.name,
          "endpointslice.kubernetes.io/managed-by": "dns.fairlead.dev",
        },
      },
      addressType,
      endpoints: [{ addresses: [address], conditions: { ready: true, serving: true, terminating: false } }],
      ports: [
        { name: "dns", port, protocol: "UDP" },
        { name: "dns-tcp", port, protocol: "TCP" },
        { name: "metrics", port: metricsPort, protocol: "TCP" },
      ],
    };
  });
}

function unlessThere(error: unknown): void {
  if (!isStatusReason(error, "AlreadyExists")) throw error;
}
