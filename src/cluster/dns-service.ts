// The Service that pods' resolv.conf names: `kube-system/kube-dns` at the tenth address of the Service range, in front of the
// stack's own DNS server. It has no selector; its EndpointSlice is written here.

import { type EndpointSlice, EndpointSlices, type Service, Services } from "../api/kinds.ts";
import { isStatusReason } from "../api/status-error.ts";
import { addressAt, parseCidr } from "../base/cidr.ts";
import type { Store } from "../store/store.ts";

const where = { namespace: "kube-system", name: "kube-dns" };

/** The Service's address: kubeadm's convention, the tenth of the range. */
export function dnsAddress(serviceCidr: string): string {
  const cidr = parseCidr(serviceCidr);
  if (!cidr) throw new RangeError(`${serviceCidr} is no address range`);
  return addressAt(cidr, 10);
}

/** Writes both objects where they differ; `server` is where the DNS server listens. */
export async function publishDns(
  store: Store,
  serviceCidr: string,
  server: { address: string; port: number; metricsPort: number },
): Promise<void> {
  if (!(await store.get({ resource: Services, ...where }))) {
    const service: Service = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { ...where, labels: { "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS" } },
      spec: {
        clusterIP: dnsAddress(serviceCidr),
        ports: [
          { name: "dns", port: 53, protocol: "UDP", targetPort: server.port },
          { name: "dns-tcp", port: 53, protocol: "TCP", targetPort: server.port },
          { name: "metrics", port: 9153, protocol: "TCP", targetPort: server.metricsPort },
        ],
      },
    };
    await store.create(Services, service);
  }
  const slice: EndpointSlice = {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      ...where,
      labels: {
        "kubernetes.io/service-name": where.name,
        "endpointslice.kubernetes.io/managed-by": "dns.fairlead.dev",
      },
    },
    addressType: "IPv4",
    endpoints: [{ addresses: [server.address], conditions: { ready: true, serving: true, terminating: false } }],
    ports: [
      { name: "dns", port: server.port, protocol: "UDP" },
      { name: "dns-tcp", port: server.port, protocol: "TCP" },
      { name: "metrics", port: server.metricsPort, protocol: "TCP" },
    ],
  };
  const existing = await store.get({ resource: EndpointSlices, ...where });
  if (existing) await store.update(EndpointSlices, { ...existing, endpoints: slice.endpoints, ports: slice.ports });
  else await store.create(EndpointSlices, slice).catch(unlessThere);
}

function unlessThere(error: unknown): void {
  if (!isStatusReason(error, "AlreadyExists")) throw error;
}
