// The figures of backends and their endpoints for Prometheus: connections, limits, retries, health. Made when asked for, from what
// `upstream/backend.ts` counts anyway; joined with the others in `prometheus.ts`.

import type { BackendRuntime } from "../upstream/backend.ts";
import { family, labels } from "./exposition.ts";

interface Family {
  readonly name: string;
  readonly type: "counter" | "gauge";
  readonly help: string;
  /** Values of one backend, with labels beside its name. */
  readonly of: (
    backend: BackendRuntime,
  ) => readonly (readonly [value: number, labels?: Readonly<Record<string, string>>])[];
}

const families: readonly Family[] = [
  gauge("upstream_connections", "Connections to the endpoints of a backend.", ({ connections }) => connections),
  gauge("upstream_active_requests", "Requests under way at a backend.", ({ active }) => active),
  gauge("upstream_pending_requests", "Requests that wait for a connection to a backend.", ({ pending }) => pending),
  counter(
    "upstream_connect_failures_total",
    "Connections to endpoints that could not be made.",
    ({ connectFailures }) => connectFailures,
  ),
  counter("upstream_overflows_total", "Requests refused by a backend's limits.", ({ overflows }) => overflows),
  counter(
    "upstream_retry_overflows_total",
    "Retries that a backend's budget or limit did not allow.",
    ({ retryOverflows }) => retryOverflows,
  ),
  {
    name: "upstream_copies_total",
    type: "counter",
    help: "Requests that mirrors copied to a backend, or left out, because of a limit or because their client left.",
    of: ({ copies }) => Object.entries(copies).map(([result, count]) => [count, { result }] as const),
  },
  {
    name: "endpoints",
    type: "gauge",
    help: "Endpoints of a backend by health; those of weight 0 are left out.",
    of: ({ pools, deadlines }) => {
      const now = deadlines.now();
      let [healthy, unhealthy] = [0, 0];
      for (const { weight, health } of pools) {
        if (weight === 0) continue;
        if (health.healthy(now)) healthy++;
        else unhealthy++;
      }
      return [
        [healthy, { state: "healthy" }],
        [unhealthy, { state: "unhealthy" }],
      ];
    },
  },
  {
    name: "endpoint_ejections_total",
    type: "counter",
    help: "How often endpoints of a backend were taken out, by cause.",
    of: ({ watch }) => [...(watch?.ejections ?? [])].map(([cause, count]) => [count, { cause }] as const),
  },
  counter(
    "endpoint_ejection_overflows_total",
    "Ejections that maxEjectionPercent did not let happen.",
    ({ watch }) => watch?.overflows ?? 0,
  ),
];

/** In pieces: a family's samples of one backend each. */
export function* upstreamLines(backends: Iterable<BackendRuntime>): Generator<string> {
  // Which there are may change while the pieces are taken.
  const known = [...backends].filter((backend) => backend.known);
  for (const { name, type, help, of } of families) {
    yield family(`fairlead_proxy_${name}`, type, help);
    for (const backend of known) {
      let lines = "";
      for (const [value, more] of of(backend))
        lines += `fairlead_proxy_${name}{${labels({ backend: backend.name, ...more })}} ${value}\n`;
      yield lines;
    }
  }
}

function gauge(name: string, help: string, of: (backend: BackendRuntime) => number): Family {
  return { name, type: "gauge", help, of: (backend) => [[of(backend)]] };
}

function counter(name: string, help: string, of: (backend: BackendRuntime) => number): Family {
  return { name, type: "counter", help, of: (backend) => [[of(backend)]] };
}
