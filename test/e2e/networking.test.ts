// What Services do for pods, nodes and endpoints, as upstream's e2e tests have it (kubernetes/kubernetes test/e2e/network/
// networking.go, no_snat.go, apiserver.go, pod_lifecycle.go and service_latency.go), in two kernel modes, on two nodes each.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Cluster, podYaml } from "./cluster.ts";
import { hasSctp } from "./raw-packets.ts";
import { eventually, isRoot } from "./stack.ts";

if (!isRoot) console.log("skipped: networking: network namespaces need root");
else if (!hasSctp()) console.log("networking: this kernel has no SCTP sockets: of SCTP only the rules are looked at");

const ports = ["8080", "8081/UDP", "8084/SCTP"];
const services = `
apiVersion: v1
kind: Service
metadata: { name: nettest }
spec:
  type: NodePort
  selector: { app: netserver }
  ports:
    - { name: http, port: 80, targetPort: 8080 }
    - { name: udp, protocol: UDP, port: 90, targetPort: 8081 }
    - { name: sctp, protocol: SCTP, port: 95, targetPort: 8084 }
---
apiVersion: v1
kind: Service
metadata: { name: affine }
spec:
  sessionAffinity: ClientIP
  selector: { app: netserver }
  ports:
    - { name: http, port: 80, targetPort: 8080 }
    - { name: udp, protocol: UDP, port: 90, targetPort: 8081 }
---`;
const both = ["netserver-0", "netserver-1"];

