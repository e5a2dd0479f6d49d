// What a node says and does about its Services, on a real stack: health check node ports, healthz and metrics, UDP clients
// whose endpoint is replaced.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { eventually, isRoot, TestStack } from "./stack.ts";

if (!isRoot) console.log("services on a node: skipped, needs root");

const stack = new TestStack("svcnode");

const workload = (name: string, node: string, port: number, protocol = "TCP") => `
apiVersion: v1
kind: Pod
metadata: {name: ${name}, labels: {app: ${name}}}
spec:
  nodeName: ${node}
  containers:
  - {name: web, image: example/web, ports: [{containerPort: ${port}, protocol: ${protocol}}]}
---`;

const objects = `${workload("web", "node-1", 8080)}
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 31234
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: names}
spec:
  type: NodePort
  selector: {app: names}
  ports: [{port: 53, targetPort: 5353, protocol: UDP, nodePort: 31053}]
---${workload("client", "node-1", 8080)}
`;

const curl = async (url: string) => {
  const { out } = await stack.exec("default/client", "curl", "-s", "-m", "3", "-i", url);
  return out.replaceAll("\r", "");
};
let addresses: string[] = [];

describe.skipIf(!isRoot)("a node", () => {
  beforeAll(async () => {
    const up = await stack.upWith(objects, "--nodes", "2");
    if (up.code !== 0) throw new Error(up.err);
    addresses = (await stack.list("nodes"))
      .map((node) => node.status.addresses.find((one: { type: string }) => one.type === "InternalIP").address)
      .sort();
  }, 60_000);
  afterAll(() => stack.remove(), 30_000);

  test("answers a health check node port with the number of its endpoints", async () => {
    const first = await eventually(
      () => curl(`http://${addresses[0]}:31234/`),
      (text) => text.includes(" 200 "),
    );
    expect(first).toMatch(/^HTTP\/1.1 200 OK\n/);
    expect(first.toLowerCase()).toContain("x-load-balancing-endpoint-weight: 1\n");
    expect(first).toEndWith(
      '{\n\t"service": {\n\t\t"namespace": "default",\n\t\t"name": "web"\n\t},\n\t"localEndpoints": 1,\n\t"serviceProxyHealthy": true\n}',
    );
    const second = await curl(`http://${addresses[1]}:31234/`);
    expect(second).toMatch(/^HTTP\/1.1 503 /);
    expect(second.toLowerCase()).toContain("x-load-balancing-endpoint-weight: 0\n");
  });

  test("says that its rules keep up, and how long they take", async () => {
    const text = await curl(`http://${addresses[1]}:10256/healthz`);
    expect(text).toMatch(/^HTTP\/1.1 200 OK\n/);
    expect(JSON.parse(text.slice(text.indexOf("{")))).toMatchObject({ nodeEligible: true, healthy: true });
    // From other nodes and pods the metrics are not to be seen.
    expect(await curl(`http://${addresses[0]}:10249/metrics`)).toBe("");
    const inNode = (path: string) => stack.exec("node/node-1", "curl", "-s", `http://127.0.0.1:10249${path}`);
    expect((await inNode("/proxyMode")).out).toBe("iptables");
    const metrics = (await inNode("/metrics")).out.split("\n");
    for (const name of [
      'sync_proxy_rules_duration_seconds_count{ip_family="IPv4"}',
      'network_programming_duration_seconds_count{ip_family="IPv4"}',
      'sync_proxy_rules_iptables_total{ip_family="IPv4",table="nat"}',
    ]) {
      const line = metrics.find((one) => one.startsWith(`kubeproxy_${name} `));
      expect([name, Number(line?.split(" ").at(-1)) > 0]).toEqual([name, true]);
    }
  });

  // A client that goes on sending from one port keeps its entry in connection tracking alive.
  test("UDP clients keep being answered when the only endpoint is replaced", async () => {
    const pod = (n: number) =>
      workload(`names-${n}`, `node-${n}`, 5353, "UDP").replace(`app: names-${n}`, "app: names");
    expect((await stack.apply(pod(1))).code).toBe(0);
    await stack.fairlead("wait", "pod/names-1");
    const { clusterIP } = (await stack.get("services", "names")).spec;
    const script = (address: string, port: number) => `
      const seen = new Set();
      const socket = await Bun.udpSocket({ socket: { error() {}, data(_, data) {
        const name = /names-\\d/.exec(data.toString())?.[0];
        if (name && !seen.has(name)) { seen.add(name); console.log(name); }
        if (seen.size === 2) process.exit(0);
      } } });
      // Refused while there is no endpoint.
      setInterval(() => { try { socket.send("hello", ${port}, "${address}"); } catch {} }, 20);
      setTimeout(() => process.exit(1), 15000);`;
    const targets = [
      [clusterIP, 53],
      [addresses[0]!, 31_053],
    ] as const;
    const clients = targets.map(([address, port]) =>
      stack.exec("default/client", process.execPath, "-e", script(address, port)),
    );
    const entries = async () => (await stack.exec("node/node-1", "conntrack", "-L", "-p", "udp")).out;
    const tracked = await eventually(entries, (text) => (text.match(/sport=5353/g)?.length ?? 0) >= 2);
    expect(tracked.match(/sport=5353/g)).toHaveLength(2);
    expect((await stack.fairlead("delete", "pod", "names-1", "-n", "default")).code).toBe(0);
    expect((await stack.apply(pod(2))).code).toBe(0);
    for (const client of clients) expect(await client).toMatchObject({ err: "", out: "names-1\nnames-2\n" });
  }, 30_000);

  test("Events say which address a Service cannot have, and Endpoints stand beside the slices", async () => {
    const taken = `
apiVersion: v1
kind: Service
metadata: {name: rival}
spec:
  type: LoadBalancer
  loadBalancerIP: 203.0.113.1
  externalIPs: [${(await stack.get("services", "web")).spec.clusterIP}]
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
`;
    expect((await stack.apply(taken)).code).toBe(0);
    const reasons = async () =>
      (await stack.list("events", "-n", "default"))
        .filter((event) => event.involvedObject.name === "rival")
        .map((event) => event.reason)
        .sort();
    expect(await eventually(reasons, (list) => list.length >= 2)).toEqual([
      "ExternalAddressConflict",
      "SyncLoadBalancerFailed",
    ]);
    const endpoints = await stack.get("endpoints", "web");
    expect(endpoints.subsets[0].addresses[0].targetRef.name).toBe("web");
  });

  test("a ServiceCIDR more makes room for Services that pods reach, and leaves when none is there", async () => {
    const range = `
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: more}
spec: {cidrs: [198.18.7.0/28]}
`;
    const service = `
apiVersion: v1
kind: Service
metadata: {name: roomy}
spec: {clusterIP: 198.18.7.5, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`;
    for (const one of [range, service]) expect(await stack.apply(one)).toMatchObject({ err: "", code: 0 });
    const answer = await eventually(
      () => curl("http://198.18.7.5/"),
      (text) => text.includes(" 200 "),
    );
    expect(answer).toContain('"pod":"web"');
    const cidrs = async () => (await stack.kubectl("get", "servicecidrs", "-o", "json")).out;
    expect((await stack.kubectl("delete", "servicecidr", "more", "--wait=false")).code).toBe(0);
    expect(await eventually(cidrs, (text) => text.includes("Terminating"))).toContain("There are still IPAddresses");
    expect((await stack.kubectl("delete", "service", "roomy")).code).toBe(0);
    expect(await eventually(cidrs, (text) => !text.includes('"more"'))).not.toContain('"more"');
  }, 20_000);
});

