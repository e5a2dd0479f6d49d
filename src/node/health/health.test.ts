import { afterEach, describe, expect, test } from "bun:test";
import { FakeClock } from "../../base/clock.ts";
import type { Disposable } from "../../base/disposal.ts";
import { silentLogger } from "../../base/log.ts";
import { Graph } from "../../collections/graph.ts";
import { source } from "../../collections/source.ts";
import type { ServicePort } from "../../services/service-table.ts";
import { RulesMeasures } from "../rules-measures.ts";
import { startHealthServers } from "./health-servers.ts";
import { metricsText } from "./metrics.ts";
import { isEligible, type ProxierProgress, proxierAnswer } from "./proxier-health.ts";
import { healthAnswer, serviceHealths } from "./service-health.ts";

const row = (more: Partial<ServicePort> = {}): ServicePort => ({
  key: "shop/cart:http/TCP/4",
  name: "shop/cart:http",
  namespace: "shop",
  service: "cart",
  family: 4,
  protocol: "TCP",
  port: 80,
  clusterIP: "10.96.0.9",
  externalIPs: [],
  loadBalancerIPs: ["10.97.0.1"],
  sourceRanges: [],
  nodePort: 30_080,
  healthCheckNodePort: 30_090,
  internalPolicyLocal: false,
  externalPolicyLocal: true,
  affinitySeconds: undefined,
  clusterEndpoints: [],
  localEndpoints: [],
  hasEndpoints: true,
  localReady: 0,
  ...more,
});
const local = (...hosts: number[]) => hosts.map((n) => ({ address: `10.244.0.${n}`, port: 8080, local: true }));

describe("a health check node port", () => {
  test("counts each ready endpoint of the node once, whatever the number of ports", () => {
    const rows = [
      row({ localEndpoints: local(1, 2), localReady: 2 }),
      row({ key: "b", localEndpoints: local(2, 3), localReady: 2 }),
    ];
    expect(serviceHealths(rows).get("shop/cart")).toEqual({
      namespace: "shop",
      service: "cart",
      port: 30_090,
      localEndpoints: 3,
    });
  });

  test("does not count endpoints that terminate", () => {
    const rows = [row({ localEndpoints: local(1), localReady: 0 })];
    expect(serviceHealths(rows).get("shop/cart")?.localEndpoints).toBe(0);
  });

  test("answers as kube-proxy does", () => {
    const health = { namespace: "shop", service: "cart", port: 30_090, localEndpoints: 0 };
    expect(healthAnswer(health, true)).toEqual({
      status: 503,
      headers: {
        "Content-Type": "application/json",
        "X-Content-Type-Options": "nosniff",
        "X-Load-Balancing-Endpoint-Weight": "0",
      },
      body: '{\n\t"service": {\n\t\t"namespace": "shop",\n\t\t"name": "cart"\n\t},\n\t"localEndpoints": 0,\n\t"serviceProxyHealthy": true\n}',
    });
    expect(healthAnswer({ ...health, localEndpoints: 2 }, true).status).toBe(200);
    expect(healthAnswer({ ...health, localEndpoints: 2 }, false).status).toBe(503);
  });
});

describe("healthz", () => {
  const now = Date.UTC(2026, 0, 1, 0, 10);
  const applied = now - 30_000;
  const of = (more: Partial<ProxierProgress>): ProxierProgress => ({
    family: 4,
    lastApplied: applied,
    pendingSince: undefined,
    ...more,
  });

  test("is well while changes are put in force in time", () => {
    const answer = proxierAnswer([of({ pendingSince: now - 59_000 })], now, true);
    expect(answer.status).toBe(200);
    expect(JSON.parse(answer.body)).toEqual({
      lastUpdated: "2026-01-01T00:10:00.000Z",
      currentTime: "2026-01-01T00:10:00.000Z",
      nodeEligible: true,
      healthy: true,
      status: { IPv4: { lastUpdated: "2026-01-01T00:10:00.000Z", healthy: true } },
    });
  });

  test("is not before the first transaction, nor when a change of one family waits for a minute", () => {
    expect(proxierAnswer([of({ lastApplied: undefined })], now, true).status).toBe(503);
    const answer = proxierAnswer([of({}), of({ family: 6, pendingSince: now - 60_000 })], now, true);
    expect(answer.status).toBe(503);
    expect(JSON.parse(answer.body).status).toEqual({
      IPv4: { lastUpdated: "2026-01-01T00:10:00.000Z", healthy: true },
      IPv6: { lastUpdated: "2026-01-01T00:09:30.000Z", healthy: false },
    });
  });

  test("of a node that is to go is unhealthy, livez is not", () => {
    expect(proxierAnswer([of({})], now, false).status).toBe(503);
    const livez = proxierAnswer([of({})], now, undefined);
    expect(livez.status).toBe(200);
    expect(livez.body).not.toContain("nodeEligible");
    expect(isEligible({ metadata: {}, spec: { taints: [{ key: "ToBeDeletedByClusterAutoscaler" }] } })).toBe(false);
    expect(isEligible({ metadata: { deletionTimestamp: "2026-01-01T00:00:00Z" } })).toBe(false);
    expect(isEligible({ metadata: {} })).toBe(true);
  });
});

