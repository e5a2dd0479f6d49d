// Several workers' answers as one.

import { expect, test } from "bun:test";
import { atOnce } from "../../base/steps.ts";
import { combinedClusters, combinedSeries, summedMetrics } from "./combined.ts";
import { type ClusterView, type EndpointView, quantiles, type SeriesView } from "./views.ts";

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
    ...{ name: "service/shop/cart/80", protocol: "http1", balance: "roundRobin", tls: false },
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
