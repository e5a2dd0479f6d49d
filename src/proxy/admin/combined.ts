// The answers of several workers as one: what the admin interface of a composition shows. Counters are summed; what is the same
// everywhere is shown once. Lists are merged in steps: they may be long. Pure.

import { atOnce, type Steps } from "../../base/steps.ts";
import {
  type ClusterView,
  type EndpointView,
  type ListenerView,
  quantiles,
  type RelayView,
  type SeriesView,
  type StatsView,
  type StatusView,
} from "./views.ts";

/** Prometheus texts of the same families, added up sample by sample: in pieces, empty ones while there is more to read. */
export function* summedMetrics(texts: readonly string[]): Generator<string> {
  // Samples of a family stay behind its comment, whichever worker had them first.
  const families = new Map<string, { comments: Set<string>; sums: Map<string, number> }>();
  for (const text of texts) {
    let family = { comments: new Set<string>(), sums: new Map<string, number>() };
    for (let from = 0, to = 0; from < text.length; from = to + 1) {
      to = text.indexOf("\n", from);
      if (to < 0) to = text.length;
      const line = text.slice(from, to);
      if (line.startsWith("#")) {
        const name = line.split(" ", 3)[2]!;
        family = families.get(name) ?? { comments: new Set(), sums: new Map() };
        families.set(name, family);
        family.comments.add(line);
      } else if (line !== "") {
        const end = line.lastIndexOf(" ");
        const sample = line.slice(0, end);
        family.sums.set(sample, (family.sums.get(sample) ?? 0) + Number(line.slice(end + 1)));
      }
      yield "";
    }
  }
  for (const { comments, sums } of families.values()) {
    for (const line of comments) yield `${line}\n`;
    for (const [sample, sum] of sums) yield `${sample} ${sum}\n`;
  }
}

export interface CombinedStatus extends StatusView {
  readonly workers: readonly StatusView[];
}

/** Of at least one worker. */
export function combinedStatus(own: Pick<StatusView, "name" | "pid">, workers: readonly StatusView[]): CombinedStatus {
  const [first] = workers as [StatusView, ...StatusView[]];
  const sum = (of: (view: StatusView) => number) => workers.reduce((total, view) => total + of(view), 0);
  return {
    ...first,
    ...own,
    uptimeSeconds: Math.max(...workers.map(({ uptimeSeconds }) => uptimeSeconds)),
    connected: workers.every(({ connected }) => connected),
    draining: workers.every(({ draining }) => draining),
    rejections: sum(({ rejections }) => rejections),
    memoryBytes: sum(({ memoryBytes }) => memoryBytes),
    connections: {
      open: sum(({ connections }) => connections.open),
      accepted: sum(({ connections }) => connections.accepted),
      refused: sum(({ connections }) => connections.refused),
    },
    requests: {
      active: sum(({ requests }) => requests.active),
      refused: sum(({ requests }) => requests.refused),
      memoryIsShort: workers.some(({ requests }) => requests.memoryIsShort),
    },
    workers,
  };
}

export function combinedListeners(workers: readonly (readonly ListenerView[])[]): Steps<ListenerView[]> {
  return merged(
    workers,
    ({ name }) => name,
    (a, b) => ({ ...a, connections: a.connections + b.connections }),
  );
}

export function combinedClusters(workers: readonly (readonly ClusterView[])[]): Steps<ClusterView[]> {
  return merged(
    workers,
    ({ name }) => name,
    (a, b) => ({
      ...a,
      connections: a.connections + b.connections,
      active: a.active + b.active,
      pending: a.pending + b.pending,
      connectFailures: a.connectFailures + b.connectFailures,
      overflows: a.overflows + b.overflows,
      endpoints: atOnce(
        merged([a.endpoints, b.endpoints], ({ address, port }) => `${address} ${port}`, combinedEndpoint),
      ),
    }),
  );
}

/** Each worker finds out for itself: an endpoint that one of them takes for unhealthy is shown as such, with why. */
function combinedEndpoint(a: EndpointView, b: EndpointView): EndpointView {
  const worse = a.status === "UNHEALTHY" || b.status !== "UNHEALTHY" ? a : b;
  return {
    ...worse,
    outlierCheck: a.outlierCheck === "FAILED" || b.outlierCheck === "FAILED" ? "FAILED" : "OK",
    active: a.active + b.active,
    idle: a.idle + b.idle,
  };
}

export function combinedSeries(workers: readonly (readonly SeriesView[])[]): Steps<SeriesView[]> {
  return merged(
    workers,
    ({ route, backend }) => `${route}\0${backend}`,
    (a, b) => {
      const buckets = a.buckets.map((count, index) => count + b.buckets[index]!);
      return {
        ...a,
        requests: a.requests + b.requests,
        classes: summed(a.classes, b.classes),
        flags: summed(a.flags, b.flags),
        requestBytes: a.requestBytes + b.requestBytes,
        responseBytes: a.responseBytes + b.responseBytes,
        buckets,
        ...quantiles(buckets),
      };
    },
  );
}

function combinedRelays(workers: readonly (readonly RelayView[])[]): Steps<RelayView[]> {
  return merged(
    workers,
    ({ protocol, backend }) => `${protocol} ${backend}`,
    (a, b) => ({
      ...a,
      opened: a.opened + b.opened,
      open: a.open + b.open,
      received: a.received + b.received,
      sent: a.sent + b.sent,
    }),
  );
}

/** Of at least one worker. */
export function* combinedStats(
  own: Pick<StatusView, "name" | "pid">,
  workers: readonly StatsView[],
): Steps<CombinedStatus & StatsView> {
  const sum = (of: (view: StatsView) => number) => workers.reduce((total, view) => total + of(view), 0);
  return {
    ...combinedStatus(own, workers.map(statusOf)),
    tls: {
      handshakes: sum(({ tls }) => tls.handshakes),
      failures: sum(({ tls }) => tls.failures),
      unknownNames: sum(({ tls }) => tls.unknownNames),
    },
    listeners: yield* merged(
      workers.map(({ listeners }) => listeners),
      ({ name }) => name,
      (a, b) => ({ ...a, connections: a.connections + b.connections }),
    ),
    reasons: workers.map(({ reasons }) => reasons).reduce(summed),
    retries: sum(({ retries }) => retries),
    relays: yield* combinedRelays(workers.map(({ relays }) => relays)),
    routes: yield* combinedSeries(workers.map(({ routes }) => routes)),
    backends: yield* combinedClusters(workers.map(({ backends }) => backends)),
  };
}

/** Without the lists, which are told once. */
function statusOf({
  tls: _t,
  listeners: _l,
  reasons: _r,
  retries: _n,
  relays: _s,
  routes: _o,
  backends: _b,
  ...status
}: StatsView): StatusView {
  return status;
}

function summed(a: Readonly<Record<string, number>>, b: Readonly<Record<string, number>>): Record<string, number> {
  const sum = { ...a };
  for (const [name, count] of Object.entries(b)) sum[name] = (sum[name] ?? 0) + count;
  return sum;
}

function* merged<T>(lists: readonly (readonly T[])[], key: (one: T) => string, merge: (a: T, b: T) => T): Steps<T[]> {
  const found = new Map<string, T>();
  for (const list of lists) {
    for (const one of list) {
      const before = found.get(key(one));
      found.set(key(one), before === undefined ? one : merge(before, one));
      yield;
    }
  }
  return [...found.values()];
}
