import { describe, expect, test } from "bun:test";
import type { Endpoint, EndpointSlice, Service, ServiceSpec } from "../api/kinds.ts";
import { backendsOf, endpointsOf } from "./backends.ts";
import { resolveService } from "./resolved-service.ts";
import { servicePortsOf } from "./service-table.ts";

const here = { name: "node-1", zone: "z1" };

const service = (spec: ServiceSpec = {}, more: Partial<Service> = {}): Service => ({
  apiVersion: "v1",
  kind: "Service",
  ...more,
  metadata: { name: "cart", namespace: "shop", ...more.metadata },
  spec: {
    type: "ClusterIP",
    clusterIP: "10.96.0.5",
    clusterIPs: ["10.96.0.5"],
    ports: [{ name: "http", protocol: "TCP", port: 80 }],
    ...spec,
  },
});

type Kind = "ready" | "unready" | "terminating";
const conditions = {
  ready: { ready: true, serving: true, terminating: false },
  unready: { ready: false, serving: false, terminating: false },
  terminating: { ready: false, serving: true, terminating: true },
};
const endpoint = (n: number, kind: Kind = "ready", more: Partial<Endpoint> = {}): Endpoint => ({
  addresses: [`10.244.0.${n}`],
  conditions: conditions[kind],
  nodeName: "node-1",
  ...more,
});
const slice = (endpoints: readonly Endpoint[], more: Partial<EndpointSlice> = {}): EndpointSlice => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: { name: "cart-1", namespace: "shop", labels: { "kubernetes.io/service-name": "cart" } },
  addressType: "IPv4",
  ports: [{ name: "http", protocol: "TCP", port: 8080 }],
  endpoints,
  ...more,
});
const rows = (object: Service, ...slices: readonly EndpointSlice[]) =>
  servicePortsOf(resolveService(object, slices), here);
const only = (spec: ServiceSpec, endpoints: readonly Endpoint[]) => rows(service(spec), slice(endpoints))[0]!;
const hosts = (list: readonly { readonly address: string }[]) => list.map((one) => one.address.split(".")[3]);

describe("a row of the service table", () => {
  test("has the ready endpoints, sorted by address and port, with what is local", () => {
    const row = only({}, [endpoint(3), endpoint(20, "ready", { nodeName: "node-2" }), endpoint(4, "unready")]);
    expect(row.key).toBe("shop/cart:http/TCP/4");
    expect(row.clusterEndpoints).toEqual([
      { address: "10.244.0.20", port: 8080, local: false },
      { address: "10.244.0.3", port: 8080, local: true },
    ]);
    expect(row.localEndpoints).toEqual([]);
    expect(row.localReady).toBe(1);
  });

  test("falls back to endpoints that still finish their work when none is ready", () => {
    expect(hosts(only({}, [endpoint(1), endpoint(2, "terminating")]).clusterEndpoints)).toEqual(["1"]);
    const row = only({}, [endpoint(1, "unready"), endpoint(2, "terminating")]);
    expect(hosts(row.clusterEndpoints)).toEqual(["2"]);
    expect(row.hasEndpoints).toBe(true);
    expect(only({}, [endpoint(1, "unready")]).hasEndpoints).toBe(false);
  });

  test("under internal policy Local has this node's endpoints only, and knows that others exist", () => {
    const row = only({ internalTrafficPolicy: "Local" }, [endpoint(2, "ready", { nodeName: "node-2" })]);
    expect(row).toMatchObject({ clusterEndpoints: [], localEndpoints: [], hasEndpoints: true });
  });

  test("under external policy Local has both: pods are served by all", () => {
    const spec: ServiceSpec = {
      type: "NodePort",
      externalTrafficPolicy: "Local",
      ports: [{ name: "http", port: 80, nodePort: 30_090 }],
    };
    const row = only(spec, [endpoint(1, "terminating"), endpoint(2, "ready", { nodeName: "node-2" })]);
    expect(hosts(row.clusterEndpoints)).toEqual(["2"]);
    expect(hosts(row.localEndpoints)).toEqual(["1"]);
    expect(row.localReady).toBe(0);
  });

  test("follows hints only when every ready endpoint has one and one names this node or zone", () => {
    const zone = (name: string) => ({ hints: { forZones: [{ name }] } });
    const node = (name: string) => ({ hints: { forNodes: [{ name }], forZones: [{ name: "z1" }] } });
    const near = [endpoint(1, "ready", zone("z1")), endpoint(2, "ready", zone("z2"))];
    expect(hosts(only({}, near).clusterEndpoints)).toEqual(["1"]);
    expect(hosts(only({}, [...near, endpoint(3)]).clusterEndpoints)).toEqual(["1", "2", "3"]);
    expect(hosts(only({}, [endpoint(2, "ready", zone("z2"))]).clusterEndpoints)).toEqual(["2"]);
    const byNode = [endpoint(1, "ready", node("node-2")), endpoint(2, "ready", node("node-1"))];
    expect(hosts(only({}, byNode).clusterEndpoints)).toEqual(["2"]);
  });

  test("exists once a port and family", () => {
    const both = service({
      clusterIPs: ["10.96.0.5", "fd00:96::5"],
      ports: [
        { name: "http", port: 80 },
        { name: "dns", port: 53, protocol: "UDP" },
      ],
    });
    expect(rows(both).map((row) => row.key)).toEqual([
      "shop/cart:http/TCP/4",
      "shop/cart:dns/UDP/4",
      "shop/cart:http/TCP/6",
      "shop/cart:dns/UDP/6",
    ]);
  });

  test("does not exist for headless, external and foreign Services", () => {
    expect(rows(service({ clusterIP: "None", clusterIPs: ["None"] }))).toEqual([]);
    expect(rows(service({ type: "ExternalName" }))).toEqual([]);
    const foreign = {
      metadata: { name: "cart", namespace: "shop", labels: { "service.kubernetes.io/service-proxy-name": "x" } },
    };
    expect(rows(service({}, foreign))).toEqual([]);
  });

  test("has the addresses that its type allows, those that somebody else serves left out", () => {
    const status = {
      loadBalancer: { ingress: [{ ip: "10.97.0.1" }, { ip: "10.97.0.2", ipMode: "Proxy" }, { ip: "fd00::1" }] },
    };
    const spec: ServiceSpec = {
      type: "LoadBalancer",
      externalTrafficPolicy: "Local",
      healthCheckNodePort: 30_100,
      externalIPs: ["192.0.2.1", "fd00::2"],
      loadBalancerSourceRanges: ["192.0.2.0/24 ", "fd00::/64"],
      ports: [{ name: "http", port: 80, nodePort: 30_090 }],
      sessionAffinity: "ClientIP",
    };
    expect(rows(service(spec, { status }))[0]).toMatchObject({
      loadBalancerIPs: ["10.97.0.1"],
      externalIPs: ["192.0.2.1"],
      sourceRanges: ["192.0.2.0/24"],
      nodePort: 30_090,
      healthCheckNodePort: 30_100,
      affinitySeconds: 10_800,
    });
    expect(rows(service({ ...spec, type: "ClusterIP" }, { status }))[0]).toMatchObject({
      loadBalancerIPs: [],
      sourceRanges: [],
      nodePort: undefined,
      healthCheckNodePort: undefined,
    });
  });
});

