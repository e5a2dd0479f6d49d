// What the admin interface shows, as data: what is in force and how it fares. The command line prints it as tables. Made when asked
// for; nothing here is on a request's way.

import { filterReferences } from "../../model/filter-references.ts";
import type { Backend, Listener, ResourceType, RouteTable } from "../../model/model.ts";
import type { Configuration } from "../configuration.ts";
import type { TlsCounts } from "../listener/reception.ts";
import type { LiveConnection } from "../listener/served.ts";
import type { ProxyProcess } from "../proxy.ts";
import type { ProxyRuntime } from "../runtime.ts";
import { original } from "../tcp/counts.ts";
import { bounds } from "../telemetry/metrics.ts";
import type { BackendRuntime } from "../upstream/backend.ts";

export interface StatusView {
  readonly name: string;
  readonly program: string;
  readonly pid: number;
  readonly uptimeSeconds: number;
  /** Whether the control process is there. */
  readonly connected: boolean;
  readonly draining: boolean;
  /** Of the control process' last update. */
  readonly version: number;
  readonly resources: Readonly<Record<ResourceType, number>>;
  readonly rejections: number;
  readonly memoryBytes: number;
  readonly connections: { readonly open: number; readonly accepted: number; readonly refused: number };
  readonly requests: { readonly active: number; readonly refused: number; readonly memoryIsShort: boolean };
}

export interface ListenerView {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly transport: Listener["transport"];
  readonly connections: number;
  readonly chains: readonly {
    readonly when: Listener["chains"][number]["when"];
    readonly tls: boolean;
    readonly serve: Listener["chains"][number]["serve"];
  }[];
}

export interface RouteView {
  readonly table: string;
  readonly hosts: readonly string[];
  readonly rule: string;
  readonly match: RouteTable["hosts"][number]["rules"][number]["match"];
  readonly action: "forward" | "redirect" | "respond";
  readonly backends: readonly { readonly backend: string; readonly weight: number }[];
  readonly filters: readonly string[];
  readonly from: RouteTable["from"];
}

export interface ClusterView {
  readonly name: string;
  /**
   * Envoy's word for where the endpoints are from: `STATIC` are those of files, `EDS` follow a cluster's objects, `ORIGINAL_DST` is to where
   * each client wanted to go. None is of a name that is looked up: the model has addresses only.
   */
  readonly type: "EDS" | "STATIC" | "ORIGINAL_DST";
  readonly protocol: Backend["protocol"];
  readonly balance: string;
  readonly tls: boolean;
  readonly from: Backend["from"];
  readonly connections: number;
  readonly active: number;
  readonly pending: number;
  readonly connectFailures: number;
  readonly overflows: number;
  readonly endpoints: readonly EndpointView[];
}

export interface EndpointView {
  readonly address: string;
  readonly port: number;
  readonly weight: number;
  readonly priority: number;
  readonly zone?: string;
  /** `DRAINING` has weight 0: it takes no new requests. */
  readonly status: "HEALTHY" | "UNHEALTHY" | "DRAINING";
  /** Outlier detection and failure accrual, as istioctl's column OUTLIER CHECK. */
  readonly outlierCheck: "OK" | "FAILED";
  readonly because?: string;
  readonly active: number;
  readonly idle: number;
}

/** What was passed through to one backend. */
export interface RelayView {
  readonly protocol: "TCP" | "UDP";
  readonly backend: string;
  /** Connections, or sessions: all so far, and those that are there. */
  readonly opened: number;
  readonly open: number;
  /** Bytes from clients, and to them. */
  readonly received: number;
  readonly sent: number;
}

/** All counters. */
export interface StatsView extends StatusView {
  readonly tls: Readonly<TlsCounts>;
  readonly listeners: readonly { readonly name: string; readonly connections: number }[];
  readonly reasons: Readonly<Record<string, number>>;
  readonly retries: number;
  readonly relays: readonly RelayView[];
  readonly routes: readonly SeriesView[];
  readonly backends: readonly ClusterView[];
}

export interface SeriesView {
  readonly route: string;
  readonly backend: string;
  readonly requests: number;
  /** By first digit of the status; `none` for requests that got no answer. */
  readonly classes: Readonly<Record<string, number>>;
  readonly flags: Readonly<Record<string, number>>;
  readonly requestBytes: number;
  readonly responseBytes: number;
  /** Milliseconds, from the histogram: upper bounds of the buckets they are in; null: above all of them. */
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p99: number | null;
  /** Requests by bucket of the durations' histogram. */
  readonly buckets: readonly number[];
}

export function statusView(proxy: ProxyProcess): StatusView {
  const { runtime, configuration, options } = proxy;
  return {
    name: options.name,
    program: options.program ?? "",
    pid: process.pid,
    uptimeSeconds: Math.round((runtime.clock.now() - proxy.startedAt) / 1000),
    connected: proxy.connected,
    draining: proxy.draining,
    version: configuration.version,
    resources: configuration.counts(),
    rejections: configuration.rejections,
    memoryBytes: process.memoryUsage.rss(),
    connections: { ...runtime.connections },
    requests: {
      active: runtime.overload.active,
      refused: runtime.overload.refused,
      memoryIsShort: runtime.overload.short,
    },
  };
}

// Lists are made one by one, so that a long one can be told in pieces (`in-pieces.ts`).

