// The nftables backend in a real kernel: connections between network namespaces through what it wrote, and what `nft` says of it.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { Graph } from "../../src/collections/graph.ts";
import { type Source, source } from "../../src/collections/source.ts";
import type { NftablesOptions } from "../../src/node/nftables/fixed.ts";
import { listing } from "../../src/node/nftables/listing.ts";
import { nftables } from "../../src/node/nftables/nftables.ts";
import { NftablesRenderer } from "../../src/node/nftables/renderer.ts";
import { type RulesSink, startRulesSink } from "../../src/node/rules-sink.ts";
import type { Rules } from "../../src/node/service-rules.ts";
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
import { eventually, manifests, root, run, TestStack } from "./stack.ts";

const reason = cannotRun() ?? (Bun.which("nft") ? undefined : "needs nft");
if (reason) console.log(`skipped: the nftables backend: ${reason}`);

const options: NftablesOptions = {
  family: 4,
  localDetector: { kind: "cidr", cidr: podCidr },
  nodeAddress,
  nodePortAddresses: [nodeAddress],
  serviceCidrs: ["10.96.0.0/16"],
};
const backend = nftables(runIn(node), options);

let pods: readonly TestPod[] = [0, 1, 2, 3].map((n) => ({ namespace: "", address: `10.244.9.${n + 2}` }));
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
describe.skipIf(reason !== undefined)("the nftables backend", () => {
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

  test("so they do where more than 1,000 Services make it draw by rules, and that is read back as written", async () => {
    const others = Array.from({ length: 1000 }, (_, n) => {
      const address = `10.96.${10 + (n >> 8)}.${n & 255}`;
      return row([n % 3, 3], { key: `other-${n}`, name: `shop/o${n}`, service: `o${n}`, clusterIP: address });
    });
    await apply(
      row([0, 1, 2]),
      { ...row([1]), key: "x", clusterIP: "10.96.9.8", name: "shop/x", service: "x", affinitySeconds: 9 },
      ...others,
    );
    const counts = tally(await connect(client(), clusterIP, 80, 900));
    expect(Object.keys(counts).sort()).toEqual(["pod-0", "pod-1", "pod-2"]);
    for (const count of Object.values(counts)) expect(Math.abs(count - 300)).toBeLessThan(75);
    expect(names(await connect(client(), "10.96.9.8", 80))).toEqual(["pod-1"]);
    const found = await backend.read();
    expect(backend.difference(found, backend.render(table)).text).toBe("");
    expect([...found.values()].flat().filter((line) => line.includes("numgen random mod 2 0 meta"))).toHaveLength(1001);
    expect(await backend.intact()).toBe(true);
  }, 20_000);

  test("no connection made after an endpoint left fails", async () => {
    await apply(row([0, 1, 2]));
    await apply(row([0, 2]));
    expect(tally(await connect(client(), clusterIP, 80, 200))["pod-1"]).toBeUndefined();
    await apply(row([1]));
    expect(new Set(names(await connect(client(), clusterIP, 80, 50)))).toEqual(new Set(["pod-1"]));
  }, 20_000);

  test("a Service without endpoints refuses at once, from a pod, from the node and on a node port", async () => {
    await apply(row([], { nodePort: 30_080 }));
    expect(await connect(client(), clusterIP, 80)).toEqual(["- ECONNREFUSED"]);
    expect(await connect(node, clusterIP, 80)).toEqual(["- ECONNREFUSED"]);
    expect(await connect(outside, nodeAddress, 30_080)).toEqual(["- ECONNREFUSED"]);
  });

  test("a port that a Service does not have is refused, and an address that no Service has is dropped", async () => {
    await apply(row([0]));
    expect(await connect(client(), clusterIP, 81)).toEqual(["- ECONNREFUSED"]);
    expect(await connect(client(), "10.96.1.1", 80)).toEqual(["- timeout"]);
  });

  test("a pod reaches itself through its Service, and sees another client than itself", async () => {
    await apply(row([0]));
    const [answer] = await connect(pods[0]!.namespace, clusterIP, 80);
    expect(answer).toStartWith("pod-0 ");
    expect(answer).not.toContain(pods[0]!.address);
  });

  test("traffic between pods keeps its source; what comes from outside to a ClusterIP does not", async () => {
    await apply(row([0]));
    expect(await connect(client(), clusterIP, 80)).toEqual([`pod-0 ${pods[3]!.address}`]);
    const [answer] = await connect(outside, clusterIP, 80);
    expect(answer).toStartWith("pod-0 ");
    expect(answer).not.toContain(outsideAddress);
  });

  test("a node port answers on the node's address, masqueraded under policy Cluster, not under Local", async () => {
    await apply(row([0], { nodePort: 30_080 }));
    const [cluster] = await connect(outside, nodeAddress, 30_080);
    expect(cluster).toStartWith("pod-0 ");
    expect(cluster).not.toContain(outsideAddress);
    await apply(row([0], { nodePort: 30_080, externalPolicyLocal: true }));
    expect(await connect(outside, nodeAddress, 30_080)).toEqual([`pod-0 ${outsideAddress}`]);
    expect(names(await connect(node, nodeAddress, 30_080))).toEqual(["pod-0"]);
  });

  test("policy Local without a local endpoint drops what comes from outside, and serves what comes from pods", async () => {
    await apply(row([0], { nodePort: 30_080, externalPolicyLocal: true, localEndpoints: [] }));
    expect(await connect(outside, nodeAddress, 30_080)).toEqual(["- timeout"]);
    expect(names(await connect(client(), nodeAddress, 30_080))).toEqual(["pod-0"]);
    expect(names(await connect(node, nodeAddress, 30_080))).toEqual(["pod-0"]);
  });

  test("external and load-balancer addresses answer from outside, source ranges keep others out", async () => {
    const addresses = { externalIPs: ["198.51.100.7"], loadBalancerIPs: ["10.97.9.1"] };
    await apply(row([1], addresses));
    expect(names(await connect(outside, "198.51.100.7", 80))).toEqual(["pod-1"]);
    expect(names(await connect(outside, "10.97.9.1", 80))).toEqual(["pod-1"]);
    await apply(row([1], { ...addresses, sourceRanges: ["203.0.113.0/24", "198.51.100.0/24"] }));
    expect(await connect(outside, "10.97.9.1", 80)).toEqual(["- timeout"]);
    await apply(row([1], { ...addresses, sourceRanges: ["192.0.2.0/24"] }));
    expect(names(await connect(outside, "10.97.9.1", 80))).toEqual(["pod-1"]);
    await apply(row([1], { ...addresses, sourceRanges: ["0.0.0.0/0"] }));
    expect(names(await connect(outside, "10.97.9.1", 80))).toEqual(["pod-1"]);
  }, 20_000);

  test("with ClientIP affinity a client stays with its endpoint, until that leaves", async () => {
    await apply(row([0, 1, 2], { affinitySeconds: 60 }));
    const first = new Set(names(await connect(client(), clusterIP, 80, 30)));
    expect(first.size).toBe(1);
    const [chosen] = first;
    const others = [0, 1, 2].filter((n) => `pod-${n}` !== chosen);
    // An endpoint that comes or goes elsewhere does not move a client.
    await apply(row([Number(chosen!.slice(4)), others[0]!], { affinitySeconds: 60 }));
    expect(new Set(names(await connect(client(), clusterIP, 80, 20)))).toEqual(first);
    await apply(row(others, { affinitySeconds: 60 }));
    const second = new Set(names(await connect(client(), clusterIP, 80, 20)));
    expect(second.size).toBe(1);
    expect(second.has(chosen!)).toBe(false);
  }, 20_000);

  test("affinity ends when the client was away for longer than its timeout", async () => {
    await apply(row([0, 1, 2], { affinitySeconds: 1 }));
    const found = new Set<string>();
    const end = Date.now() + 15_000;
    while (found.size < 2 && Date.now() < end) {
      for (const name of names(await connect(client(), clusterIP, 80, 3))) found.add(name);
      // What is waited for is the kernel's own clock.
      await Bun.sleep(1_100);
    }
    expect(found.size).toBeGreaterThan(1);
  }, 20_000);

  test("IPv6 has a table of its own: spread, refused, dropped, and a pod that reaches itself", async () => {
    await inside(node, ["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"]);
    // What the node answers itself (a refusal) needs an address to come from.
    await inside(node, ["ip", "address", "add", "fd00:9::1/128", "dev", "lo", "nodad"]);
    // Only what has a route on comes as far as being refused.
    await inside(node, ["ip", "-6", "route", "add", "default", "dev", "out"]);
    const addressOf = (n: number) => `fd00:9::${n + 2}`;
    for (const [n, { namespace }] of pods.entries()) {
      const link = `p${n + 1}`;
      await inside(node, ["ip", "address", "add", "fe80::1/64", "dev", link, "nodad"]);
      await inside(node, ["ip", "route", "add", `${addressOf(n)}/128`, "dev", link]);
      await inside(namespace, ["ip", "address", "add", `${addressOf(n)}/128`, "dev", "eth0", "nodad"]);
      await inside(namespace, ["ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0"]);
    }
    const listeners = [0, 1].map((n) => {
      const answer = `open(socket) { socket.write("pod-${n} " + socket.remoteAddress); socket.end(); }, data() {}, error() {}`;
      const program = `Bun.listen({ hostname: "${addressOf(n)}", port: 9090, socket: { ${answer} } }); console.log("ready");`;
      return Bun.spawn(["ip", "netns", "exec", pods[n]!.namespace, process.execPath, "-e", program], {
        stdout: "pipe",
      });
    });
    const rules = nftables(runIn(node), {
      family: 6,
      localDetector: { kind: "cidr", cidr: "fd00:9::/64" },
      serviceCidrs: ["fd00:96::/112"],
    });
    try {
      for (const { stdout } of listeners) await stdout.getReader().read();
      const own = [0, 1].map((n) => ({ address: addressOf(n), port: 9090, local: true }));
      const six = row([], { family: 6, key: "6", clusterIP: "fd00:96::9", clusterEndpoints: own, hasEndpoints: true });
      const none = row([], { family: 6, key: "n", name: "shop/n", service: "n", clusterIP: "fd00:96::a" });
      await rules.commit(rules.difference(await rules.read(), rules.render({ values: () => [six, none] })));
      const answers = await connect(client(), "fd00:96::9", 80, 100);
      expect(Object.keys(tally(answers)).sort()).toEqual(["pod-0", "pod-1"]);
      expect(answers.every((answer) => answer.endsWith(` ${addressOf(3)}`))).toBe(true);
      // The kernel takes an ICMPv6 refusal only after it sent again, a second later: curl waits for that.
      const curl = (url: string) => runIn(client())(["curl", "-sS", "-m", "5", url]);
      const refused = await Promise.all(["http://[fd00:96::a]/", "http://[fd00:96::9]:81/"].map(curl));
      expect(refused.map(({ code }) => code)).toEqual([7, 7]);
      for (const { stderr } of refused) expect(stderr).toContain("Couldn't connect");
      expect(await connect(client(), "fd00:96::b", 80)).toEqual(["- timeout"]);
      const mine = await connect(pods[0]!.namespace, "fd00:96::9", 80, 30);
      expect(new Set(names(mine))).toEqual(new Set(["pod-0", "pod-1"]));
      for (const answer of mine) expect(answer === `pod-0 ${addressOf(0)}`).toBe(false);
    } finally {
      await rules.remove();
      for (const listener of listeners) {
        listener.kill();
        await listener.exited;
      }
    }
  }, 20_000);

  test("what somebody else took away is back within a second, and again every time", async () => {
    await apply(row([0], { nodePort: 30_080 }));
    for (const damage of [
      ["nft", "flush", "table", "ip", "kube-proxy"],
      ["nft", "delete", "table", "ip", "kube-proxy"],
      ["nft", "flush", "ruleset"],
      ["nft", "flush", "chain", "ip", "kube-proxy", "nat-output"],
      ["nft", "flush", "map", "ip", "kube-proxy", "service-ips"],
      ["nft", "add", "element", "ip", "kube-proxy", "cluster-ips", "{ 10.96.77.77 }"],
      ["nft", "insert", "rule", "ip", "kube-proxy", "services", "drop"],
      ["nft", "add", "chain", "ip", "kube-proxy", "mine"],
    ]) {
      const { repairs } = sink.state;
      await inside(node, damage);
      const start = performance.now();
      while (sink.state.repairs === repairs || !sink.state.inSync) await Bun.sleep(10);
      await sink.settled();
      expect([damage.join(" "), performance.now() - start < 1_000]).toEqual([damage.join(" "), true]);
      expect(backend.difference(await backend.read(), backend.render(table)).text).toBe("");
    }
    expect(names(await connect(client(), clusterIP, 80))).toEqual(["pod-0"]);
  }, 30_000);

  test("a sink that starts again writes nothing when the rules are right", async () => {
    await apply(row([0, 1], { affinitySeconds: 10, nodePort: 30_080 }));
    sink.dispose();
    sink = startRulesSink({ table, rules: backend, clock: systemClock, log: silentLogger });
    await sink.settled();
    expect(sink.state.transactions).toBe(0);
  });

  test("other people's tables are left alone, and nothing of ours remains", async () => {
    await inside(node, ["nft", "add", "table", "ip", "theirs"]);
    await apply(row([0, 1], { nodePort: 30_080 }));
    sink.dispose();
    await backend.remove();
    await backend.remove();
    expect((await inside(node, ["nft", "list", "tables"])).trim()).toBe("table ip theirs");
    await inside(node, ["nft", "delete", "table", "ip", "theirs"]);
  });
});

