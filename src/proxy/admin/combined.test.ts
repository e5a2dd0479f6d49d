// Several workers' answers as one.

import { expect, test } from "bun:test";
import { atOnce } from "../../base/steps.ts";
import { combinedClusters, combinedSeries, combinedStats, summedMetrics } from "./combined.ts";
import { type ClusterView, type EndpointView, quantiles, type SeriesView, type StatsView } from "./views.ts";

test("samples of metrics are added up, and stay with their family", () => {
  const first =
    '# HELP a_total As.\n# TYPE a_total counter\na_total{route="x"} 1\n# HELP b Bs.\n# TYPE b gauge\nb 2.5\n';
  const second =
    '# HELP a_total As.\n# TYPE a_total counter\na_total{route="x"} 2\na_total{route="y z"} 3\n# HELP b Bs.\n# TYPE b gauge\nb 1\n';
  expect([...summedMetrics([first, second])].join("")).toBe(
    '# HELP a_total As.\n# TYPE a_total counter\na_total{route="x"} 3\na_total{route="y z"} 3\n# HELP b Bs.\n# TYPE b gauge\nb 3.5\n',
  );
});

test("an endpoint that one worker takes for unhealthy is shown as such, with the sums of all", () => {
  const endpoint: EndpointView = {
    ...{ address: "10.0.0.1", port: 80, weight: 1, priority: 0, active: 1, idle: 2 },
    ...{ status: "HEALTHY", outlierCheck: "OK" },
  };
  const cluster: ClusterView = {
    ...{ name: "service/shop/cart/80", type: "EDS", protocol: "http1", balance: "roundRobin", tls: false },
    from: { kind: "Service", name: "cart", field: "" },
    ...{ connections: 3, active: 1, pending: 0, connectFailures: 1, overflows: 0, endpoints: [endpoint] },
  };
  const ill: EndpointView = { ...endpoint, status: "UNHEALTHY", outlierCheck: "FAILED", because: "outlier" };
  const [combined] = atOnce(combinedClusters([[cluster], [{ ...cluster, endpoints: [ill] }]]));
  expect(combined).toMatchObject({ connections: 6, active: 2, connectFailures: 2 });
  expect(combined!.endpoints).toEqual([{ ...ill, active: 2, idle: 4 }]);
});

test("latencies are those of all workers' requests together", () => {
  const series = (buckets: number[]): SeriesView => ({
    ...{ route: "all", backend: "one", requests: buckets.reduce((a, b) => a + b), classes: { "2xx": 1 }, flags: {} },
    ...{ requestBytes: 1, responseBytes: 2, buckets, ...quantiles(buckets) },
  });
  const fast = Array.from({ length: 16 }, (_, index) => (index === 0 ? 90 : 0));
  const slow = Array.from({ length: 16 }, (_, index) => (index === 15 ? 10 : 0));
  const [combined] = atOnce(combinedSeries([[series(fast)], [series(slow)]]));
  expect(combined).toMatchObject({ requests: 100, p50: 0.5, p90: 0.5, p99: null, classes: { "2xx": 2 } });
});

test("all counters of workers are summed, and each of them is shown once, without its lists", () => {
  const stats = (pid: number, connections: number): StatsView => ({
    ...{
      name: "a",
      program: "1",
      pid,
      uptimeSeconds: pid,
      connected: true,
      draining: false,
      version: 1,
      rejections: 0,
    },
    resources: { secrets: 0, backends: 0, endpoints: 0, routeTables: 0, listeners: 1 },
    ...{ memoryBytes: 10, connections: { open: 1, accepted: 2, refused: 0 } },
    ...{ requests: { active: 0, refused: 0, memoryIsShort: false } },
    ...{ tls: { handshakes: 1, failures: 2, unknownNames: 3 }, reasons: { timeout: 1 }, retries: 2 },
    listeners: [{ name: "tcp", connections }],
    relays: [{ protocol: "TCP", backend: "one", opened: 3, open: connections, received: 10, sent: 20 }],
    ...{ routes: [], backends: [] },
  });
  const { workers, ...all } = atOnce(
    combinedStats({ name: "all", pid: 7 }, [stats(8, 1), { ...stats(9, 2), reasons: { timeout: 1, overflow: 5 } }]),
  );
  expect(all).toMatchObject({
    ...{ name: "all", pid: 7, memoryBytes: 20, retries: 4, reasons: { timeout: 2, overflow: 5 } },
    ...{ tls: { handshakes: 2, failures: 4, unknownNames: 6 }, listeners: [{ name: "tcp", connections: 3 }] },
    relays: [{ protocol: "TCP", backend: "one", opened: 6, open: 3, received: 20, sent: 40 }],
  });
  expect(workers.map(({ pid }) => pid)).toEqual([8, 9]);
  expect(workers[0]).not.toHaveProperty("relays");
});
