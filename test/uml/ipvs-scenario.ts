// What runs inside the User-Mode Linux machine: the ipvs backend under the rules sink, pods and clients in namespaces, real
// connections. It judges nothing: each step prints one line `fl-uml: NAME JSON`, and test/e2e/ipvs.test.ts reads them.

import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { createLogger } from "../../src/base/log.ts";
import { inNetns } from "../../src/base/setns.ts";
import { Graph } from "../../src/collections/graph.ts";
import { source } from "../../src/collections/source.ts";
import { iptables } from "../../src/node/iptables/iptables.ts";
import { ipvs } from "../../src/node/ipvs/ipvs.ts";
import { missingIpvsSupport } from "../../src/node/ipvs/support.ts";
import { startRulesSink } from "../../src/node/rules-sink.ts";
import type { Run, ServiceRules } from "../../src/node/service-rules.ts";
import { cartRow } from "../../src/node/testing/rows.ts";
import type { ServicePort, ServiceTable } from "../../src/services/service-table.ts";
import { sequences } from "../e2e/random-rows.ts";
import { grow, start } from "../e2e/rules-increments.ts";

const clusterIP = "10.96.9.9";
const externalIP = "203.0.113.9";
const balancerIP = "10.97.0.9";
const nodeAddress = "192.0.2.1";
const outsideAddress = "192.0.2.2";
const podCidr = "10.244.9.0/24";
const pods = [2, 3, 4, 5].map((n) => ({ namespace: `pod${n}`, address: `10.244.9.${n}` }));

function report(step: string, value: unknown): void {
  console.log(`fl-uml: ${step} ${JSON.stringify(value)}`);
}

/** Milliseconds that a connection may take; the machine is slow. */
const patience = 1_500;
/** Where rules change meanwhile: retransmitted SYNs fit in, and a host that stops for seconds, so that only what nobody answers counts. */
const longPatience = 6_000;

/** The machine itself is the node; pods and a neighbour outside are namespaces, routed and not bridged. */
async function makeNetwork(): Promise<void> {
  const script = [
    "set -e; echo 1 > /proc/sys/net/ipv4/ip_forward",
    "ip netns add outside; ip link add out type veth peer name eth0 netns outside",
    `ip address add ${nodeAddress}/24 dev out; ip link set out up; ip route add default via ${outsideAddress}`,
    `ip -n outside -batch - <<END\naddress add ${outsideAddress}/24 dev eth0\nlink set eth0 up\nroute add default via ${nodeAddress}\nEND`,
    ...pods.map(({ namespace, address }) =>
      [
        `ip netns add ${namespace}`,
        `ip -batch - <<END\nlink add ${namespace} type veth peer name eth0 netns ${namespace}`,
        `link set ${namespace} up\naddress add 169.254.1.1/32 dev ${namespace}\nroute add ${address}/32 dev ${namespace}\nEND`,
        `ip -n ${namespace} -batch - <<END\nlink set lo up\naddress add ${address}/32 dev eth0\nlink set eth0 up`,
        "route add 169.254.1.1 dev eth0 scope link\nroute add default via 169.254.1.1\nEND",
      ].join("\n"),
    ),
  ].join("\n");
  await tool("sh", "-c", script);
}

/** The place of a socket: a namespace by name, or the node. */
const at = (namespace: string | undefined) => namespace && `/run/netns/${namespace}`;

/** A pod answers on port 8080 with its name and the client's address and closes; on port 8081 it echoes until the client ends. */
function servePod(name: string, namespace: string): void {
  inNetns(at(namespace), () => {
    Bun.listen({
      hostname: "0.0.0.0",
      port: 8080,
      socket: { open: (socket) => void socket.end(`${name} ${socket.remoteAddress}\n`), data() {}, error() {} },
    });
    Bun.listen({
      hostname: "0.0.0.0",
      port: 8081,
      socket: { data: (socket, data) => void socket.write(`${name} ${data.toString()}`), error() {} },
    });
  });
}