describe.skipIf(reason !== undefined)("what nft shows equals what was written", () => {
  const namespace = `fl-t-nft${process.pid}`;
  beforeAll(() => {
    Bun.spawnSync(["ip", "netns", "add", namespace]);
  });
  afterAll(() => void Bun.spawnSync(["ip", "netns", "del", namespace]));

  const everything = (): ServicePort[] => [
    row([0, 1, 2], { affinitySeconds: 10_800, nodePort: 30_080 }),
    row([], { key: "a", name: "shop/a", service: "a", clusterIP: "10.96.9.10", protocol: "UDP" }),
    row([1], {
      key: "b",
      name: "shop/b",
      service: "b",
      clusterIP: "10.96.9.11",
      loadBalancerIPs: ["10.97.9.2"],
      sourceRanges: ["192.0.2.0/24", "192.0.3.0/24", "203.0.113.128/25"],
      externalIPs: ["198.51.100.8"],
      nodePort: 30_081,
      externalPolicyLocal: true,
      localEndpoints: [],
    }),
    row([1], {
      key: "c",
      name: "shop/c",
      service: "c",
      clusterIP: "10.96.9.12",
      protocol: "SCTP",
      internalPolicyLocal: true,
    }),
    row([2], {
      key: "d",
      name: "shop/d",
      service: "d",
      clusterIP: "10.96.9.13",
      loadBalancerIPs: ["10.97.9.3"],
      sourceRanges: ["10.0.1.0/24", "10.0.2.0/24"],
    }),
    row([2], {
      key: "e",
      name: "shop/e",
      service: "e",
      clusterIP: "10.96.9.14",
      loadBalancerIPs: ["10.97.9.4"],
      sourceRanges: ["0.0.0.0/0"],
    }),
  ];
  const six = (): ServicePort[] =>
    everything().map((one, at) => ({
      ...one,
      family: 6,
      clusterIP: `fd00:96::${at + 1}`,
      externalIPs: one.externalIPs.map(() => "2001:db8::8"),
      loadBalancerIPs: one.loadBalancerIPs.map(() => `2001:db8::${at + 20}`),
      sourceRanges: one.sourceRanges.map((range) => (range.endsWith("/0") ? "::/0" : `2001:db8:${range.length}::/48`)),
      clusterEndpoints: one.clusterEndpoints.map((_, n) => ({ address: `fd00::${n + 1}`, port: 8080, local: n === 0 })),
      localEndpoints: one.localEndpoints.map((_, n) => ({ address: `fd00::${n + 1}`, port: 8080, local: true })),
    }));

  const variants: readonly NftablesOptions[] = [
    options,
    { family: 4, masqueradeAll: true, serviceCidrs: ["10.96.0.0/16", "10.90.0.0/16"] },
    { family: 4, localDetector: { kind: "bridge", name: "cni0" }, masqueradeBit: 15 },
    { family: 4, localDetector: { kind: "prefix", prefix: "fl-" }, nodeAddress: "203.0.113.200" },
    { family: 6, localDetector: { kind: "cidr", cidr: "fd00::/64" }, nodePortAddresses: ["2001:db8::1"] },
    { family: 6, serviceCidrs: ["fd00:96::/112"], localDetector: { kind: "prefix", prefix: "fl-" } },
  ];

  test("for every kind of object and option, and a listing of it is taken by nft", async () => {
    for (const more of variants) {
      const rules = nftables(runIn(namespace), more);
      const wanted = rules.render({ values: () => (more.family === 4 ? everything() : six()) });
      await rules.commit(rules.difference(await rules.read(), wanted));
      const found = await rules.read();
      for (const [piece, lines] of wanted) expect([piece, found.get(piece)]).toEqual([piece, lines]);
      expect(rules.difference(found, wanted).text).toBe("");
      expect(await rules.intact()).toBe(true);
      await rules.remove();
      expect((await rules.read()).size).toBe(0);
      expect(await rules.intact()).toBe(false);
      const checked = await runIn(namespace)(["nft", "-c", "-f", "-"], listing(more.family, wanted));
      expect(checked.stderr).toBe("");
      expect(checked.code).toBe(0);
      const loaded = await runIn(namespace)(["nft", "-f", "-"], listing(more.family, wanted));
      expect(loaded.stderr).toBe("");
      expect(rules.difference(await rules.read(), wanted).text).toBe("");
      await rules.remove();
    }
  }, 30_000);

  test("after random changes as after a fresh start", async () => {
    const rules = nftables(runIn(namespace), options);
    const rowsArbitrary = fc
      .uniqueArray(
        fc.record({
          service: fc.nat(8),
          endpoints: fc.uniqueArray(fc.nat(3), { maxLength: 4 }),
          nodePort: fc.option(fc.integer({ min: 30_000, max: 30_003 }), { nil: undefined }),
          externalPolicyLocal: fc.boolean(),
          internalPolicyLocal: fc.boolean(),
          affinitySeconds: fc.constantFrom(undefined, 10, 20),
          externalIPs: fc.constantFrom<readonly string[]>([], ["198.51.100.1"]),
          loadBalancerIPs: fc.constantFrom<readonly string[]>([], ["10.97.0.1"]),
          sourceRanges: fc.constantFrom<readonly string[]>([], ["192.0.2.0/24", "198.51.100.0/24"]),
        }),
        { selector: (one) => one.service, maxLength: 8 },
      )
      .map((list) =>
        list.map(({ service, endpoints: which, ...more }) =>
          row(which, {
            ...more,
            key: `s${service}`,
            name: `shop/s${service}`,
            service: `s${service}`,
            clusterIP: `10.96.3.${service}`,
            localEndpoints: endpoints(which.filter((n) => n % 2 === 0)),
            clusterEndpoints: endpoints(which).map((one, at) => ({ ...one, local: which[at]! % 2 === 0 })),
          }),
        ),
      );
    await fc.assert(
      fc.asyncProperty(fc.array(rowsArbitrary, { minLength: 2, maxLength: 4 }), async (states) => {
        await rules.remove();
        const renderer = new NftablesRenderer(options);
        let before: ReadonlyMap<string, ServicePort> = new Map();
        let known: Rules = new Map();
        await rules.commit(rules.difference(known, renderer.rules));
        known = new Map(renderer.rules);
        for (const state of states) {
          const after = new Map(state.map((one) => [one.key, one]));
          const keys = [...new Set([...before.keys(), ...after.keys()])];
          const touched = renderer.apply(keys.map((key) => ({ key, before: before.get(key), after: after.get(key) })));
          await rules.commit(rules.difference(known, renderer.rules, touched));
          known = new Map(renderer.rules);
          before = after;
        }
        const grown = await rules.read();
        await rules.remove();
        const wanted = rules.render(before);
        await rules.commit(rules.difference(new Map(), wanted));
        const fresh = await rules.read();
        expect(Object.fromEntries([...grown].sort())).toEqual(Object.fromEntries([...fresh].sort()));
        expect(rules.difference(grown, wanted).text).toBe("");
      }),
      { numRuns: 12 },
    );
  }, 60_000);

  test("a refused transaction names the line and changes nothing", async () => {
    const rules = nftables(runIn(namespace), options);
    await rules.remove();
    const text = "add table ip kube-proxy\nadd chain ip kube-proxy a\nadd rule ip kube-proxy a goto no-such-chain\n";
    await expect(rules.commit({ text, pieces: 1 })).rejects.toThrow("goto no-such-chain");
    expect((await rules.read()).size).toBe(0);
  });
});

