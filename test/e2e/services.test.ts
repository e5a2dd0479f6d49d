// Service rules in a real kernel: connections between network namespaces through what the iptables backend wrote.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { Graph } from "../../src/collections/graph.ts";
import { type Source, source } from "../../src/collections/source.ts";
import type { IptablesOptions } from "../../src/node/iptables/fixed-chains.ts";
import { iptables } from "../../src/node/iptables/iptables.ts";
import { type RulesSink, startRulesSink } from "../../src/node/rules-sink.ts";
import type { ServicePort } from "../../src/services/service-table.ts";
import {
  cannotRun,
  cartRow,
  clusterIP,
  connect,
  inside,
  makeNetwork,
  names,
  node,
  nodeAddress,
  outside,
  outsideAddress,
  podCidr,
  removeNetwork,
  runIn,
  serve,
  type TestPod,
  tally,
} from "./service-network.ts";

const reason = cannotRun();
if (reason) console.log(`skipped: Service rules in the kernel: ${reason}`);

const options: IptablesOptions = { family: 4, localDetector: { kind: "cidr", cidr: podCidr }, nodeAddress };
const backend = iptables(runIn(node), options);

let pods: readonly TestPod[];
let servers: { stop(): Promise<void> }[] = [];
let table: Source<ServicePort>;
let sink: RulesSink;

const endpoints = (which: readonly number[], local = true) =>
  which.map((n) => ({ address: pods[n]!.address, port: 8080, local }));

const row = (which: readonly number[], more: Partial<ServicePort> = {}): ServicePort => cartRow(endpoints(which), more);

async function apply(...rows: ServicePort[]): Promise<void> {
  table.replace(rows.map((one) => [one.key, one] as const));
  await sink.settled();
}

