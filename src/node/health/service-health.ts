// What a node answers on a Service's health check node port, for load balancers that should send only to nodes with endpoints
// (pkg/proxy/healthcheck/service_health.go): pure, from the node's service table. Who listens is `service-health-server.ts`.

import type { ServicePort } from "../../services/service-table.ts";

export interface ServiceHealth {
  readonly namespace: string;
  readonly service: string;
  readonly port: number;
  /** Ready endpoints on this node, each address once whatever the number of ports; terminating ones do not count. */
  readonly localEndpoints: number;
}

export interface HealthAnswer {
  readonly status: 200 | 503;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** One for each Service of the rows that has a health check node port, by `namespace/service`. */
export function serviceHealths(rows: Iterable<ServicePort>): Map<string, ServiceHealth> {
  const found = new Map<string, ServiceHealth>();
  const addresses = new Map<string, Set<string>>();
  for (const row of rows) {
    if (row.healthCheckNodePort === undefined) continue;
    const key = `${row.namespace}/${row.service}`;
    const family = `${key} ${row.family}`;
    const seen = addresses.get(family) ?? new Set<string>();
    addresses.set(family, seen);
    // The list is that of the ready ones unless there are none.
    if (row.localReady > 0) for (const { address } of row.localEndpoints) seen.add(address);
    found.set(key, {
      namespace: row.namespace,
      service: row.service,
      port: row.healthCheckNodePort,
      localEndpoints: Math.max(found.get(key)?.localEndpoints ?? 0, seen.size, row.localReady),
    });
  }
  return found;
}

/** kube-proxy's answer, to any path and method. */
export function healthAnswer(health: ServiceHealth, proxyHealthy: boolean): HealthAnswer {
  const { namespace, service, localEndpoints } = health;
  const content = {
    service: { namespace, name: service },
    localEndpoints,
    serviceProxyHealthy: proxyHealthy,
  };
  return {
    status: localEndpoints > 0 && proxyHealthy ? 200 : 503,
    headers: {
      "Content-Type": "application/json",
      "X-Content-Type-Options": "nosniff",
      "X-Load-Balancing-Endpoint-Weight": String(localEndpoints),
    },
    body: JSON.stringify(content, undefined, "\t"),
  };
}