describe("metrics", () => {
  test("tell how long a change of endpoints took from its source to the rules", () => {
    const measures = new RulesMeasures(1_000);
    const after = row({ clusterEndpoints: local(1) });
    measures.queued([{ key: "a", before: row(), after }], 2_000, () => new Date(1_500).toISOString());
    expect(measures.pendingEndpoints).toBe(1);
    expect(measures.pendingSince).toBe(2_000);
    measures.took(0.003, false);
    measures.begin()(2_100);
    const text = metricsText({
      mode: "iptables",
      families: [{ family: 4, measures }],
      rows: [row()],
      healthz: new Map([[200, 3]]),
      livez: new Map(),
    });
    expect(text).toContain('kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="0.5"} 0\n');
    expect(text).toContain('kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="1"} 1\n');
    expect(text).toContain(
      'kubeproxy_sync_partial_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.004"} 1\n',
    );
    expect(text).toContain('kubeproxy_sync_proxy_rules_endpoint_changes_total{ip_family="IPv4"} 1\n');
    expect(text).toContain('kubeproxy_sync_proxy_rules_endpoint_changes_pending{ip_family="IPv4"} 0\n');
    expect(text).toContain('kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 2.1\n');
    expect(text).toContain(
      'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="external"} 1\n',
    );
    expect(text).toContain('kubeproxy_proxy_healthz_total{code="200"} 3\n');
  });

  test("count what is refused, which then waits on", () => {
    const measures = new RulesMeasures(0);
    measures.queued([{ key: "a", before: undefined, after: row() }], 5);
    measures.begin();
    measures.refused(false);
    expect([measures.pendingServices, measures.pendingSince, measures.partialFailures]).toEqual([1, 5, 1]);
    measures.begin()(9);
    expect([measures.pendingServices, measures.pendingSince]).toEqual([0, undefined]);
  });
});

describe("the servers of a node", () => {
  let servers: Disposable | undefined;
  afterEach(() => servers?.dispose());

  test("follow the table, and say which port somebody else has", async () => {
    const table = source<ServicePort>("health table", { graph: new Graph() });
    const clock = new FakeClock();
    const failures: string[] = [];
    const address = "127.93.0.1";
    servers = startHealthServers({
      table,
      progress: () => [{ family: 4, lastApplied: clock.now(), pendingSince: undefined }],
      eligible: () => true,
      mode: "iptables",
      metrics: () => "a 1\n",
      addresses: [address],
      metricsAddresses: [address],
      effectivePort: (port) => port,
      bind: (open) => open(),
      failed: (service, message) => failures.push(`${service.service}: ${message}`),
      clock,
      log: silentLogger,
    });
    table.set("a", row({ localEndpoints: local(1), localReady: 1 }));
    const answer = await fetch(`http://${address}:30090/anything`);
    expect([answer.status, answer.headers.get("x-load-balancing-endpoint-weight")]).toEqual([200, "1"]);
    table.set("a", row());
    expect((await fetch(`http://${address}:30090/`)).status).toBe(503);
    expect((await fetch(`http://${address}:10256/healthz`)).status).toBe(200);
    expect((await fetch(`http://${address}:10256/other`)).status).toBe(404);
    expect(await (await fetch(`http://${address}:10249/proxyMode`)).text()).toBe("iptables");

    const other = Bun.serve({ hostname: address, port: 30_091, fetch: () => new Response("other") });
    table.set("b", row({ service: "web", healthCheckNodePort: 30_091 }));
    clock.advance(3_000);
    expect(failures).toHaveLength(1);
    expect(failures[0]).toStartWith("web: ");
    await other.stop(true);
    clock.advance(1_000);
    expect((await fetch(`http://${address}:30091/`)).status).toBe(503);
    table.delete("b");
    expect(await fetch(`http://${address}:30091/`).catch(() => "refused")).toBe("refused");
  });
});