/** What one connection heard; `-` and a reason when it failed. */
function heard(from: string | undefined, hostname: string, port: number, wait = patience): Promise<string> {
  return new Promise((done) => {
    let text = "";
    const timer = setTimeout(() => done("- timeout"), wait);
    const finish = (value: string) => {
      clearTimeout(timer);
      done(value);
    };
    const failed = (error: unknown) => finish(`- ${(error as { code?: string }).code ?? String(error)}`);
    const socket = {
      data: (_: unknown, data: Uint8Array) => {
        text += new TextDecoder().decode(data);
      },
      close: () => finish(text.trim() || "- closed"),
      error: (_: unknown, error: unknown) => failed(error),
      connectError: (_: unknown, error: unknown) => failed(error),
    };
    inNetns(at(from), () => Bun.connect({ hostname, port, socket })).catch(failed);
  });
}

/** So many connections one after another. */
async function connect(from: string | undefined, address: string, port: number, count = 1): Promise<readonly string[]> {
  const all: string[] = [];
  for (let n = 0; n < count; n++) all.push(await heard(from, address, port));
  return all;
}

/** A connection that stays, and what comes back for what is said over it. */
async function hold(from: string | undefined, hostname: string, port: number) {
  let answered: (text: string) => void = () => {};
  const socket = await inNetns(at(from), () =>
    Bun.connect({
      hostname,
      port,
      socket: {
        data: (_, data) => answered(data.toString()),
        close: () => answered("- closed"),
        error: () => answered("- error"),
      },
    }),
  );
  return {
    say: (text: string): Promise<string> =>
      new Promise((done) => {
        const timer = setTimeout(() => done("- timeout"), patience);
        answered = (answer) => {
          clearTimeout(timer);
          done(answer);
        };
        socket.write(text);
      }),
  };
}

/** A step repeats its look until the condition holds; bounded by the machine's own end. */
async function until<T>(look: () => Promise<T>, holds: (value: T) => boolean, seconds = 8): Promise<T> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await look();
    if (holds(value) || Date.now() > end) return value;
    await Bun.sleep(100);
  }
}

