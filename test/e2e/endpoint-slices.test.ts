// EndpointSlices, Endpoints, their mirroring and ServiceCIDRs as upstream's e2e tests have them (kubernetes/kubernetes test/e2e/
// network/endpointslice.go, endpointslicemirroring.go, endpoints.go and service_cidrs.go), on one node.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Cluster, podYaml } from "./cluster.ts";
import { eventually, isRoot } from "./stack.ts";

if (!isRoot) console.log("skipped: endpoint slices: network namespaces need root");

const service = (name: string, spec: string) => `
apiVersion: v1
kind: Service
metadata: { name: ${name} }
spec: ${spec}
---`;

describe.skipIf(!isRoot)("on one node", () => {
  const cluster = new Cluster("slices");
  beforeAll(() => cluster.start(podYaml("client", { ports: [] })), 60_000);
  afterAll(() => cluster.remove(), 30_000);

  const slices = (name: string) => cluster.list("EndpointSlice", `kubernetes.io/service-name=${name}`);
  const until = <T>(ask: () => Promise<T>, holds: (value: T) => boolean) => eventually(ask, holds, 15_000);
  /** Its addresses and ports, as `10.1.2.3:80`. */
  const ofEndpoints = async (name: string): Promise<string[]> => {
    const subsets = (await cluster.get("Endpoints", name))?.subsets ?? [];
    return subsets
      .flatMap((one: any) =>
        (one.addresses ?? []).flatMap((at: any) => one.ports.map((p: any) => `${at.ip}:${p.port}`)),
      )
      .sort();
  };

  describe("EndpointSlice", () => {
    test("should create and delete Endpoints and EndpointSlices for a Service with a selector specified", async () => {
      await cluster.apply(service("empty", "{ selector: { app: nobody }, ports: [{ name: example, port: 80 }] }"));
      const [slice] = await until(
        () => slices("empty"),
        (list) => list.length > 0,
      );
      expect(slice.metadata.labels).toMatchObject({
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
      });
      const { uid } = (await cluster.get("Service", "empty")).metadata;
      expect(slice.metadata.ownerReferences).toMatchObject([{ kind: "Service", name: "empty", uid, controller: true }]);
      const endpoints = await until(
        () => cluster.get("Endpoints", "empty"),
        (one) => one !== undefined,
      );
      expect(endpoints.subsets ?? []).toEqual([]);
      await cluster.delete("Service", "empty");
      await cluster.gone("Endpoints", "empty");
      expect(
        await until(
          () => slices("empty"),
          (list) => list.length === 0,
        ),
      ).toEqual([]);
    }, 30_000);

    test("should create Endpoints and EndpointSlices for Pods matching a Service", async () => {
      const named = (name: string, app: string, port: number) =>
        podYaml(name, { app, ports: [] }).replace(
          "ports: []",
          `ports: [{ name: example-name, containerPort: ${port} }]`,
        );
      await cluster.apply(
        [
          named("pod1", "foo", 3000),
          named("pod2", "foo", 3001),
          service(
            "example-int-port",
            "{ selector: { app: foo }, ports: [{ name: example, port: 80, targetPort: 3000 }] }",
          ),
          service(
            "example-named-port",
            "{ selector: { app: foo }, ports: [{ name: http, port: 80, targetPort: example-name }] }",
          ),
          service(
            "example-no-match",
            "{ selector: { app: no-match }, ports: [{ name: example-no-match, port: 80, targetPort: example-name }] }",
          ),
        ].join(""),
      );
      const ip = async (name: string) => (await cluster.ready(name)).status.podIP;
      const [first, second] = [await ip("pod1"), await ip("pod2")];
      const same = async (name: string, wanted: string[]) => {
        const sorted = [...wanted].sort();
        expect(
          await until(
            () => cluster.endpoints(name),
            (list) => Bun.deepEquals(list, sorted),
          ),
        ).toEqual(sorted);
        expect(
          await until(
            () => ofEndpoints(name),
            (list) => Bun.deepEquals(list, sorted),
          ),
        ).toEqual(sorted);
      };
      await same("example-int-port", [`${first}:3000`, `${second}:3000`]);
      // Two answers of one name: two slices, each with ports of its own.
      await same("example-named-port", [`${first}:3000`, `${second}:3001`]);
      expect(await slices("example-named-port")).toHaveLength(2);
      await same("example-no-match", []);
      await cluster.delete("Pod", "pod1", 0);
      await same("example-named-port", [`${second}:3001`]);
      await cluster.apply(named("pod1", "foo", 3000));
      await same("example-named-port", [`${await ip("pod1")}:3000`, `${second}:3001`]);
    }, 40_000);

    test("should support EndpointSlice API operations", async () => {
      const make = (name: string) => ({
        apiVersion: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        metadata: { name, namespace: "default", labels: { special: "here" } },
        addressType: "IPv4",
        endpoints: [{ addresses: ["192.0.2.7", "192.0.2.8"] }],
        ports: [{ name: "p", port: 8080, protocol: "TCP" }],
      });
      const kind = cluster.resource("EndpointSlice");
      const made = await cluster.store.create(kind, make("by-hand"));
      await cluster.store.create(kind, make("by-hand-2"));
      const seen: string[] = [];
      const { resourceVersion } = await cluster.store.list(kind, {
        namespace: "default",
        labelSelector: "special=here",
      });
      const watch = cluster.store.watch(kind, resourceVersion, (event) => seen.push(event.type), {
        namespace: "default",
        labelSelector: "special=here",
      });
      const patched: any = await cluster.patch("EndpointSlice", "by-hand", {
        metadata: { annotations: { patched: "true" } },
      });
      expect(Number(patched.metadata.resourceVersion)).toBeGreaterThan(Number(made.metadata.resourceVersion));
      const updated = await cluster.store.update(kind, {
        ...patched,
        metadata: { ...patched.metadata, annotations: { updated: "true" } },
      });
      expect(updated.metadata.annotations).toEqual({ updated: "true" });
      await cluster.delete("EndpointSlice", "by-hand");
      expect(await cluster.list("EndpointSlice", "special=here")).toHaveLength(1);
      const all = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=special%3Dhere";
      expect((await cluster.store.request("DELETE", all)).status).toBe(200);
      expect(await cluster.list("EndpointSlice", "special=here")).toEqual([]);
      const wanted = ["MODIFIED", "MODIFIED", "DELETED", "DELETED"];
      await until(
        async () => seen.filter((type) => type !== "BOOKMARK"),
        (list) => list.length >= wanted.length,
      );
      expect(seen.filter((type) => type !== "BOOKMARK")).toEqual(wanted);
      watch.dispose();
    }, 30_000);

    const slice = (name: string, of: string, port: string, addresses: readonly string[]) => `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}, labels: { kubernetes.io/service-name: ${of}, endpointslice.kubernetes.io/managed-by: e2e } }
addressType: IPv4
ports: [${port}]
endpoints: [${addresses.map((one) => `{ addresses: [${one}], conditions: { ready: true } }`).join(", ")}]
---`;

    test("should support a Service with multiple ports specified in multiple EndpointSlices", async () => {
      await cluster.apply(podYaml("multi", { ports: ["8090", "8091"] }));
      const { podIP } = (await cluster.ready("multi")).status;
      const ports = "[{ name: a, port: 80, targetPort: 8090 }, { name: b, port: 8080, targetPort: 8091 }]";
      const [{ spec }] = await cluster.apply(
        [
          service("multi-ports", `{ ports: ${ports} }`),
          slice("multi-a", "multi-ports", "{ name: a, port: 8090, protocol: TCP }", [podIP]),
          slice("multi-b", "multi-ports", "{ name: b, port: 8091, protocol: TCP }", [podIP]),
        ].join(""),
      );
      for (const [port, wanted] of [
        [80, 8090],
        [8080, 8091],
      ] as const) {
        const answer = await until(
          () => cluster.http("default/client", spec.clusterIP, port),
          (one) => one.port === wanted,
        );
        expect(answer).toMatchObject({ pod: "multi", port: wanted });
      }
    }, 30_000);

    test("should support a Service with multiple endpoint IPs specified in multiple EndpointSlices", async () => {
      const names = ["one", "two"];
      await cluster.apply(names.map((name) => podYaml(name, { ports: ["8090"] })).join(""));
      const [{ spec }] = await cluster.apply(service("multi-ips", "{ ports: [{ port: 80, targetPort: 8090 }] }"));
      for (const name of names) {
        const { podIP } = (await cluster.ready(name)).status;
        await cluster.apply(slice(`ip-${name}`, "multi-ips", "{ port: 8090, protocol: TCP }", [podIP]));
      }
      const ask = () => cluster.answering("default/client", spec.clusterIP, 80, 12);
      const both = (list: string[]) => Bun.deepEquals(list, names);
      expect(await until(ask, both)).toEqual(names);
      await cluster.delete("EndpointSlice", "ip-two");
      expect(await until(ask, (list) => Bun.deepEquals(list, ["one"]))).toEqual(["one"]);
    }, 30_000);
  });

  describe("EndpointSliceMirroring", () => {
    const endpoints = (name: string, subsets: string) => `
apiVersion: v1
kind: Endpoints
metadata: { name: ${name} }
subsets: ${subsets}
---`;

    test("should mirror a custom Endpoints resource through create update and delete", async () => {
      await cluster.apply(service("mirrored", "{ ports: [{ name: example, port: 80 }] }"));
      const shows = (wanted: string[]) =>
        until(
          () => cluster.endpoints("mirrored"),
          (list) => Bun.deepEquals(list, wanted),
        );
      await cluster.apply(
        endpoints("mirrored", "[{ addresses: [{ ip: 192.0.2.3 }], ports: [{ name: example, port: 80 }] }]"),
      );
      expect(await shows(["192.0.2.3:80"])).toEqual(["192.0.2.3:80"]);
      const [made] = await slices("mirrored");
      expect(made.metadata.labels["endpointslice.kubernetes.io/managed-by"]).toBe(
        "endpointslicemirroring-controller.k8s.io",
      );
      await cluster.patch("Endpoints", "mirrored", {
        subsets: [{ addresses: [{ ip: "192.0.2.4" }], ports: [{ name: "example", port: 81 }] }],
      });
      expect(await shows(["192.0.2.4:81"])).toEqual(["192.0.2.4:81"]);
      await cluster.delete("Endpoints", "mirrored");
      expect(
        await until(
          () => slices("mirrored"),
          (list) => list.length === 0,
        ),
      ).toEqual([]);
    }, 30_000);

    test("should mirror a custom Endpoint with multiple subsets and same IP address", async () => {
      const subset = (name: string, port: number) =>
        `{ addresses: [{ ip: 192.0.2.5 }], ports: [{ name: ${name}, port: ${port}, protocol: TCP }] }`;
      await cluster.apply(
        service("subsets", "{ ports: [{ name: p1, port: 80 }, { name: p2, port: 81 }] }") +
          endpoints("subsets", `[${subset("p1", 9_090)}, ${subset("p2", 9_091)}]`),
      );
      const wanted = ["192.0.2.5:9090", "192.0.2.5:9091"];
      expect(
        await until(
          () => cluster.endpoints("subsets"),
          (list) => Bun.deepEquals(list, wanted),
        ),
      ).toEqual(wanted);
    }, 30_000);
  });

  describe("Endpoints", () => {
    test("should test the lifecycle of an Endpoint", async () => {
      const kind = cluster.resource("Endpoints");
      const one = (port: number) => [
        { addresses: [{ ip: "192.0.2.24" }], ports: [{ name: "http", port, protocol: "TCP" }] },
      ];
      const metadata = { name: "cycle", namespace: "default", labels: { "test-endpoint-static": "true" } };
      await cluster.store.create(kind, { apiVersion: "v1", kind: "Endpoints", metadata, subsets: one(80) } as any);
      const listed = await cluster.list("Endpoints", "test-endpoint-static=true");
      expect(listed.map(({ metadata: { name } }) => name)).toEqual(["cycle"]);
      await cluster.store.update(kind, { ...listed[0], subsets: one(8080) });
      expect((await cluster.get("Endpoints", "cycle")).subsets[0].ports[0].port).toBe(8080);
      await cluster.patch("Endpoints", "cycle", { metadata: { labels: { patched: "yes" } }, subsets: one(8081) });
      expect(await cluster.get("Endpoints", "cycle")).toMatchObject({
        metadata: { labels: { patched: "yes" } },
        subsets: [{ ports: [{ port: 8081 }] }],
      });
      const all = "/api/v1/namespaces/default/endpoints?labelSelector=test-endpoint-static%3Dtrue";
      expect((await cluster.store.request("DELETE", all)).status).toBe(200);
      await cluster.gone("Endpoints", "cycle");
    });

    test("should not be overwritten by the controller without a selector, and be managed with one", async () => {
      await cluster.apply(
        service("own", "{ ports: [{ port: 80 }] }") +
          "\napiVersion: v1\nkind: Endpoints\nmetadata: { name: own }\nsubsets: [{ addresses: [{ ip: 192.0.2.9 }], ports: [{ port: 80 }] }]\n---" +
          service("ours", "{ selector: { app: client }, ports: [{ port: 80, targetPort: 1234 }] }"),
      );
      const { podIP } = (await cluster.ready("client")).status;
      const managed = await until(
        () => cluster.get("Endpoints", "ours"),
        (one) => one?.subsets?.length === 1,
      );
      expect(managed.metadata.labels["endpoints.kubernetes.io/managed-by"]).toBe("endpoint-controller");
      expect(managed.subsets).toMatchObject([
        { addresses: [{ ip: podIP, targetRef: { kind: "Pod", name: "client" } }] },
      ]);
      expect(await ofEndpoints("own")).toEqual(["192.0.2.9:80"]);
      // Somebody's change of what the controller manages is taken back.
      await cluster.patch("Endpoints", "ours", { subsets: [] });
      expect(
        await until(
          () => ofEndpoints("ours"),
          (list) => list.length === 1,
        ),
      ).toEqual([`${podIP}:1234`]);
    }, 30_000);

    test("should name pods that are not ready apart", async () => {
      const gate = "  readinessGates: [{ conditionType: example.org/never }]";
      await cluster.apply(
        podYaml("waiting", { ports: ["8090"], spec: gate }) +
          service("waiting", "{ selector: { app: waiting }, ports: [{ port: 80, targetPort: 8090 }] }"),
      );
      const [subset] = await until(
        async () => (await cluster.get("Endpoints", "waiting"))?.subsets ?? [],
        (list) => list.length > 0,
      );
      expect(subset.addresses ?? []).toEqual([]);
      expect(subset.notReadyAddresses).toMatchObject([{ targetRef: { name: "waiting" } }]);
    }, 30_000);
  });

  describe("Service CIDRs", () => {
    test("should create Services and serve on different Service CIDRs, from one file", async () => {
      const text = `
apiVersion: v1
kind: Service
metadata: { name: cidr1-test }
spec:
  type: NodePort
  clusterIP: 198.18.9.10
  selector: { app: cidr1 }
  ports: [{ name: http, port: 80, targetPort: 8090 }]
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: { name: test-svc-cidr }
spec: { cidrs: [198.18.9.0/24] }
---
${podYaml("cidr1", { ports: ["8090"] })}`;
      expect(await cluster.stack.apply(text)).toMatchObject({ err: "", code: 0 });
      const { status } = await cluster.get("ServiceCIDR", "test-svc-cidr");
      expect(status.conditions).toMatchObject([{ type: "Ready", status: "True" }]);
      const ask = () => cluster.answering("default/client", "198.18.9.10", 80, 1);
      expect(await until(ask, ([one]) => one === "cidr1")).toEqual(["cidr1"]);
      const [{ nodePort }] = (await cluster.get("Service", "cidr1-test")).spec.ports;
      expect(await cluster.answering("default/client", cluster.nodes.get("node-1")!, nodePort, 1)).toEqual(["cidr1"]);
      // A second time it is all there already, and a wish outside of every range is still refused, with nothing written.
      expect(await cluster.stack.apply(text)).toMatchObject({ err: "", code: 0 });
      const wrong = text.replaceAll("198.18.9.10", "198.18.10.10").replaceAll("cidr1-test", "cidr2-test");
      const refused = await cluster.stack.apply(wrong.replace("test-svc-cidr", "other").replace("9.0/24", "11.0/24"));
      expect(refused.code).toBe(1);
      expect(refused.err).toContain("the provided network does not match the current range");
      expect(await cluster.get("ServiceCIDR", "other")).toBeUndefined();
      const twice = ["twin-1", "twin-2"].map((name) =>
        service(name, "{ clusterIP: 198.18.9.20, ports: [{ port: 80 }] }"),
      );
      const twins = await cluster.stack.apply(twice.join(""));
      expect([twins.code, twins.err]).toEqual([
        1,
        expect.stringContaining("198.18.9.20 is wanted by Service default/twin-1"),
      ]);
      expect(await cluster.get("Service", "twin-1")).toBeUndefined();
      await cluster.delete("Service", "cidr1-test");
      await cluster.delete("ServiceCIDR", "test-svc-cidr");
      await cluster.gone("ServiceCIDR", "test-svc-cidr");
    }, 40_000);

    test("should support ServiceCIDR API operations", async () => {
      const own = await cluster.get("ServiceCIDR", "kubernetes");
      expect(own.status.conditions).toMatchObject([{ type: "Ready", status: "True" }]);
      const path = "/apis/networking.k8s.io/v1/servicecidrs";
      const status: any = await (await cluster.store.request("GET", `${path}/kubernetes/status`)).json();
      expect([status.kind, status.metadata.uid]).toEqual(["ServiceCIDR", own.metadata.uid]);
      expect((await cluster.list("ServiceCIDR")).length).toBeGreaterThan(0);
      // Its ranges stay.
      const changed = await cluster.patch("ServiceCIDR", "kubernetes", { metadata: { annotations: { seen: "1" } } });
      expect(changed.metadata.annotations.seen).toBe("1");
    });

    test("should support IPAddress API operations", async () => {
      const kind = cluster.resource("IPAddress");
      const make = (name: string, type: string) => ({
        apiVersion: "networking.k8s.io/v1",
        kind: "IPAddress",
        metadata: { name, labels: { type } },
        spec: { parentRef: { group: "mygroup", resource: "myresources", namespace: "foo", name: "bar" } },
      });
      await cluster.store.create(kind, make("255.255.255.255", "broadcast"));
      await cluster.store.create(kind, make("fe80::42:1dff:fe84:f9e2", "link-local"));
      const patched = await cluster.patch("IPAddress", "255.255.255.255", {
        metadata: { annotations: { patched: "true" } },
      });
      expect(patched.metadata.annotations).toEqual({ patched: "true" });
      const updated = await cluster.store.update(kind, {
        ...patched,
        metadata: { ...patched.metadata, annotations: { patched: "true", updated: "true" } },
      });
      expect(updated.metadata.annotations).toMatchObject({ updated: "true" });
      expect(await cluster.list("IPAddress", "type=broadcast")).toHaveLength(1);
      await cluster.delete("IPAddress", "255.255.255.255");
      const all = "/apis/networking.k8s.io/v1/ipaddresses?labelSelector=type%3Dlink-local";
      expect((await cluster.store.request("DELETE", all)).status).toBe(200);
      expect(await cluster.list("IPAddress", "type=link-local")).toEqual([]);
    });
  });
});