describe("a Service and its slices", () => {
  test("count an address that stands in two slices once, the ready one", () => {
    const two = [slice([endpoint(1, "terminating")]), slice([endpoint(1)])];
    for (const order of [two, [...two].reverse()]) {
      expect(resolveService(service(), order).endpoints.map((one) => [one.address, one.ready])).toEqual([
        ["10.244.0.1", true],
      ]);
    }
  });

  test("leave out what is no address of the slice's family, and slices of names", () => {
    const odd = [
      slice([endpoint(1, "ready", { addresses: ["fd00::1"] }), endpoint(2, "ready", { addresses: ["010.1.1.1"] })]),
      slice([endpoint(3, "ready", { addresses: ["db.example.com"] })], { addressType: "FQDN" }),
    ];
    expect(resolveService(service(), odd).endpoints).toEqual([]);
  });

  test("take an endpoint without conditions as ready", () => {
    const plain: Endpoint = { addresses: ["10.244.0.1"] };
    expect(resolveService(service(), [slice([plain])]).endpoints[0]).toMatchObject({
      ready: true,
      serving: true,
      terminating: false,
    });
  });
});

describe("a Service in the routing model", () => {
  const resolved = (spec: ServiceSpec, endpoints: readonly Endpoint[], more: Partial<EndpointSlice> = {}) =>
    resolveService(service(spec), [slice(endpoints, more)]);

  test("is a backend for each TCP port, speaking what the port says", () => {
    const spec: ServiceSpec = {
      ports: [
        { name: "http", port: 80 },
        { name: "grpc", port: 9000, appProtocol: "kubernetes.io/h2c" },
        { name: "grpc-too", port: 9001, appProtocol: "grpc" },
        { name: "web", port: 9002, appProtocol: "http" },
        { name: "dns", port: 53, protocol: "UDP" },
      ],
    };
    expect(backendsOf(resolved(spec, [])).map((one) => [one.name, one.protocol, one.from.field])).toEqual([
      ["service/shop/cart/80", "http1", "spec.ports[0]"],
      ["service/shop/cart/9000", "h2c", "spec.ports[1]"],
      ["service/shop/cart/9001", "h2c", "spec.ports[2]"],
      ["service/shop/cart/9002", "http1", "spec.ports[3]"],
    ]);
  });

  test("has the ready endpoints, with pod, node and zone", () => {
    const target = { kind: "Pod", namespace: "shop", name: "cart-1" };
    const [endpoints] = endpointsOf(
      resolved({}, [endpoint(2, "ready", { zone: "z1", targetRef: target }), endpoint(1), endpoint(3, "unready")]),
    );
    expect(endpoints?.endpoints).toEqual([
      { address: "10.244.0.1", port: 8080, weight: 1, node: "node-1" },
      { address: "10.244.0.2", port: 8080, weight: 1, zone: "z1", node: "node-1", target },
    ]);
  });

  test("without endpoints is known all the same", () => {
    expect(endpointsOf(resolved({}, []))).toEqual([
      { backend: "service/shop/cart/80", from: expect.anything(), endpoints: [] },
    ]);
  });

  test("that is headless is reached through its endpoints as well", () => {
    expect(
      endpointsOf(resolved({ clusterIP: "None", clusterIPs: ["None"] }, [endpoint(1)]))[0]?.endpoints,
    ).toHaveLength(1);
  });
});