for (const mode of ["iptables", "nftables"]) {
  describe.skipIf(!isRoot)(`Networking [${mode}]`, () => {
    const cluster = new Cluster(`net-${mode.slice(0, 4)}`);
    let clusterIP = "";
    let nodePorts: Record<string, number> = {};

    beforeAll(async () => {
      const pods = [
        podYaml("netserver-0", { app: "netserver", node: "node-1", ports }),
        podYaml("netserver-1", { app: "netserver", node: "node-2", ports }),
        podYaml("client", { node: "node-1", ports: [] }),
        podYaml("client-2", { node: "node-2", ports: [] }),
      ];
      await cluster.start(pods.join("") + services, "--nodes", "2", "--proxy-mode", mode);
      const { spec } = await cluster.get("Service", "nettest");
      clusterIP = spec.clusterIP;
      nodePorts = Object.fromEntries(spec.ports.map((port: any) => [port.name, port.nodePort]));
    }, 60_000);
    afterAll(() => cluster.remove(), 30_000);

    const sources = {
      pod: "default/client",
      node: "node/node-2",
      endpoint: "default/netserver-0",
    };
    /** Until all endpoints have answered; what has by then. */
    const all = (ask: () => Promise<string[]>, wanted: readonly string[] = both) =>
      eventually(ask, (names) => Bun.deepEquals(names, [...wanted]));

    describe("Granular Checks: Services", () => {
      for (const [kind, source] of Object.entries(sources)) {
        test(`should function for ${kind}-Service: http`, async () => {
          expect(await all(() => cluster.answering(source, clusterIP, 80))).toEqual(both);
          for (const node of cluster.nodes.values())
            expect(await all(() => cluster.answering(source, node, nodePorts["http"]!))).toEqual(both);
        }, 30_000);

        test(`should function for ${kind}-Service: udp`, async () => {
          expect(await all(() => cluster.answeringUdp(source, clusterIP, 90))).toEqual(both);
          for (const node of cluster.nodes.values())
            expect(await all(() => cluster.answeringUdp(source, node, nodePorts["udp"]!))).toEqual(both);
        }, 30_000);
      }

      test("should function for pod-, node- and endpoint-Service: sctp (rules)", async () => {
        const text =
          mode === "iptables"
            ? (await cluster.exec("node/node-1", "iptables-save", "-t", "nat")).out
            : (await cluster.exec("node/node-1", "nft", "list", "table", "ip", "kube-proxy")).out;
        const endpoints = (await cluster.endpoints("nettest")).filter((one) => one.endsWith(":8084"));
        expect(endpoints).toHaveLength(2);
        const [first, second] = endpoints;
        const wanted =
          mode === "iptables"
            ? [
                `-d ${clusterIP}/32 -p sctp -m comment --comment "default/nettest:sctp cluster IP" -m sctp --dport 95`,
                `-m sctp --dport ${nodePorts["sctp"]}`,
                `-p sctp -m comment --comment "default/nettest:sctp" -m sctp -j DNAT --to-destination ${first}`,
                `-m sctp -j DNAT --to-destination ${second}`,
              ]
            : [
                `${clusterIP} . sctp . 95 : goto service-`,
                `sctp . ${nodePorts["sctp"]} : goto external-`,
                `meta l4proto sctp dnat ip to numgen random mod 2 map { 0 : ${first!.replace(":", " . ")}, 1 : ${second!.replace(":", " . ")} }`,
              ];
        for (const one of wanted) expect(text).toContain(one);
      });

      test("should function for multiple endpoint-Services with same selector", async () => {
        const [{ spec }] = await cluster.apply(services.split("---")[0]!.replace("nettest", "second"));
        expect(await all(() => cluster.answering("default/netserver-0", spec.clusterIP, 80))).toEqual(both);
        await cluster.delete("Service", "second");
        // As in kube-proxy's modes: what is left of an address is refused or dropped. Where no route leads to it the kernel says so once
        // a second for each source (`route/error_cost`, the whole machine's), and the connection is begun again until it is told.
        const gone = mode === "iptables" ? ["ECONNREFUSED"] : ["timeout"];
        const patience = mode === "iptables" ? 8_000 : 300;
        const left = () => cluster.answering("default/netserver-0", spec.clusterIP, 80, 1, patience);
        expect(await all(left, gone)).toEqual(gone);
        expect(await all(() => cluster.answering("default/netserver-0", clusterIP, 80))).toEqual(both);
      }, 30_000);

      test("should update endpoints: http and udp", async () => {
        await cluster.apply(podYaml("netserver-2", { app: "netserver", node: "node-2", ports }));
        const three = [...both, "netserver-2"];
        expect(await all(() => cluster.answering("default/client", clusterIP, 80, 24), three)).toEqual(three);
        expect(await all(() => cluster.answeringUdp("default/client", clusterIP, 90, 24), three)).toEqual(three);
        await cluster.delete("Pod", "netserver-2");
        await cluster.gone("Pod", "netserver-2");
        expect(await cluster.answering("default/client", clusterIP, 80, 24)).toEqual(both);
        expect(await cluster.answeringUdp("default/client", clusterIP, 90, 24)).toEqual(both);
      }, 30_000);

      test("should update nodePort: http and udp", async () => {
        const [{ spec }] = await cluster.apply(services.split("---")[0]!.replace("nettest", "moving"));
        const [http, udp] = spec.ports.map((port: any) => port.nodePort);
        const node = cluster.nodes.get("node-2")!;
        expect(await all(() => cluster.answering("node/node-1", node, http))).toEqual(both);
        expect(await all(() => cluster.answeringUdp("node/node-1", node, udp))).toEqual(both);
        // Of the part of the range that is given to those who ask (KEP-3668): nobody else's by chance.
        const other = 30_080;
        const moved = spec.ports.map((port: any, at: number) => (at === 0 ? { ...port, nodePort: other } : port));
        await cluster.patch("Service", "moving", { spec: { ports: moved } });
        expect(await all(() => cluster.answering("node/node-1", node, other))).toEqual(both);
        expect(await all(() => cluster.answering("node/node-1", node, http, 1), ["ECONNREFUSED"])).toEqual([
          "ECONNREFUSED",
        ]);
        await cluster.delete("Service", "moving");
        expect(await all(() => cluster.answering("node/node-1", node, other, 1), ["ECONNREFUSED"])).toEqual([
          "ECONNREFUSED",
        ]);
        // A client that goes on sending is not served any more, either.
        expect(await all(() => cluster.answeringUdp("node/node-1", node, udp, 1, 300), ["timeout"])).toEqual([
          "timeout",
        ]);
      }, 40_000);

      test("should function for client IP based session affinity: http and udp", async () => {
        const { spec } = await cluster.get("Service", "affine");
        expect(await cluster.answering("default/client", spec.clusterIP, 80, 24)).toHaveLength(1);
        expect(await cluster.answeringUdp("default/client", spec.clusterIP, 90, 24)).toHaveLength(1);
      }, 30_000);

      test("should be able to handle large requests: http and udp", async () => {
        const answer = await cluster.http("default/client", clusterIP, 80, {
          body: "42".repeat(500_000),
          patience: 10_000,
        });
        expect(answer.body.length).toBe(1_000_000);
        const long = await cluster.http("default/client", clusterIP, 80, { path: "/?size=1m", patience: 10_000 });
        expect(long.text.length).toBe(1024 * 1024);
        // More than one packet: fragments find their way, too.
        const text = `n${"o".repeat(1_999)}`;
        const client = await cluster.udpClient("default/client", clusterIP, 90, text);
        expect(both).toContain(await client.answerOfAnother());
        expect(client.last.request).toBe(text);
        client.close();
      }, 30_000);

      test("should function for service endpoints using hostNetwork", async () => {
        const pod = (n: number) =>
          podYaml(`host-${n}`, {
            app: "host",
            node: `node-${n}`,
            ports: ["8085", "8086/UDP"],
            spec: "  hostNetwork: true",
          });
        const [{ spec }] = await cluster.apply(
          services
            .split("---")[0]!
            .replace("nettest", "host")
            .replace("netserver", "host")
            .replace("8080", "8085")
            .replace("8081", "8086") + `---${pod(1)}${pod(2)}`,
        );
        const hosts = ["host-1", "host-2"];
        for (const source of ["default/client", "node/node-1", "node/node-2"]) {
          expect(await all(() => cluster.answering(source, spec.clusterIP, 80), hosts)).toEqual(hosts);
          expect(await all(() => cluster.answeringUdp(source, spec.clusterIP, 90), hosts)).toEqual(hosts);
          const [{ nodePort }] = spec.ports;
          const node = cluster.nodes.get("node-1")!;
          expect(await all(() => cluster.answering(source, node, nodePort), hosts)).toEqual(hosts);
        }
        for (const name of hosts)
          expect((await cluster.get("Pod", name)).status.podIP).toBe(cluster.nodes.get(`node-${name.at(-1)}`));
      }, 40_000);
    });

    test("should recreate its rules if they are deleted", async () => {
      const node = (...argv: string[]) => cluster.exec("node/node-1", ...argv);
      const chains = async () =>
        (await node("iptables-save")).out.split("\n").filter((line) => line.startsWith(":KUBE-")).length;
      if (mode === "nftables") await node("nft", "delete", "table", "ip", "kube-proxy");
      else {
        for (const table of ["nat", "filter", "mangle"])
          for (const flag of ["-F", "-X"]) await node("iptables", "-t", table, flag);
        // Chains are deleted behind the back of whoever made them.
      }
      expect(await all(() => cluster.answering("default/client", clusterIP, 80))).toEqual(both);
      if (mode === "iptables") expect(await chains()).toBeGreaterThan(10);
    }, 30_000);

    test("should check kube-proxy urls", async () => {
      const get = async (url: string) => (await cluster.exec("node/node-1", "curl", "-s", "-i", url)).out;
      const health = await get(`http://${cluster.nodes.get("node-1")}:10256/healthz`);
      expect(health).toStartWith("HTTP/1.1 200 OK");
      expect(health).toContain("lastUpdated");
      expect(await get("http://127.0.0.1:10249/proxyMode")).toEndWith(mode);
    });

    test("should provide unchanging, static URL paths for kubernetes api services", async () => {
      // Upstream asks for /metrics and /openapi/v2, too, which this API server does not have.
      for (const path of ["/healthz", "/api", "/apis", "/openapi/v3", "/version"])
        expect([path, (await cluster.store.request("GET", path)).status]).toEqual([path, 200]);
    });

    test("NoSNAT: should be able to send traffic between Pods without SNAT", async () => {
      const names = ["client", "client-2", "netserver-0", "netserver-1"];
      const addresses = new Map<string, string>();
      for (const name of names) addresses.set(name, (await cluster.ready(name)).status.podIP);
      for (const from of names) {
        for (const to of both) {
          const answer = await cluster.http(`default/${from}`, addresses.get(to)!, 8080);
          expect([from, to, answer.pod, answer.client]).toEqual([from, to, to, addresses.get(from)]);
        }
      }
    }, 30_000);

    test("API Server: should provide secure master service, with Endpoints and EndpointSlices pointing to it", async () => {
      const { spec } = await cluster.get("Service", "kubernetes");
      expect(spec.ports).toMatchObject([{ name: "https", port: 443, protocol: "TCP" }]);
      const { subsets } = await cluster.get("Endpoints", "kubernetes");
      const old = subsets.flatMap((one: any) =>
        one.addresses.flatMap((at: any) => one.ports.map((port: any) => `${at.ip}:${port.port}`)),
      );
      expect(old.length).toBeGreaterThan(0);
      expect(await cluster.endpoints("kubernetes")).toEqual(old.sort());
      // And it answers there, to who knows it (a pod without a token is told so).
      const { out } = await cluster.exec(
        "default/client",
        ...["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", `https://${spec.clusterIP}/api/v1/pods`],
      );
      expect(out).toBe("401");
    });

    describe("Connectivity Pod Lifecycle", () => {
      const slow = (name: string, app: string, more = "") =>
        podYaml(name, {
          app,
          node: "node-2",
          ports: ["8080"],
          spec: `  ${more}`,
          // It does as it is told at once, and goes on answering until its time is up.
          annotations: `{ fairlead.dev/command: "trap '' TERM; exec python3 -m http.server 8080 --directory /proc/sys/kernel" }`,
        }).replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 20");

      test("should be able to connect from a Pod to a terminating Pod, and from one", async () => {
        await cluster.apply(slow("webserver", "webserver"));
        const { podIP } = (await cluster.ready("webserver")).status;
        const ask = async () => (await cluster.http("default/client", podIP, 8080, { path: "/hostname" })).text;
        const before = await eventually(ask, (text) => text !== undefined);
        expect(before).toBeTruthy();
        await cluster.delete("Pod", "webserver");
        expect((await cluster.get("Pod", "webserver")).metadata.deletionTimestamp).toBeDefined();
        for (let n = 0; n < 5; n++) expect(await ask()).toBe(before);
        const { podIP: server } = (await cluster.ready("netserver-0")).status;
        expect((await cluster.http("default/webserver", server, 8080)).client).toBe(podIP);
        expect((await cluster.get("Pod", "webserver")).metadata.deletionTimestamp).toBeDefined();
        await cluster.delete("Pod", "webserver", 0);
        await cluster.gone("Pod", "webserver");
      }, 40_000);

      test("should be able to have zero downtime on a Blue Green deployment using Services and Readiness Gates", async () => {
        const gate = "readinessGates: [{ conditionType: example.org/blue-green }]";
        const [{ spec }] = await cluster.apply(`
apiVersion: v1
kind: Service
metadata: { name: blue-green }
spec: { selector: { app: blue-green }, ports: [{ port: 80, targetPort: 8080 }] }
---${["blue", "green"].map((name) => podYaml(name, { app: "blue-green", node: "node-2", spec: `  ${gate}` })).join("")}`);
        const open = (name: string, status: "True" | "False") => {
          const conditions = [{ type: "example.org/blue-green", status }];
          const key = { resource: cluster.resource("Pod", ""), namespace: "default", name };
          return cluster.store.patch(
            key,
            { type: "strategic", body: { status: { conditions } } },
            { subresource: "status" },
          );
        };
        const running = (name: string) =>
          eventually(
            () => cluster.get("Pod", name),
            (pod) => pod?.status?.phase === "Running" && pod.status.containerStatuses?.[0]?.ready,
          );
        for (const name of ["blue", "green"]) {
          const { status } = await running(name);
          expect(status.conditions.find((one: any) => one.type === "Ready").status).toBe("False");
        }
        expect(await cluster.answering("default/client", spec.clusterIP, 80, 1)).toEqual(["ECONNREFUSED"]);
        await open("blue", "True");
        expect(await all(() => cluster.answering("default/client", spec.clusterIP, 80, 5), ["blue"])).toEqual(["blue"]);
        // From here on nothing may fail.
        const answered = new Set<string>();
        let over = false;
        const asking = (async () => {
          while (!over)
            for (const one of await cluster.answering("default/client", spec.clusterIP, 80, 1)) answered.add(one);
        })();
        await open("green", "True");
        const address = async (name: string) => `${(await cluster.get("Pod", name)).status.podIP}:8080`;
        const green = await address("green");
        const two = [await address("blue"), green].sort();
        expect(
          await eventually(
            () => cluster.endpoints("blue-green"),
            (list) => list.length === 2,
          ),
        ).toEqual(two);
        await open("blue", "False");
        await eventually(
          () => cluster.endpoints("blue-green"),
          (list) => list.length === 1,
        );
        expect(await all(() => cluster.answering("default/client", spec.clusterIP, 80, 12), ["green"])).toEqual([
          "green",
        ]);
        over = true;
        await asking;
        expect([...answered].sort()).toEqual(["blue", "green"]);
      }, 40_000);
    });

    // Upstream: 200 Services, median at most 20 s, 99 of 100 at most 50 s. Here far fewer, and from the Service to its slice.
    test("Service endpoints latency should not be very high", async () => {
      const times: number[] = [];
      for (let n = 0; n < 40; n++) {
        const name = `latency-${n}`;
        const began = performance.now();
        await cluster.apply(`
apiVersion: v1
kind: Service
metadata: { name: ${name} }
spec: { selector: { app: netserver }, ports: [{ port: 80, targetPort: 8080 }] }`);
        const endpoints = await eventually(
          () => cluster.endpoints(name),
          (list) => list.length === 2,
        );
        expect(endpoints).toHaveLength(2);
        times.push(performance.now() - began);
      }
      times.sort((a, b) => a - b);
      expect(times[20]!).toBeLessThan(2_000);
      for (let n = 0; n < 40; n++) await cluster.delete("Service", `latency-${n}`);
      await eventually(
        () => cluster.list("EndpointSlice", "kubernetes.io/service-name=latency-39"),
        (list) => list.length === 0,
      );
    }, 60_000);
  });
}
