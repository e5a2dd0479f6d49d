// What the admin interface tells of a proxy that was given something to do.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import type { WireResource } from "../../model/wire.ts";
import { ProxyProcess } from "../proxy.ts";
import { prometheusText } from "../telemetry/prometheus.ts";
import { clusterViews, relayViews } from "./views.ts";

const folder = mkdtempSync(join(tmpdir(), "fl-t-views-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function process() {
  const options = { name: "t", scopes: ["gateway"], control: join(folder, "none"), admin: join(folder, "admin") };
  const limits = { maxConnections: 10, maxRequests: 10, maxMemory: 0 };
  return new ProxyProcess({ ...options, ...limits }, new FakeClock(), silentLogger);
}

const wire = (value: unknown) => value as WireResource;
const of = (kind: string) => ({ kind, name: "t", field: "" });
const backend = (name: string) =>
  wire({ name, from: of("Backend"), protocol: "tcp", balance: { kind: "roundRobin" }, connectTimeout: 1_000 });

test("clusters say how their endpoints come: from files, of a cluster's objects, or by each client", async () => {
  const proxy = process();
  const free = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  free.stop(true);
  const endpoints = (name: string, kind: string) => wire({ backend: name, from: of(kind), endpoints: [] });
  const chain = { from: of("Test"), when: { kind: "plain" }, serve: { tcp: [], original: true } };
  const rejected = await proxy.configuration.apply({
    ...{ version: 1, remove: {} },
    upsert: {
      backends: [backend("written"), backend("followed")],
      endpoints: [endpoints("written", "Endpoints"), endpoints("followed", "Service")],
      listeners: [
        wire({
          ...{ name: "all", from: of("Test"), scope: "gateway", address: "127.0.0.1", port: free.port },
          ...{ transport: "tcp", originalDestination: true, chains: [chain] },
        }),
      ],
    },
  });
  expect(rejected).toEqual([]);
  Object.assign(proxy.runtime.relays.of("tcp", "original"), { opened: 5, open: 2, bytesIn: 7, bytesOut: 9 });
  expect([...clusterViews(proxy)].map(({ name, type, connections }) => [name, type, connections])).toEqual([
    ["written", "STATIC", 0],
    ["followed", "EDS", 0],
    ["original", "ORIGINAL_DST", 2],
  ]);
  expect([...relayViews(proxy)]).toEqual([
    { protocol: "TCP", backend: "original", opened: 5, open: 2, received: 9, sent: 7 },
  ]);
  await proxy.configuration.apply({ version: 2, upsert: {}, remove: { listeners: ["all"] } });
  expect([...clusterViews(proxy)]).toHaveLength(2);
});

test("metrics come in small pieces, the samples of a family together; what has not counted anything is left out", async () => {
  const proxy = process();
  await proxy.configuration.apply({ version: 1, remove: {}, upsert: { backends: [backend("one")] } });
  const { metrics } = proxy.runtime;
  for (let route = 0; route < 500; route++) {
    const slot = metrics.slot(`route-${route}`, "one");
    if (route < 400) metrics.record(slot, 200, 3, 10, 2_000);
  }
  const pieces: string[] = [];
  for (const piece of prometheusText(proxy.runtime, proxy.listeners)) {
    pieces.push(piece);
    // A series that comes while the text is read is told or not, and breaks nothing.
    if (pieces.length === 100) metrics.record(metrics.slot("late", "one"), 500, 1);
  }
  expect(Math.max(...pieces.map((piece) => piece.length))).toBeLessThan(8_000);
  const families: string[] = [];
  const samples = new Map<string, number>();
  for (const line of pieces.join("").trimEnd().split("\n")) {
    if (line.startsWith("# HELP ")) families.push(line.split(" ")[2]!);
    else if (!line.startsWith("#")) {
      expect(line).toStartWith(families.at(-1)!);
      samples.set(line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1)));
    }
  }
  expect(new Set(families).size).toBe(families.length);
  expect(samples.get('fairlead_proxy_requests_total{route="route-399",backend="one",code="2xx"}')).toBe(1);
  const bucket = (le: string) =>
    samples.get(`fairlead_proxy_request_duration_seconds_bucket{route="route-0",backend="one",le="${le}"}`);
  expect([bucket("0.0025"), bucket("0.005"), bucket("+Inf")]).toEqual([0, 1, 1]);
  expect(samples.get('fairlead_proxy_response_body_bytes_sum{route="route-0",backend="one"}')).toBe(2_000);
  expect(samples.get('fairlead_proxy_endpoints{backend="one",state="healthy"}')).toBe(0);
  expect([...samples.keys()].filter((name) => name.includes("route-450"))).toEqual([]);
});