describe("on the loopback network", () => {
  const loopback = new TestStack("svcloop", "loopback");
  afterAll(() => loopback.remove(), 30_000);

  test("the same servers answer on the node's address, Endpoints are written, and a port of somebody else is told of", async () => {
    const up = await loopback.upWith(objects.replaceAll("node-2", "node-1"));
    expect(up).toMatchObject({ err: "", code: 0 });
    const [node] = await loopback.list("nodes");
    const address = node.status.addresses[0].address as string;
    const health = () => fetch(`http://${address}:31234/`).then(async (answer) => [answer.status, await answer.json()]);
    expect(await eventually(health, ([status]) => status === 200)).toMatchObject([200, { localEndpoints: 1 }]);
    expect((await fetch(`http://${address}:10256/livez`)).status).toBe(200);
    const metrics = await (await fetch(`http://${address}:10249/metrics`)).text();
    expect(metrics).toContain('kubeproxy_sync_proxy_rules_service_changes_pending{ip_family="IPv4"} 0\n');
    for (const name of ["web", "kubernetes"]) {
      const { subsets } = await loopback.get("endpoints", name);
      expect(subsets[0].addresses).toHaveLength(1);
    }
    const other = Bun.listen({ hostname: address, port: 31_080, socket: { data() {} } });
    const taken = `
apiVersion: v1
kind: Service
metadata: {name: taken}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 31080}]}
`;
    expect((await loopback.apply(taken)).code).toBe(0);
    const told = async () =>
      (await loopback.list("events", "-n", "default")).filter((event) => event.reason === "FailedToListen");
    expect((await eventually(told, (list) => list.length > 0))[0]).toMatchObject({
      involvedObject: { kind: "Service", name: "taken" },
      type: "Warning",
    });
    other.stop(true);
  }, 60_000);
});

