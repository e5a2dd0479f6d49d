// What `fairlead proxy …` prints.

import { expect, test } from "bun:test";
import type { ProxyStatus } from "../cluster/control-api.ts";
import type { ClusterView, RouteView } from "../proxy/admin/views.ts";
import {
  ageInWords,
  bytesInWords,
  clusterTable,
  endpointTable,
  listenerTable,
  nameParts,
  relayTable,
  routeTable,
  statsTable,
  statusTable,
  upgradeInWords,
} from "./proxy-tables.ts";

const from = { kind: "Service", namespace: "shop", name: "cart", field: "" };

test("a proxy's types are synced, stale, refused or not sent, and since when", () => {
  const proxy: ProxyStatus = {
    ...{ proxy: "gateway.default", connected: true, since: 1_000, pid: 7, program: "1.0", admin: "/x" },
    ...{ scopes: ["gateway"], sent: 3, applied: 2, rejected: [] },
    types: {
      backends: { count: 2, state: "synced" },
      endpoints: { count: 2, state: "stale" },
      listeners: { count: 1, state: "rejected" },
      routeTables: { count: 1, state: "synced" },
      secrets: { count: 0, state: "synced" },
    },
  };
  const { header, rows } = statusTable([proxy, { ...proxy, connected: false }], 721_000);
  expect(header.slice(2, 7)).toEqual(["CDS", "EDS", "LDS", "RDS", "SDS"]);
  expect(rows[0]!.slice(2, 7)).toEqual(["SYNCED (12m)", "STALE (12m)", "REJECTED", "SYNCED (12m)", "NOT SENT"]);
  expect(new Set(rows[1]!.slice(2, 7))).toEqual(new Set(["DISCONNECTED"]));
});

test("workers are shown where a proxy has some, and an upgrade that did not come about in a sentence", () => {
  const type = { count: 1, state: "synced" } as const;
  const one: ProxyStatus = {
    ...{ proxy: "a", connected: true, since: 0, pid: 7, program: "1.0", admin: "/x", scopes: [] },
    ...{ sent: 1, applied: 1, rejected: [], types: { backends: type } },
  };
  expect(statusTable([one], 0).header).not.toContain("WORKERS");
  const { header, rows } = statusTable([one, { ...one, workers: { of: 3, present: [one, one] } }], 0);
  expect(header.at(-1)).toBe("WORKERS");
  expect(rows.map((row) => row.at(-1))).toEqual(["1/1", "2/3"]);
  expect(upgradeInWords({ program: "2.0", failures: 2, reason: "it did not start", next: 9_000 }, 1_000)).toBe(
    "the present program (2.0) could not take over, tried 2 times: it did not start. Next try in 8s",
  );
});

test.each([
  [59_400, "59s"],
  [60_000, "1m"],
  [7_200_000, "2h"],
  [259_200_000, "3d"],
  [-5, "0s"],
])("%d ms is %s", (milliseconds, text) => {
  expect(ageInWords(milliseconds)).toBe(text);
});

test("a backend's name is a Service's, or is shown as it is", () => {
  expect(nameParts("service/shop/cart/80")).toEqual({
    service: "cart.shop.svc.cluster.local",
    port: "80",
    subset: "-",
  });
  expect(nameParts("service/shop/cart/80/v2")).toMatchObject({ subset: "v2" });
  expect(nameParts("one")).toEqual({ service: "one", port: "-", subset: "-" });
});

test("clusters name the DestinationRule that they are from, and how endpoints come; endpoints are bracketed where they are IPv6", () => {
  const cluster: ClusterView = {
    ...{
      name: "service/shop/cart/80",
      type: "EDS",
      protocol: "http1",
      balance: "roundRobin",
      tls: false,
      connections: 3,
      active: 1,
    },
    ...{ pending: 0, connectFailures: 0, overflows: 0, from },
    endpoints: [
      {
        ...{ address: "fd00::1", port: 8080, weight: 1, priority: 0, active: 1, idle: 2 },
        ...{ status: "UNHEALTHY", outlierCheck: "FAILED" },
      },
    ],
  };
  const ruled = { ...cluster, from: { ...from, kind: "DestinationRule", name: "slow" } };
  const written: ClusterView = {
    ...cluster,
    name: "one",
    type: "STATIC",
    from: { ...from, kind: "Backend", name: "one" },
  };
  expect(clusterTable([cluster, ruled, written]).rows).toEqual([
    ["cart.shop.svc.cluster.local", "80", "-", "EDS", "-", "3", "1", "0"],
    ["cart.shop.svc.cluster.local", "80", "-", "EDS", "slow.shop", "3", "1", "0"],
    ["one", "-", "-", "STATIC", "-", "3", "1", "0"],
  ]);
  expect(endpointTable([cluster]).rows).toEqual([
    ["[fd00::1]:8080", "UNHEALTHY", "FAILED", "service/shop/cart/80", "1", "1", "2"],
  ]);
});