export function* listenerViews({ configuration, listeners }: ProxyProcess): Generator<ListenerView> {
  for (const { name, address, port, transport, chains } of [...configuration.inForce("listeners").values()])
    yield {
      ...{ name, address, port, transport },
      connections: listeners.connections(name),
      chains: chains.map(({ when, tls, serve }) => ({ when, tls: tls !== undefined, serve })),
    };
}

export function connectionViews({ listeners }: ProxyProcess): LiveConnection[] {
  return [...listeners.live()];
}

export function* routeViews({ configuration }: ProxyProcess): Generator<RouteView> {
  for (const { name: table, hosts } of [...configuration.inForce("routeTables").values()]) {
    for (const { names, rules } of hosts) {
      for (const { name, match, action, filters, from } of rules) {
        const to = action.kind === "forward" ? action.to : [];
        yield {
          ...{ table, hosts: names, rule: name, match, action: action.kind, from },
          backends: to.flatMap(({ target, weight }) =>
            "backend" in target ? [{ backend: target.backend, weight }] : [],
          ),
          filters: filters.map((filter) => {
            const asks = filterReferences(filter).backends.map(({ name }) => name);
            return asks.length > 0 ? `${filter.kind} (${asks.join(", ")})` : filter.kind;
          }),
        };
      }
    }
  }
}

/** With endpoints made one by one: a backend may have thousands. */
export interface ClusterParts extends Omit<ClusterView, "endpoints"> {
  readonly endpoints: Iterable<EndpointView>;
}

export function* clusterViews({ configuration, runtime }: ProxyProcess): Generator<ClusterParts> {
  for (const config of [...configuration.inForce("backends").values()]) {
    const backend = runtime.backends.get(config.name);
    const endpoints = configuration.inForce("endpoints").get(config.name);
    yield {
      // In files, endpoints are documents of their own.
      type: endpoints?.from.kind === "Endpoints" ? "STATIC" : "EDS",
      ...{ name: config.name, protocol: config.protocol, balance: config.balance.kind, from: config.from },
      tls: config.tls !== undefined,
      connections: backend.connections,
      active: backend.active,
      pending: backend.pending,
      connectFailures: backend.connectFailures,
      overflows: backend.overflows,
      endpoints: endpointViews(backend, runtime.deadlines.now()),
    };
  }
  const original = originalView(configuration, runtime);
  if (original) yield original;
}

/** Where a listener passes on to where clients wanted to go. */
function originalView(configuration: Configuration, { relays }: ProxyRuntime): ClusterParts | undefined {
  for (const { chains, from } of configuration.inForce("listeners").values()) {
    if (!chains.some(({ serve }) => "tcp" in serve && serve.original)) continue;
    const open = (relays.tcp.get(original)?.open ?? 0) + (relays.udp.get(original)?.open ?? 0);
    return {
      ...{ name: original, type: "ORIGINAL_DST", protocol: "tcp", balance: "originalDestination", tls: false, from },
      ...{ connections: open, active: 0, pending: 0, connectFailures: 0, overflows: 0, endpoints: [] },
    };
  }
  return undefined;
}

function* endpointViews(backend: BackendRuntime, now: number): Generator<EndpointView> {
  for (const { address, port, weight, priority, zone, health, active, idle } of backend.pools)
    yield {
      ...{ address, port, weight, priority, ...(zone === undefined ? {} : { zone }) },
      status: !health.healthy(now) ? "UNHEALTHY" : weight === 0 ? "DRAINING" : "HEALTHY",
      outlierCheck: health.outlier.ejected || health.breaker?.admits(now) === false ? "FAILED" : "OK",
      ...(health.outBecause === undefined ? {} : { because: String(health.outBecause) }),
      ...{ active, idle },
    };
}

export function* relayViews({ runtime: { relays } }: ProxyProcess): Generator<RelayView> {
  for (const protocol of ["tcp", "udp"] as const) {
    for (const [backend, { opened, open, bytesIn, bytesOut }] of relays[protocol]) {
      const word = protocol === "tcp" ? "TCP" : "UDP";
      yield { protocol: word, backend, opened, open, received: bytesOut, sent: bytesIn };
    }
  }
}

/** Of requests by bucket. */
export function quantiles(buckets: readonly number[]): Pick<SeriesView, "p50" | "p90" | "p99"> {
  const requests = buckets.reduce((sum, count) => sum + count, 0);
  const at = (share: number) => {
    let seen = 0;
    for (let bucket = 0; bucket < bounds.length; bucket++) {
      seen += buckets[bucket]!;
      if (seen >= share * requests) return bounds[bucket]!;
    }
    return null;
  };
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99) };
}

export function* seriesViews({ runtime: { metrics } }: ProxyProcess): Generator<SeriesView> {
  for (const [slot, series] of [...metrics.series].entries()) {
    const classes: Record<string, number> = {};
    let requests = 0;
    for (let digit = 0; digit <= 5; digit++) {
      const count = metrics.count(slot, digit);
      if (count === 0) continue;
      classes[digit === 0 ? "none" : `${digit}xx`] = count;
      requests += count;
    }
    if (requests === 0) continue;
    const buckets = Array.from({ length: bounds.length + 1 }, (_, bucket) => metrics.bucket(slot, bucket));
    yield {
      ...series,
      requests,
      classes,
      flags: metrics.flags(slot),
      requestBytes: metrics.requestBytes.sum(slot),
      responseBytes: metrics.responseBytes.sum(slot),
      buckets,
      ...quantiles(buckets),
    };
  }
}