describe.skipIf(!isRoot)("in zones", () => {
  const zones = new TestStack("svczone");
  afterAll(() => zones.remove(), 30_000);
  const service = (name: string, app: string) => `
apiVersion: v1
kind: Service
metadata: {name: ${name}, annotations: {service.kubernetes.io/topology-mode: Auto}}
spec: {selector: {app: ${app}}, ports: [{port: 80, targetPort: 8080}]}
---`;
  const pods = [1, 2, 1, 2, 1, 2].map((node, n) =>
    workload(`even-${n}`, `node-${node}`, 8080).replace(`app: even-${n}`, "app: even"),
  );

  test("topology-mode Auto keeps traffic in its zone where that is fair, and says where it is not", async () => {
    const up = await zones.upWith(
      `${pods.join("")}${service("even", "even")}${workload("alone", "node-1", 8080)}${service("alone", "alone")}`,
      ...["--nodes", "2", "--zones", "a,b"],
    );
    expect(up).toMatchObject({ err: "", code: 0 });
    const hints = async (name: string) => {
      const slices = await zones.list("endpointslices", "-n", "default", "-l", `kubernetes.io/service-name=${name}`);
      return slices.flatMap((slice) =>
        (slice.endpoints as { zone: string; hints?: { forZones: { name: string }[] } }[]).map((one) => [
          one.zone,
          one.hints?.forZones[0]?.name,
        ]),
      );
    };
    const even = await eventually(
      () => hints("even"),
      // While pods become ready one after another some are given to the other zone.
      (list) => list.length === 6 && list.every(([zone, hint]) => hint === zone),
      20_000,
    );
    expect(even).toHaveLength(6);
    for (const [zone, hint] of even) expect(hint).toBe(zone);
    expect(await hints("alone")).toEqual([["a", undefined]]);
    const events = async (name: string) =>
      (await zones.list("events", "-n", "default"))
        .filter((event) => event.involvedObject.name === name && event.involvedObject.kind === "Service")
        .map((event) => `${event.reason}: ${event.message}`);
    const enabled = "TopologyAwareHintsEnabled: Topology Aware Hints has been enabled, addressType: IPv4";
    expect(
      await eventually(
        () => events("even"),
        (list) => list.includes(enabled),
      ),
    ).toContain(enabled);
    expect(await events("alone")).toContain(
      "TopologyAwareHintsDisabled: Insufficient number of endpoints (1 endpoints, 2 zones), addressType: IPv4",
    );
    // From a pod of zone a only endpoints of zone a answer.
    const { clusterIP } = (await zones.get("services", "even")).spec;
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => zones.exec("default/alone", "curl", "-s", `http://${clusterIP}/`)),
    );
    for (const { out } of answers) expect(JSON.parse(out).node).toBe("node-1");
  }, 60_000);
});
