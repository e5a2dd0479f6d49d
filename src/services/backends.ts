// Service ports in the routing model: one Backend and one Endpoints resource each, under the name that every dialect computes
// (model/names.ts), so that routes share pools, health and limits. See docs/decisions/0001.

import { type Derived, derive } from "../collections/derive.ts";
import type { Backend, Endpoint, Endpoints } from "../model/model.ts";
import { serviceBackendName } from "../model/names.ts";
import type { Provenance } from "../model/provenance.ts";
import type { ServiceInputs } from "./inputs.ts";
import { type ResolvedService, type ServiceEndpoint, targetPortOf } from "./resolved-service.ts";

/** Milliseconds to wait for a connection to an endpoint; Envoy's default. */
const connectTimeout = 5_000;

/**
 * Application protocols (KEP-3726, GEP-1911) that mean HTTP/2 without TLS: the standard one, and those that Istio, Linkerd and
 * cloud load balancers read so. Anything else over TCP is taken for HTTP/1.1.
 */
const http2 = new Set(["kubernetes.io/h2c", "h2c", "http2", "grpc"]);

/** A Backend for each TCP port. */
export function backendsOf(service: ResolvedService): readonly Backend[] {
  return tcpPorts(service).map(({ port, from }) => ({
    name: serviceBackendName(service.namespace, service.name, port.port),
    from,
    protocol: http2.has(port.appProtocol?.toLowerCase() ?? "") ? "h2c" : "http1",
    balance: { kind: "roundRobin" },
    connectTimeout,
  }));
}

/**
 * The endpoints of each TCP port: the ready ones, or where none is ready those that still finish their work, as the kernel
 * rules do. A Service without any (ExternalName is one) has an empty list: known, and answered by an error of the proxy.
 */
export function endpointsOf(service: ResolvedService): readonly Endpoints[] {
  return tcpPorts(service).map(({ port, from }) => {
    const family = service.spec.ipFamilies?.[0] === "IPv6" ? 6 : 4;
    const candidates = service.endpoints.filter(
      (one) => one.family === family && targetPortOf(one, port) !== undefined,
    );
    const ready = candidates.filter((one) => one.ready);
    const serving = ready.length > 0 ? ready : candidates.filter((one) => one.serving && one.terminating);
    const endpoints = new Map<string, Endpoint>();
    for (const one of serving) {
      const endpoint = modelEndpoint(one, targetPortOf(one, port)!);
      endpoints.set(`${endpoint.address} ${endpoint.port}`, endpoint);
    }
    return {
      backend: serviceBackendName(service.namespace, service.name, port.port),
      from,
      endpoints: [...endpoints.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one),
    };
  });
}

/** Both as collections, keyed by the backend's name. */
export function serviceBackends(inputs: Pick<ServiceInputs, "resolved">): {
  readonly backends: Derived<Backend>;
  readonly endpoints: Derived<Endpoints>;
} {
  return {
    backends: derive(inputs.resolved, backendsOf, { name: "service backends", key: (backend) => backend.name }),
    endpoints: derive(inputs.resolved, endpointsOf, { name: "service endpoints", key: (one) => one.backend }),
  };
}

function tcpPorts(service: ResolvedService) {
  return (service.spec.ports ?? []).flatMap((port, at) => {
    if ((port.protocol ?? "TCP") !== "TCP") return [];
    const from: Provenance = {
      kind: "Service",
      namespace: service.namespace,
      name: service.name,
      field: `spec.ports[${at}]`,
    };
    return [{ port, from }];
  });
}

function modelEndpoint(endpoint: ServiceEndpoint, port: number): Endpoint {
  const { target } = endpoint;
  return {
    address: endpoint.address,
    port,
    weight: 1,
    ...(endpoint.zone ? { zone: endpoint.zone } : {}),
    ...(endpoint.node ? { node: endpoint.node } : {}),
    ...(target?.name
      ? { target: { kind: target.kind ?? "Pod", namespace: target.namespace ?? "default", name: target.name } }
      : {}),
  };
}
