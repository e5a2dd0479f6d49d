import { expect, test } from "bun:test";
import type { EndpointSlice, Service, ServiceSpec } from "../api/kinds.ts";
import { Graph } from "../collections/graph.ts";
import { source } from "../collections/source.ts";
import { claimIndex } from "./external-claims.ts";
import { serviceTable } from "./node-table.ts";
import { type ResolvedService, resolveService } from "./resolved-service.ts";
import { malformedEndpoints } from "./service-events.ts";
import type { NodePlace } from "./service-table.ts";

const service = (name: string, created: string, spec: ServiceSpec): ResolvedService => {
  const object: Service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: "shop", creationTimestamp: created },
    spec: { ports: [{ port: 80, protocol: "TCP" }], ...spec, clusterIPs: [spec.clusterIP!] },
  };
  return resolveService(object, []);
};

test("an address and port that two Services claim is the older one's, on every node, until that one goes", () => {
  const graph = new Graph();
  const resolved = source<ResolvedService>("resolved", { graph });
  const nodes = source<NodePlace>("nodes", { graph });
  const table = serviceTable({ resolved, nodes, claims: claimIndex(resolved) }, "node-1");
  const external = (name: string) => [...table.values()].find((row) => row.service === name)?.externalIPs;
  resolved.set(
    "shop/new",
    service("new", "2026-01-02T00:00:00Z", { clusterIP: "10.96.0.2", externalIPs: ["198.51.100.7", "198.51.100.8"] }),
  );
  expect(external("new")).toEqual(["198.51.100.7", "198.51.100.8"]);
  resolved.set(
    "shop/old",
    service("old", "2026-01-01T00:00:00Z", { clusterIP: "10.96.0.1", externalIPs: ["198.51.100.7"] }),
  );
  expect(external("old")).toEqual(["198.51.100.7"]);
  expect(external("new")).toEqual(["198.51.100.8"]);
  resolved.delete("shop/old");
  expect(external("new")).toEqual(["198.51.100.7", "198.51.100.8"]);
  // Another port of the same address is no conflict, somebody's ClusterIP is.
  resolved.set(
    "shop/other",
    service("other", "2026-01-01T00:00:00Z", {
      clusterIP: "10.96.0.3",
      externalIPs: ["198.51.100.7", "10.96.0.2"],
      ports: [{ port: 81, protocol: "TCP" }],
    }),
  );
  expect(external("other")).toEqual(["198.51.100.7", "10.96.0.2"]);
  resolved.set(
    "shop/thief",
    service("thief", "2025-01-01T00:00:00Z", { clusterIP: "10.96.0.4", externalIPs: ["10.96.0.2"] }),
  );
  expect(external("thief")).toEqual([]);
});

test("endpoints without an address of their slice's family are told of, once a slice", () => {
  const slice: EndpointSlice = {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: "cart-1", namespace: "shop", labels: { "kubernetes.io/service-name": "cart" } },
    addressType: "IPv4",
    endpoints: [{ addresses: ["10.0.0.1"] }, { addresses: ["10.0.0.01"] }, { addresses: ["fd00::1"] }],
    ports: [],
  };
  expect(malformedEndpoints(slice)?.message).toBe(
    'EndpointSlice shop/cart-1: 2 endpoints are left out, their address is no IPv4 address: "10.0.0.01", "fd00::1"',
  );
  expect(malformedEndpoints({ ...slice, endpoints: [{ addresses: ["10.0.0.1"] }] })).toBeUndefined();
});
