import { describe, expect, test } from "bun:test";
import { balancedPort, type PortOnNode } from "./balanced-ports.ts";
import type { ServicePort, TableEndpoint } from "./service-table.ts";

const endpoint: TableEndpoint = { address: "10.244.0.5", port: 8080, local: true };
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
  nodePort: undefined,
  healthCheckNodePort: undefined,
  internalPolicyLocal: false,
  externalPolicyLocal: true,
  affinitySeconds: undefined,
  clusterEndpoints: [],
  localEndpoints: [],
  hasEndpoints: true,
  localReady: 0,
  ...more,
});
const ready = row({ localEndpoints: [endpoint], localReady: 1 });
const ending = row({ localEndpoints: [endpoint] });
const none = row();
const steady = (one: ServicePort | undefined): PortOnNode => ({ now: one, inForce: one });
const nodes = (...rows: PortOnNode[]) => balancedPort(rows)?.nodes;

describe("a load balancer under policy Local sends to", () => {
  test("nodes with ready endpoints, whatever the others have", () => {
    expect(nodes(steady(none), steady(ready), steady(ending), steady(ready))).toEqual([2, 4]);
  });

  test("nodes whose endpoints finish their work when none is ready anywhere", () => {
    expect(nodes(steady(none), steady(ending), steady(none))).toEqual([2]);
  });

  test("a node with new endpoints once its rules lead there, and away from one that lost them at once", () => {
    const fresh = { now: ready, inForce: none };
    const leaving = { now: none, inForce: ready };
    expect(nodes(fresh, steady(ready))).toEqual([2]);
    expect(nodes(leaving, steady(ready))).toEqual([2]);
    expect(nodes({ now: ready, inForce: undefined }, steady(ending))).toEqual([2]);
    expect(nodes({ now: ending, inForce: ready }, steady(none))).toEqual([1]);
  });

  test("nobody of its choice without endpoints, without an address, or under policy Cluster", () => {
    expect(nodes(steady(none), steady(none))).toBeUndefined();
    expect(nodes(steady(undefined))).toBeUndefined();
    expect(nodes(steady({ ...ready, loadBalancerIPs: [] }))).toBeUndefined();
    expect(nodes(steady({ ...ready, externalPolicyLocal: false }))).toBeUndefined();
  });
});