describe.skipIf(reason !== undefined)("fairlead rules", () => {
  const namespace = `fl-t-rul${process.pid}`;
  beforeAll(() => {
    Bun.spawnSync(["ip", "netns", "add", namespace]);
  });
  afterAll(() => void Bun.spawnSync(["ip", "netns", "del", namespace]));

  /** Services of every type and policy, in both families, each with ready, terminating and unready endpoints. */
  function objects(): object[] {
    const all: object[] = [];
    let n = 0;
    for (const family of ["IPv4", "IPv6"] as const) {
      const four = family === "IPv4";
      const address = (prefix: string, last: number) => (four ? `${prefix}.${last}` : `fd00:${prefix.length}::${last}`);
      for (const type of ["ClusterIP", "NodePort", "LoadBalancer"]) {
        for (const [internal, external] of [
          ["Cluster", "Cluster"],
          ["Local", "Local"],
        ]) {
          for (const affinity of ["None", "ClientIP"]) {
            for (const nodes of [[], ["n1", "n2"], ["n2"]]) {
              n++;
              const name = `s${n}`;
              const clusterIP = address("10.96.7", n);
              const port = {
                name: "web",
                port: 80,
                targetPort: 8080,
                ...(type === "ClusterIP" ? {} : { nodePort: 30_000 + n }),
              };
              all.push(
                {
                  apiVersion: "v1",
                  kind: "Service",
                  metadata: { name, namespace: "shop" },
                  spec: {
                    type,
                    clusterIP,
                    clusterIPs: [clusterIP],
                    ipFamilies: [family],
                    internalTrafficPolicy: internal,
                    ...(type === "ClusterIP" ? {} : { externalTrafficPolicy: external }),
                    externalIPs: [address("198.51.100", n)],
                    sessionAffinity: affinity,
                    ...(type === "LoadBalancer"
                      ? { loadBalancerSourceRanges: [four ? "192.0.2.0/24" : "2001:db8::/64"] }
                      : {}),
                    ports: [port, { ...port, name: "dns", protocol: "UDP" }],
                  },
                  ...(type === "LoadBalancer"
                    ? { status: { loadBalancer: { ingress: [{ ip: address("10.97.0", n) }] } } }
                    : {}),
                },
                {
                  apiVersion: "discovery.k8s.io/v1",
                  kind: "EndpointSlice",
                  metadata: { name, namespace: "shop", labels: { "kubernetes.io/service-name": name } },
                  addressType: family,
                  ports: ["web", "dns"].map((one) => ({
                    name: one,
                    port: 8080,
                    protocol: one === "dns" ? "UDP" : "TCP",
                  })),
                  endpoints: nodes.map((nodeName, at) => ({
                    addresses: [address("10.244.7", n * 2 + at)],
                    nodeName,
                    conditions: { ready: at === 0, serving: true, terminating: at > 0 },
                  })),
                },
              );
            }
          }
        }
      }
    }
    return all;
  }

  test("are taken by the kernel's own tools, in both modes and families", async () => {
    const stdin = JSON.stringify(objects());
    for (const six of [false, true]) {
      const more = [
        "--node",
        "n1",
        "--cluster-cidr",
        "10.244.0.0/16,fd00:8::/32",
        "--service-cidr",
        "10.96.0.0/16,fd00:7::/32",
      ];
      const words = ["-f", "-", ...more, ...(six ? ["--ipv6"] : [])];
      for (const [mode, ...tool] of [
        ["nftables", "nft", "-c", "-f", "-"],
        ["iptables", six ? "ip6tables-restore" : "iptables-restore", "--test"],
      ]) {
        const printed = await run([join(root, "bin/fairlead"), "rules", "--mode", mode!, ...words], { stdin });
        expect([mode, printed.code, printed.err]).toEqual([mode, 0, ""]);
        const checked = await runIn(namespace)(tool, printed.out);
        expect([mode, checked.code, checked.stderr]).toEqual([mode, 0, ""]);
      }
    }
  }, 30_000);
});

