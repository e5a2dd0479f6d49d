// The answers of several workers as one: what the admin interface of a composition shows. Counters are summed; what is the same
// everywhere is shown once. Pure.

import {
  type ClusterView,
  type EndpointView,
  type ListenerView,
  quantiles,
  type SeriesView,
  type StatusView,
} from "./views.ts";

/** Prometheus texts of the same families, added up sample by sample. */
export function summedMetrics(texts: readonly string[]): string {
  const order: string[] = [];
  const sums = new Map<string, number>();
  const comments = new Set<string>();
  // Samples of a family stay behind its comment, whichever worker had them first.
  const families = new Map<string, string[]>();
  let family = "";
  for (const text of texts) {
    for (const line of text.split("\n")) {
      if (line === "") continue;
      if (line.startsWith("#")) {
        family = line.split(" ", 3)[2]!;
        if (!families.has(family)) {
          families.set(family, []);
          order.push(family);
        }
        if (!comments.has(line)) families.get(family)!.push(line);
        comments.add(line);
        continue;
      }
      const end = line.lastIndexOf(" ");
      const sample = line.slice(0, end);
      if (!sums.has(sample)) families.get(family)!.push(sample);
      sums.set(sample, (sums.get(sample) ?? 0) + Number(line.slice(end + 1)));
    }
  }
  const lines = order.flatMap((name) =>
    families.get(name)!.map((line) => (sums.has(line) ? `${line} ${sums.get(line)}` : line)),
  );
  return `${lines.join("\n")}\n`;
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

export function combinedListeners(workers: readonly (readonly ListenerView[])[]): ListenerView[] {
  return merged(
    workers,
    ({ name }) => name,
    (a, b) => ({ ...a, connections: a.connections + b.connections }),
  );
}

export function combinedClusters(workers: readonly (readonly ClusterView[])[]): ClusterView[] {
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
      endpoints: merged([a.endpoints, b.endpoints], ({ address, port }) => `${address} ${port}`, combinedEndpoint),
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

export function combinedSeries(workers: readonly (readonly SeriesView[])[]): SeriesView[] {
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

function summed(a: Readonly<Record<string, number>>, b: Readonly<Record<string, number>>): Record<string, number> {
  const sum = { ...a };
  for (const [name, count] of Object.entries(b)) sum[name] = (sum[name] ?? 0) + count;
  return sum;
}

function merged<T>(lists: readonly (readonly T[])[], key: (one: T) => string, merge: (a: T, b: T) => T): T[] {
  const found = new Map<string, T>();
  for (const one of lists.flat()) {
    const before = found.get(key(one));
    found.set(key(one), before === undefined ? one : merge(before, one));
  }
  return [...found.values()];
}