const client = () => pods[3]!.namespace;
describe.skipIf(reason !== undefined)("Service rules in the kernel", () => {
  beforeAll(async () => {
    pods = await makeNetwork(4);
    servers = await Promise.all([0, 1, 2].map((n) => serve(pods[n]!, `pod-${n}`, 8080)));
  }, 30_000);
  afterAll(async () => {
    await Promise.all(servers.map((one) => one.stop()));
    removeNetwork(4);
  });
  beforeEach(() => {
    table = source<ServicePort>("test table", { graph: new Graph() });
    sink = startRulesSink({ table, rules: backend, clock: systemClock, log: silentLogger });
  });
  afterEach(async () => {
    await sink.settled();
    sink.dispose();
    await backend.remove();
  });

  test("900 connections from a pod spread evenly over three endpoints", async () => {
    await apply(row([0, 1, 2]));
    const counts = tally(await connect(client(), clusterIP, 80, 900));
    expect(Object.keys(counts).sort()).toEqual(["pod-0", "pod-1", "pod-2"]);
    // 300 each, sigma 14.
    for (const count of Object.values(counts)) expect(Math.abs(count - 300)).toBeLessThan(75);
  }, 20_000);

  test("no connection made after an endpoint left fails", async () => {
    await apply(row([0, 1, 2]));
    await apply(row([0, 2]));
    expect(tally(await connect(client(), clusterIP, 80, 200))["pod-1"]).toBeUndefined();
    await apply(row([1]));
    expect(new Set(names(await connect(client(), clusterIP, 80, 50)))).toEqual(new Set(["pod-1"]));
  }, 20_000);

  test("a Service without endpoints refuses at once", async () => {
    await apply(row([]));
    expect(await connect(client(), clusterIP, 80)).toEqual(["- ECONNREFUSED"]);
  });

  test("a pod reaches itself through its Service, and sees another client than itself", async () => {
    await apply(row([0]));
    const [answer] = await connect(pods[0]!.namespace, clusterIP, 80);
    expect(answer).toStartWith("pod-0 ");
    expect(answer).not.toContain(pods[0]!.address);
  });

  test("traffic between pods keeps its source", async () => {
    await apply(row([0]));
    expect(await connect(client(), clusterIP, 80)).toEqual([`pod-0 ${pods[3]!.address}`]);
  });

  test("a node port answers on the node's address, masqueraded under policy Cluster, not under Local", async () => {
    await apply(row([0], { nodePort: 30_080 }));
    const [cluster] = await connect(outside, nodeAddress, 30_080);
    expect(cluster).toStartWith("pod-0 ");
    expect(cluster).not.toContain(outsideAddress);
    await apply(row([0], { nodePort: 30_080, externalPolicyLocal: true }));
    expect(await connect(outside, nodeAddress, 30_080)).toEqual([`pod-0 ${outsideAddress}`]);
  });

  test("a node port answers the node itself on 127.0.0.1 where that is wanted", async () => {
    await sink.settled(); // what it writes first must not land on the other's
    sink.dispose();
    const rules = iptables(runIn(node), { ...options, localhostNodePorts: true });
    sink = startRulesSink({ table, rules, clock: systemClock, log: silentLogger });
    await apply(row([0], { nodePort: 30_080 }));
    expect(names(await connect(node, "127.0.0.1", 30_080))).toEqual(["pod-0"]);
    expect(names(await connect(node, clusterIP, 80))).toEqual(["pod-0"]);
  });

  test("policy Local without a local endpoint drops what comes from outside, and serves what comes from pods", async () => {
    await apply(row([0], { nodePort: 30_080, externalPolicyLocal: true, localEndpoints: [] }));
    expect(await connect(outside, nodeAddress, 30_080)).toEqual(["- timeout"]);
    expect(names(await connect(client(), nodeAddress, 30_080))).toEqual(["pod-0"]);
  });

  test("external and load-balancer addresses answer from outside, source ranges keep others out", async () => {
    const addresses = { externalIPs: ["198.51.100.7"], loadBalancerIPs: ["10.97.9.1"] };
    await apply(row([1], addresses));
    expect(names(await connect(outside, "198.51.100.7", 80))).toEqual(["pod-1"]);
    expect(names(await connect(outside, "10.97.9.1", 80))).toEqual(["pod-1"]);
    await apply(row([1], { ...addresses, sourceRanges: ["203.0.113.0/24"] }));
    expect(await connect(outside, "10.97.9.1", 80)).toEqual(["- timeout"]);
    await apply(row([1], { ...addresses, sourceRanges: ["192.0.2.0/24"] }));
    expect(names(await connect(outside, "10.97.9.1", 80))).toEqual(["pod-1"]);
  });

  test("with ClientIP affinity a client stays with its endpoint", async () => {
    await apply(row([0, 1, 2], { affinitySeconds: 60 }));
    expect(new Set(names(await connect(client(), clusterIP, 80, 30))).size).toBe(1);
  });

  test("rules that somebody else took away are back within a second, and again every time", async () => {
    await apply(row([0]));
    for (const damage of [
      ["iptables", "-t", "nat", "-F"],
      ["iptables", "-t", "nat", "-D", "PREROUTING", "1"],
      ["iptables", "-t", "filter", "-F", "KUBE-FORWARD"],
    ]) {
      const repairs = sink.state.repairs;
      await inside(node, damage);
      const start = performance.now();
      while (sink.state.repairs === repairs || !sink.state.inSync) await Bun.sleep(10);
      await sink.settled();
      expect(performance.now() - start).toBeLessThan(1_000);
      expect(backend.difference(await backend.read(), backend.render(table)).pieces).toBe(0);
    }
    expect(names(await connect(client(), clusterIP, 80))).toEqual(["pod-0"]);
  }, 20_000);

  test("a sink that starts again writes nothing when the rules are right", async () => {
    await apply(row([0, 1]));
    sink.dispose();
    sink = startRulesSink({ table, rules: backend, clock: systemClock, log: silentLogger });
    await sink.settled();
    expect(sink.state.transactions).toBe(0);
  });

  test("other people's rules are left alone, and nothing of ours remains", async () => {
    await inside(node, ["iptables", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "9", "-j", "RETURN"]);
    await apply(row([0, 1], { nodePort: 30_080 }));
    sink.dispose();
    await backend.remove();
    const left = await inside(node, ["iptables-save"]);
    expect(left).not.toContain("KUBE-");
    expect(left).toContain("--dport 9 -j RETURN");
    await inside(node, ["iptables", "-t", "nat", "-F", "PREROUTING"]);
  });
});