const manifest = join(manifests, "01-services.yaml");
const noStack = reason ?? (existsSync(manifest) ? undefined : "../shared is absent");

describe.skipIf(noStack !== undefined)("manifest 01 in nftables mode", () => {
  const stack = new TestStack("nft");
  beforeAll(async () => {
    const { code, out, err } = await stack.up("--proxy-mode", "nftables", "-f", manifest);
    expect(err + out).toContain("Everything works.");
    expect(code).toBe(0);
  }, 60_000);
  afterAll(() => stack.remove(), 30_000);

  const nft = async (...words: string[]) => (await stack.exec("node/node-1", "nft", ...words)).out;
  const chain = async () => {
    const service = await stack.get("services", "inventory");
    const map = await nft("list", "map", "ip", "kube-proxy", "service-ips");
    const name = new RegExp(`${service.spec.clusterIP} \\. tcp \\. 80 : goto (\\S+?),?\\s`).exec(map)![1]!;
    return nft("list", "chain", "ip", "kube-proxy", name);
  };

  test("the node has kube-proxy's table, and no chains of iptables", async () => {
    expect(await nft("list", "tables")).toContain("table ip kube-proxy");
    expect((await stack.exec("node/node-1", "iptables-save")).out).not.toContain("KUBE-");
    expect(await chain()).toMatch(/numgen random mod 3 map \{ 0 : .*, 1 : .*, 2 : .* \}/);
  });

  test("connections from a pod spread evenly over the three pods", async () => {
    const [pod] = await stack.list("pods", "-l", "app=inventory");
    const { spec } = await stack.get("services", "inventory");
    const url = `url = "http://${spec.clusterIP}/"\nheader = "connection: close"`;
    const script = `printf '%s' "$0" | curl -s --no-keepalive --config -`;
    const config = Array.from({ length: 600 }, () => url).join("\nnext\n");
    const { out } = await stack.exec(`default/${pod.metadata.name}`, "sh", "-c", script, config);
    const counts = new Map<string, number>();
    for (const [, name] of out.matchAll(/"pod":\s*"([^"]+)"/g)) counts.set(name!, (counts.get(name!) ?? 0) + 1);
    expect(counts.size).toBe(3);
    // 200 each, sigma 11.5.
    for (const count of counts.values()) expect(Math.abs(count - 200)).toBeLessThan(60);
  }, 30_000);

  test("names resolve, and a Service without endpoints refuses", async () => {
    const [pod] = await stack.list("pods", "-l", "app=inventory");
    const { code } = await stack.exec(`default/${pod.metadata.name}`, "curl", "-s", "-m", "5", "http://shopping-cart/");
    expect(code).toBe(7); // connection refused, not a timeout
  });

  test("deleting a pod changes the map", async () => {
    const [victim] = await stack.list("pods", "-l", "app=inventory");
    expect(await chain()).toContain(`${victim.status.podIP} . 8080`);
    expect((await stack.fairlead("delete", "pod", victim.metadata.name)).code).toBe(0);
    const after = await eventually(
      chain,
      (text) => text.includes("mod 3") && !text.includes(`${victim.status.podIP} .`),
    );
    expect(after).toContain("numgen random mod 3 map");
    expect(after).not.toContain(`${victim.status.podIP} . 8080`);
  }, 30_000);

  test("a stack keeps its mode, and says so when another is asked for", async () => {
    const { code, err } = await stack.up("--proxy-mode", "iptables");
    expect(code).not.toBe(0);
    expect(err).toContain("was made with --proxy-mode nftables, not iptables");
  });
});