test("listeners have a row for each chain", () => {
  const { rows } = listenerTable([
    {
      ...{ name: "l", address: "10.0.0.1", port: 443, transport: "tcp", connections: 4 },
      chains: [
        { when: { kind: "sni", names: ["a.example.com", "*.b.example.com"] }, tls: true, serve: { routes: "main" } },
        {
          when: { kind: "tls" },
          tls: false,
          serve: { tcp: [{ from, weight: 1, target: { backend: "one" }, filters: [] }] },
        },
        {
          when: { kind: "tls", protocols: ["istio"], destination: ["10.1.0.0/16"], destinationPorts: [80, 81] },
          tls: true,
          serve: { routes: "main" },
        },
        {
          when: { kind: "plain", destinationPorts: [8080], source: ["192.0.2.0/24"] },
          tls: false,
          serve: { tcp: [], original: true },
        },
      ],
    },
  ]);
  expect(rows).toEqual([
    ["10.0.0.1", "443", "SNI: a.example.com,*.b.example.com", "Route: main", "4"],
    ["10.0.0.1", "443", "Trans: tls", "Cluster: one", "4"],
    ["10.0.0.1", "443", "Trans: tls; App: istio; Addr: 10.1.0.0/16:80,10.1.0.0/16:81", "Route: main", "4"],
    ["10.0.0.1", "443", "Addr: *:8080; From: 192.0.2.0/24", "Original destination", "4"],
  ]);
});

test("routes show domains, conditions and shares in words", () => {
  const route: RouteView = {
    ...{ table: "main", rule: "shop/cart", action: "forward", filters: [] },
    hosts: ["a.example.com", "b.example.com", "c.example.com"],
    match: {
      method: "GET",
      path: { kind: "segments", value: "/cart" },
      headers: [{ name: "x-version", match: { kind: "prefix", value: "v2" } }],
      not: [{ path: { kind: "exact", value: "/cart/old" } }],
    },
    backends: [
      { backend: "one", weight: 9 },
      { backend: "two", weight: 1 },
    ],
    from: { kind: "HTTPRoute", namespace: "shop", name: "cart", field: "" },
  };
  expect(routeTable([route]).rows).toEqual([
    [
      ...["main", "a.example.com", "a.example.com, b.example.com + 1 more..."],
      ...["GET /cart/* x-version=v2* not (/cart/old)", "cart.shop", "one 90%, two 10%"],
    ],
  ]);
});

test("what was passed through is told by protocol and backend", () => {
  const relay = { protocol: "TCP", backend: "one", opened: 3, open: 1, received: 17, sent: 3 * 1024 ** 3 } as const;
  expect(relayTable([relay]).rows).toEqual([["TCP", "one", "3", "1", "17 B", "3.0 GiB"]]);
  expect([1023, 1024, 1_048_570].map(bytesInWords)).toEqual(["1023 B", "1.0 KiB", "1.0 MiB"]);
});

test("latencies above all bounds are said so", () => {
  const { rows } = statsTable([
    {
      ...{ route: "r", backend: "", requests: 3, classes: { "2xx": 1, "5xx": 2 }, flags: { UF: 1, UT: 1 } },
      ...{ requestBytes: 0, responseBytes: 0, buckets: [], p50: 1, p90: 2.5, p99: null },
    },
  ]);
  expect(rows).toEqual([["r", "-", "3", "0", "2", "UF:1,UT:1", "1 ms", "2.5 ms", "> 30 s"]]);
});