const run: Run = async (argv, stdin) => {
  const child = Bun.spawn([...argv], {
    stdin: stdin === undefined ? "ignore" : Buffer.from(stdin),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, stdout, stderr };
};

async function tool(...argv: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(argv);
  if (code !== 0) throw new Error(`${argv.join(" ")}: ${stderr}`);
  return stdout;
}

const listing = () => tool("ipvsadm", "-Ln");

async function main(): Promise<void> {
  report("support", (await missingIpvsSupport(run)) ?? "everything is there");
  await makeNetwork();
  for (const [n, pod] of pods.entries()) servePod(`pod-${n}`, pod.namespace);
  const inPod = pods[3]!.namespace;
  report("ready", Math.round(performance.now()));

  const log = createLogger((line) => console.log(line), "warn");
  const backend = ipvs(
    run,
    {
      family: 4,
      localDetector: { kind: "cidr", cidr: podCidr },
      nodeAddresses: [nodeAddress],
      nodeAddress,
    },
    { clock: systemClock, log, drainEvery: 300 },
  );
  const table = source<ServicePort>("test table", { graph: new Graph() });
  const sink = startRulesSink({ table, rules: backend, clock: systemClock, log });
  const apply = async (...rows: ServicePort[]) => {
    table.replace(rows.map((one) => [one.key, one] as const));
    await sink.settled();
  };
  const endpoints = (which: readonly number[], port = 8080, local = true) =>
    which.map((n) => ({ address: pods[n]!.address, port, local }));
  const row = (which: readonly number[], more: Partial<ServicePort> = {}): ServicePort =>
    cartRow(clusterIP, endpoints(which), more);

  const named = (service: string, address: string, which: readonly number[], more: Partial<ServicePort> = {}) =>
    row(which, { key: `shop/${service}/TCP/4`, name: `shop/${service}`, service, clusterIP: address, ...more });
  const echo = (which: readonly number[]) =>
    named("echo", "10.96.9.11", which, { clusterEndpoints: endpoints(which, 8081) });
  const ranges = ["198.51.100.0/24"];
  const services = [
    row([0, 1, 2], { nodePort: 30_080 }),
    named("sticky", "10.96.9.12", [0, 1, 2], { affinitySeconds: 60 }),
    named("self", "10.96.9.13", [0]),
    named("none", "10.96.9.14", []),
    named("near", "10.96.9.15", [0, 1], { nodePort: 30_081, externalPolicyLocal: true }),
    named("far", "10.96.9.16", [], {
      nodePort: 30_082,
      externalPolicyLocal: true,
      hasEndpoints: true,
      clusterEndpoints: endpoints([2], 8080, false),
    }),
    named("open", "10.96.9.17", [0], { externalIPs: [externalIP], loadBalancerIPs: [balancerIP] }),
    named("shut", "10.96.9.18", [0], { loadBalancerIPs: ["10.97.0.18"], sourceRanges: ranges }),
    named("partly", "10.96.9.19", [0], {
      loadBalancerIPs: ["10.97.0.19"],
      sourceRanges: [...ranges, `${outsideAddress}/32`],
    }),
  ];
  await apply(...services, echo([0]));
  report("applied", Math.round(performance.now()));
  report("listing", await listing());
  report("spread", await connect(inPod, clusterIP, 80, 60));
  report("from the node", await connect(undefined, clusterIP, 80, 3));
  report("listing after", await tool("ipvsadm", "-Ln", "-t", `${clusterIP}:80`));
  report("affinity", await connect(inPod, "10.96.9.12", 80, 10));
  report("hairpin", await connect(pods[0]!.namespace, "10.96.9.13", 80, 2));
  report("no endpoints", await connect(inPod, "10.96.9.14", 80));
  report("node port", await connect("outside", nodeAddress, 30_080, 3));
  report("node port, policy Local", await connect("outside", nodeAddress, 30_081, 2));
  report("external", [await heard("outside", externalIP, 80), await heard("outside", balancerIP, 80)]);
  report("source ranges", {
    others: await heard("outside", "10.97.0.18", 80),
    named: await heard("outside", "10.97.0.19", 80),
    node: await heard(undefined, "10.97.0.19", 80),
  });
  report("other ports of a Service's address", await heard(inPod, clusterIP, 81));

  // An idle connection is over after two seconds.
  await tool("ipvsadm", "--set", "2", "1", "300");
  const reals = () => tool("ipvsadm", "-Ln", "-t", "10.96.9.11:80");
  const held = await hold(inPod, "10.96.9.11", 80);
  const before = await held.say("one");
  await apply(...services, echo([1]));
  report("draining", { before, listing: await reals(), after: await held.say("two") });
  await apply(...services, echo([0, 1]));
  report("wanted again", { listing: await reals(), after: await held.say("three") });
  await apply(...services, echo([1]));
  report("drained", await until(reals, (text) => !text.includes(pods[0]!.address)));

  // Connections without a pause from a pod and from outside, while endpoints, policies and ranges change under them.
  let changing = true;
  const told: string[] = [];
  const targets: readonly (readonly [from: string, address: string, port: number])[] = [
    [inPod, clusterIP, 80],
    ["outside", nodeAddress, 30_080],
    ["outside", balancerIP, 80],
  ];
  const callers = Promise.all(
    targets.map(async ([from, address, at]) => {
      while (changing) told.push(await heard(from, address, at, longPatience));
    }),
  );
  const cart = (which: readonly number[], more: Partial<ServicePort> = {}) =>
    apply(row(which, { nodePort: 30_080, loadBalancerIPs: [balancerIP], ...more }), ...services.slice(1, 6), echo([1]));
  const remote = {
    clusterEndpoints: [...endpoints([0]), ...endpoints([2], 8080, false)],
    localEndpoints: endpoints([0]),
  };
  await cart([1]);
  await cart([0, 2], { sourceRanges: ["192.0.2.0/24"] });
  await cart([0, 2], remote);
  await cart([0, 2], { ...remote, externalPolicyLocal: true });
  await cart([0, 2], remote);
  await cart([1, 2], { affinitySeconds: 5 });
  await cart([0, 1]);
  changing = false;
  await callers;
  report("while changing", { heard: told.length, failed: told.filter((one) => !one.startsWith("pod-")) });

  // Somebody takes everything away; the next change meets that and puts all of it back.
  await tool("ipvsadm", "-C");
  await tool("ip", "address", "flush", "dev", "kube-ipvs0");
  await tool("iptables", "-t", "nat", "-F", "KUBE-SERVICES");
  await apply(...services, echo([0, 1]));
  report("repaired", [await connect("outside", nodeAddress, 30_080), await connect(inPod, clusterIP, 80)]);

  // Every kind of piece at once, read back as it was written.
  const everything: ServicePort[] = [
    row([0, 1], {
      externalIPs: [externalIP],
      loadBalancerIPs: [balancerIP],
      nodePort: 30_080,
      sourceRanges: ["0.0.0.0/0", `${nodeAddress}/32`],
      affinitySeconds: 5,
    }),
    row([1], { key: "a/u/UDP/4", name: "a/u", protocol: "UDP", port: 53, nodePort: 30_053, externalPolicyLocal: true }),
    row([2], { key: "a/s/SCTP/4", name: "a/s", protocol: "SCTP", nodePort: 30_132, externalPolicyLocal: true }),
    row([2], {
      key: "a/l/TCP/4",
      name: "a/l",
      clusterIP: "10.96.9.10",
      externalIPs: ["203.0.113.10"],
      loadBalancerIPs: ["10.97.0.10"],
      sourceRanges: ["198.51.100.7/32"],
      externalPolicyLocal: true,
      healthCheckNodePort: 32_000,
      nodePort: 30_081,
    }),
  ];
  await apply(...everything);
  report("read back", await compare(backend, table));
  report("intact", await backend.intact());
  report(
    "sysctls",
    (await tool("cat", "/proc/sys/net/ipv4/vs/conntrack", "/proc/sys/net/ipv4/vs/expire_nodest_conn")).split("\n"),
  );

  // The other family beside it, with sets, chains and servers of its own on the same device.
  const second = ipvs(run, { family: 6, nodeAddresses: ["2001:db8::1"] }, { clock: systemClock, log });
  const row6: ServicePort = {
    ...everything[0]!,
    key: "shop/cart:http/TCP/6",
    family: 6,
    clusterIP: "fd00:96::9",
    externalIPs: ["2001:db8:9::9"],
    loadBalancerIPs: ["2001:db8:97::9"],
    sourceRanges: ["2001:db8:1::/48", "::/0"],
    clusterEndpoints: [{ address: "fd00:244::2", port: 8080, local: true }],
    localEndpoints: [],
  };
  const table6 = new Map([[row6.key, row6]]);
  await second.commit(second.difference(await second.read(), second.render(table6)));
  report("read back in IPv6", await compare(second, table6));
  await second.remove();

  // SCTP, which this kernel has and most hosts' have not: by cluster IP and by node port.
  const sctp = [
    named("many", "10.96.9.20", [0, 1], { protocol: "SCTP", nodePort: 30_090 }),
    named("alone", "10.96.9.21", [1], { protocol: "SCTP", nodePort: 30_091, externalPolicyLocal: true }),
    named("nobody", "10.96.9.22", [], { protocol: "SCTP", nodePort: 30_092 }),
  ];
  const python = Bun.which("python3", { PATH: "/usr/bin:/usr/local/bin" });
  if (python) {
    await tool("modprobe", "sctp");
    for (const [n, { namespace }] of pods.slice(0, 2).entries()) {
      const child = Bun.spawn(["ip", "netns", "exec", namespace, python, sctpScript, "serve", `pod-${n}`, "8080"], {
        stdout: "pipe",
      });
      await child.stdout.getReader().read();
    }
    await apply(...sctp);
    report("sctp with ipvs", [await talkSctp(python, inPod)]);
  }

  sink.dispose();
  await backend.remove();
  backend.dispose();
  report("removed", {
    servers: await tool("ipvsadm", "-Sn"),
    sets: await tool("ipset", "list", "-name"),
    chains: (await tool("iptables-save")).split("\n").filter((line) => line.includes("KUBE")),
    device: (await run(["ip", "link", "show", "dev", "kube-ipvs0"])).code,
  });

  if (python) {
    // The same with iptables, in its other variant.
    const other = iptables(run, { family: 4, localDetector: { kind: "cidr", cidr: podCidr }, nodeAddress });
    await start(other, sctp);
    report("sctp with iptables", [await talkSctp(python, inPod)]);
    await other.remove();
  }
  const outcomes = [];
  for (const family of [4, 6] as const) {
    // One kept seed, and in IPv4 a new one: the machine is slow.
    const [, ...some] = sequences(family, family === 4 ? 1 : 0);
    for (const [seed, states] of some) outcomes.push(await increments(family, seed, states));
  }
  report("increments", outcomes);
}

const sctpScript = join(import.meta.dir, "sctp.py");

/** What SCTP connections hear, by where they begin and end. */
async function talkSctp(python: string, inPod: string) {
  const ask = async (from: string, address: string, port: number, times: number) =>
    JSON.parse(
      await tool("ip", "netns", "exec", from, python, sctpScript, "ask", address, String(port), String(times)),
    );
  return {
    "from a pod": await ask(inPod, "10.96.9.20", 80, 4),
    "from outside by node port": await ask("outside", nodeAddress, 30_090, 4),
    "from outside by node port, policy Local": await ask("outside", nodeAddress, 30_091, 2),
    "without endpoints": await ask(inPod, "10.96.9.22", 80, 1),
  };
}

/** Tables changed one by one, and the last one from nothing, each in a network of its own; as the tools print both. */
async function increments(family: 4 | 6, seed: number, states: readonly (readonly ServicePort[])[]) {
  const log = createLogger((line) => console.log(line), "warn");
  const four = family === 4;
  const node = four ? nodeAddress : "2001:db8::1";
  const localDetector = { kind: "cidr", cidr: four ? "10.244.0.0/16" : "fd00:244::/64" } as const;
  const printed: string[] = [];
  for (const [name, write] of [
    ["grown", (rules: ServiceRules) => grow(rules, states)],
    ["fresh", (rules: ServiceRules) => start(rules, states.at(-1)!)],
  ] as const) {
    await tool("ip", "netns", "add", name);
    // IPVS takes no address for one of a host in a network that has none itself.
    await tool("ip", "-n", name, "link", "set", "lo", "up");
    const there: Run = (argv, stdin) => run(["ip", "netns", "exec", name, ...argv], stdin);
    const options = { family, localDetector, nodeAddresses: [node], nodeAddress: node };
    const rules = ipvs(there, options, { clock: systemClock, log });
    await write(rules);
    rules.dispose();
    const say = async (...argv: string[]) => (await there(argv)).stdout.split("\n");
    const sizes = / (hashsize|bucketsize|initval) \S+/g;
    printed.push(
      [
        // Real servers of weight 0 have ended their connections, and wait to be taken away.
        ...(await say("ipvsadm", "-Sn")).filter((line) => !line.endsWith("-w 0")).sort(),
        ...(await say("ipset", "save")).map((line) => line.replace(sizes, "")).sort(),
        ...(await say(four ? "iptables-save" : "ip6tables-save"))
          .filter((line) => !line.startsWith("#"))
          .map((line) => line.replace(/\[\d+:\d+\]/, "")),
        ...(await say("ip", "-o", "address", "show", "dev", "kube-ipvs0"))
          .map((line) => line.split(/\s+/)[3] ?? "")
          .sort(),
      ].join("\n"),
    );
    await tool("ip", "netns", "delete", name);
  }
  const [grown, fresh] = printed as [string, string];
  return { family, seed, lines: fresh.split("\n").length, ...(grown === fresh ? {} : { grown, fresh }) };
}

/** Whether the kernel says what was written. */
async function compare(rules: ServiceRules, table: ServiceTable) {
  const [wanted, found] = [rules.render(table), await rules.read()];
  const names = [...new Set([...wanted.keys(), ...found.keys()])];
  const differing = names.filter((name) => !Bun.deepEquals(wanted.get(name), found.get(name)));
  return {
    pieces: found.size,
    differing: differing.map((name) => ({ name, wanted: wanted.get(name), found: found.get(name) })),
  };
}

main().then(
  () => {
    report("done", Math.round(performance.now()));
    process.exit(0);
  },
  (error) => {
    report("failed", error instanceof Error ? (error.stack ?? error.message) : String(error));
    process.exit(1);
  },
);