describe.skipIf(reason !== undefined)("what is read back equals what was rendered", () => {
  const namespace = `fl-t-svc-read${process.pid}`;
  beforeAll(async () => {
    Bun.spawnSync(["ip", "netns", "del", namespace], { stderr: "ignore" });
    Bun.spawnSync(["ip", "netns", "add", namespace]);
    pods ??= [0, 1, 2, 3].map((n) => ({ namespace: "", address: `10.244.9.${n + 2}` }));
  });
  afterAll(() => void Bun.spawnSync(["ip", "netns", "del", namespace]));

  const everything = () => [
    row([0, 1, 2], { affinitySeconds: 10_800, nodePort: 30_080 }),
    row([], { key: "a", name: "shop/a", clusterIP: "10.96.9.10", protocol: "UDP" }),
    row([1], {
      key: "b",
      name: "shop/b",
      clusterIP: "10.96.9.11",
      loadBalancerIPs: ["10.97.9.2"],
      sourceRanges: ["192.0.2.0/24", "0.0.0.0/0", "203.0.113.128/25"],
      externalIPs: ["198.51.100.8"],
      nodePort: 30_081,
      healthCheckNodePort: 30_082,
      externalPolicyLocal: true,
      localEndpoints: [],
    }),
    row([1], { key: "c", name: "shop/c", clusterIP: "10.96.9.12", protocol: "SCTP", internalPolicyLocal: true }),
  ];

  test.each(["nft", "legacy"] as const)("by iptables-%s", async (variant) => {
    if (!Bun.which(`iptables-${variant}`)) return console.log(`iptables-${variant} is not installed`);
    for (const more of [{}, { localhostNodePorts: true }, { masqueradeAll: true }, { dropInvalid: false }]) {
      const rules = iptables(runIn(namespace, variant), { ...options, ...more });
      const wanted = rules.render({ values: () => everything() });
      await rules.commit(rules.difference(await rules.read(), wanted));
      const found = await rules.read();
      for (const [chain, lines] of wanted) expect([chain, found.get(chain)]).toEqual([chain, lines]);
      expect(rules.difference(found, wanted).pieces).toBe(0);
      expect(await rules.intact()).toBe(true);
    }
    const rules = iptables(runIn(namespace, variant), options);
    await rules.remove();
    expect((await rules.read()).size).toBe(0);
    expect(await rules.intact()).toBe(false);
  });

  test("by ip6tables", async () => {
    if (!Bun.which("ip6tables-restore")) return console.log("ip6tables is not installed");
    const six = (more: Partial<ServicePort>) => ({ ...row([], { family: 6, clusterIP: "fd00:96::9" }), ...more });
    const endpoints = [1, 2].map((n) => ({ address: `fd00:244::${n}`, port: 8080, local: true }));
    const rows = [
      six({ clusterEndpoints: endpoints, hasEndpoints: true, affinitySeconds: 60, nodePort: 30_080 }),
      six({
        key: "b",
        name: "shop/b",
        clusterIP: "fd00:96::a",
        loadBalancerIPs: ["fd00:97::1"],
        sourceRanges: ["2001:db8::/64", "::/0"],
        clusterEndpoints: endpoints,
        localEndpoints: endpoints,
        externalPolicyLocal: true,
        hasEndpoints: true,
      }),
      six({ key: "c", name: "shop/c", clusterIP: "fd00:96::b", externalIPs: ["2001:db8::7"] }),
    ];
    const rules = iptables(runIn(namespace), { family: 6, localDetector: { kind: "cidr", cidr: "fd00:244::/64" } });
    const wanted = rules.render({ values: () => rows });
    await rules.commit(rules.difference(await rules.read(), wanted));
    const found = await rules.read();
    for (const [chain, lines] of wanted) expect([chain, found.get(chain)]).toEqual([chain, lines]);
    await rules.remove();
    expect((await rules.read()).size).toBe(0);
  });

  test("a refused transaction names the line and changes nothing", async () => {
    const rules = iptables(runIn(namespace), options);
    const bad = { text: "*nat\n:KUBE-SVC-TEST - [0:0]\n-A KUBE-SVC-TEST -j NO-SUCH-CHAIN\nCOMMIT\n", pieces: 1 };
    await expect(rules.commit(bad)).rejects.toThrow("NO-SUCH-CHAIN");
    expect((await rules.read()).size).toBe(0);
  });
});
