// Packets and what becomes of them: every source × destination × policy × kind of endpoints × protocol as one table of data
// (what upstream's packet-flow tables mean: pkg/proxy/iptables/proxier_test.go TestInternalExternalMasquerade,
// TestExternalTrafficPolicyLocal, TestNoEndpointsReject, TestLoadBalancer and others), and the run that sends them through a
// stack and compares with what `explain --packet` says. It judges nothing: whoever runs it looks at what differs.

import { contains, parseCidr } from "../../src/base/cidr.ts";
import { type IpFamily, ipFamily } from "../../src/base/ip.ts";
import { ControlClient } from "../../src/cluster/control-api.ts";
import { hostAddress } from "../../src/node/netns/plan.ts";
import type { PacketDecision } from "../../src/services/packet.ts";
import type { Answer, Attempt, Attempts, Reached } from "./packet-client.ts";
import { root, run, type TestStack } from "./stack.ts";

/** Pods that serve, by the node they are on. */
const endpointPods = {
  web: { "web-1": "node-1", "web-2": "node-2", "web-3": "node-3" },
  far: { "far-3": "node-3" },
  none: {},
} as const;
type Endpoints = keyof typeof endpointPods;

const policies = ["Cluster", "Local"] as const;
type Policy = (typeof policies)[number];

interface Case {
  readonly service: string;
  readonly endpoints: Endpoints;
  readonly internal: Policy;
  readonly external: Policy;
  readonly nodePort: number;
  /** The last part of two external IPs: one that the host has a way to, and one that only nodes can send to. */
  readonly external4: number;
  readonly ranges?: readonly ("host" | "pods" | "nowhere")[];
}

const cases: readonly Case[] = [
  ...(Object.keys(endpointPods) as Endpoints[]).flatMap((endpoints, a) =>
    policies.flatMap((internal, b) =>
      policies.map((external, c): Case => {
        const n = 4 * a + 2 * b + c;
        const service = `${endpoints}-${internal}-${external}`.toLowerCase();
        return { service, endpoints, internal, external, nodePort: 30_100 + n, external4: 10 + n };
      }),
    ),
  ),
  ...(["host", "pods", "nowhere"] as const).map(
    (range, n): Case => ({
      service: `ranges-${range}`,
      endpoints: "web",
      internal: "Cluster",
      external: n === 0 ? "Local" : "Cluster",
      nodePort: 30_200 + n,
      external4: 40 + n,
      ranges: [range],
    }),
  ),
];

/** Where connections begin: pods beside endpoints and away from them, endpoints themselves, nodes, and the host outside. */
const places = {
  "client-1": { exec: "default/client-1", from: "default/client-1" },
  "client-2": { exec: "default/client-2", from: "default/client-2" },
  "web-1": { exec: "default/web-1", from: "default/web-1" },
  "far-3": { exec: "default/far-3", from: "default/far-3" },
  "node-1": { exec: "node/node-1", from: "node/node-1" },
  "node-2": { exec: "node/node-2", from: "node/node-2" },
  host: { exec: undefined, from: undefined },
} as const;
export type Source = keyof typeof places;
export const sources = Object.keys(places) as Source[];

const nodes = ["node-1", "node-2", "node-3"] as const;
const protocols = ["tcp", "udp"] as const;

/** What can become of a packet. */
export type End = "astray" | "drop" | "kept" | "masqueraded" | "pass" | "reject";

/** A packet that did not go where it was said to go. */
export interface Wrong {
  readonly what: string;
  readonly said: string;
  readonly expected: string;
  readonly came: readonly Answer[];
}

interface Family {
  readonly family: IpFamily;
  readonly pods: string;
  readonly balancers: string;
  readonly host: string;
}

export interface PacketTableOptions {
  readonly mode: string;
  /** Milliseconds until a packet without an answer counts as lost. */
  readonly patience?: number;
  readonly atOnce?: number;
  /** Packets to a Service port with several endpoints. */
  readonly times?: number;
}

export class PacketTable {
  /** How many packets came to which end. */
  readonly seen = new Map<End, number>();
  readonly #stack: TestStack;
  readonly #options: PacketTableOptions;
  readonly #control: ControlClient;
  readonly #addresses = new Map<string, string>();
  readonly #families: readonly Family[];
  /** The loopback network: everything is the host's, and a process carries the bytes. */
  readonly #relays: boolean;

  constructor(stack: TestStack, options: PacketTableOptions) {
    this.#stack = stack;
    this.#options = options;
    this.#control = new ControlClient(stack.name);
    this.#relays = stack.network === "loopback";
    const range = (option: string) => stack.rangeOptions[stack.rangeOptions.indexOf(option) + 1]!.split(",");
    this.#families = range("--pod-cidr").map((pods, at): Family => {
      const [services, loadBalancers, nodes] = ["service", "load-balancer", "node"].map((one) =>
        range(`--${one}-cidr`),
      );
      const ranges = { pods, services: services![at]!, loadBalancers: loadBalancers![at]!, nodes: nodes![at]! };
      return {
        family: ipFamily(pods.split("/")[0]!)!,
        pods,
        balancers: ranges.loadBalancers,
        host: this.#relays ? "127.0.0.1" : hostAddress(ranges),
      };
    });
  }

  /** Makes the stack with three nodes, the pods and the Services. */
  async up(): Promise<void> {
    const pods = [
      ...Object.entries(endpointPods).flatMap(([app, list]) =>
        Object.entries(list).map(([name, node]) => pod(name, app, node)),
      ),
      pod("client-1", "client", "node-1"),
      pod("client-2", "client", "node-2"),
    ];
    const text = [...pods, ...cases.map((one) => this.#service(one))].join("\n");
    const up = await this.#stack.upWith(text, "--nodes", "3", "--proxy-mode", this.#options.mode, "--wait", "20s");
    // Services without endpoints are what some cases are about: `up` says that they do not work.
    if (!up.out.includes("rules")) throw new Error(up.err);
    for (const { metadata, spec, status } of await this.#stack.list("services")) {
      for (const [at, { family }] of this.#families.entries()) {
        this.#addresses.set(`${metadata.name} clusterIP ${family}`, spec.clusterIPs[at]);
        this.#addresses.set(`${metadata.name} loadBalancerIP ${family}`, status.loadBalancer.ingress?.[at].ip);
      }
    }
    for (const { metadata, status } of await this.#stack.list("nodes")) {
      for (const [at, { family }] of this.#families.entries()) {
        this.#addresses.set(`${metadata.name} ${family}`, status.addresses[at].address);
      }
    }
  }

  /** Sends all packets of one source; gives how many destinations that were, and which of them went another way. */
  async send(source: Source): Promise<{ readonly packets: number; readonly wrong: readonly Wrong[] }> {
    const { times: most = 4 } = this.#options;
    const asked = await Promise.all(
      protocols.flatMap((protocol) =>
        cases.flatMap((one) =>
          this.#families
            .flatMap((family) => this.#destinations(one, source, family))
            .map(async ({ name, ...to }) => {
              const decisions = await this.#decide(protocol, source, to.host, to.port);
              const [decision] = decisions;
              const served = decision.endpoints.some(({ fails }) => !fails);
              const fails = decision.endpoints.some((endpoint) => endpoint.fails);
              const times = served && decision.endpoints.length > 1 ? (fails ? Math.min(2, most) : most) : 1;
              const what = `${protocol} ${source} → ${one.service} by ${name} (${to.host}:${to.port})`;
              return { what, attempt: { protocol, ...to, times }, decision, decisions };
            }),
        ),
      ),
    );
    const answers = await this.#connect(
      source,
      asked.map(({ attempt }) => attempt),
    );
    for (const { decision } of asked) {
      for (const end of endsOf(decision)) this.seen.set(end, (this.seen.get(end) ?? 0) + 1);
    }
    const sentByNode = source.startsWith("node-");
    const wrong = asked.flatMap(({ what, attempt: { protocol }, decision, decisions }, at): Wrong[] => {
      const sent = { protocol, sentByNode, relayed: this.#relays };
      const came = answers[at]!.filter((answer) => !decisions.some((one) => agrees(one, sent, answer)));
      return came.length === 0 ? [] : [{ what, said: decision.answer, came, expected: expectation(decision) }];
    });
    return { packets: asked.length, wrong };
  }

  #service({ service: name, endpoints, internal, external, nodePort, external4, ranges }: Case): string {
    const sourceRanges = ranges?.flatMap((range) =>
      this.#families.map(
        ({ family, host, pods }) =>
          ({
            host: family === 4 ? `${host}/32` : `${host}/128`,
            pods,
            nowhere: family === 4 ? "192.0.2.0/24" : "2001:db8:1::/48",
          })[range],
      ),
    );
    const externalIPs = this.#families.flatMap((family) => [
      // The API takes no loopback address for one, and the loopback network has no others.
      ...(this.#relays ? [] : [externalIP(family, external4)]),
      elsewhere(family, external4),
    ]);
    return `
apiVersion: v1
kind: Service
metadata: { name: ${name} }
spec:
  type: LoadBalancer
  internalTrafficPolicy: ${internal}
  externalTrafficPolicy: ${external}
  ipFamilyPolicy: PreferDualStack
  externalIPs: ${JSON.stringify(externalIPs)}
  ${sourceRanges ? `loadBalancerSourceRanges: ${JSON.stringify(sourceRanges)}` : ""}
  selector: { app: ${endpoints} }
  ports:
    - { name: http, port: 80, targetPort: 8080, nodePort: ${nodePort} }
    - { name: talk, port: 80, targetPort: 8080, nodePort: ${nodePort}, protocol: UDP }
    - { name: many, port: 81, targetPort: 8080, nodePort: ${nodePort + 50}, protocol: SCTP }
---`;
  }

  /** Where a Service is reached, from this source. */
  #destinations(one: Case, source: Source, of: Family): readonly { name: string; host: string; port: number }[] {
    const address = (name: string) => this.#addresses.get(`${name} ${of.family}`)!;
    return [
      { name: "cluster IP", host: address(`${one.service} clusterIP`), port: 80 },
      { name: "load-balancer IP", host: address(`${one.service} loadBalancerIP`), port: 80 },
      ...(this.#relays ? [] : [{ name: "external IP", host: externalIP(of, one.external4), port: 80 }]),
      // The host's own way to that address leads out of the machine.
      ...(source === "host" ? [] : [{ name: "external IP elsewhere", host: elsewhere(of, one.external4), port: 80 }]),
      ...nodes.map((node) => ({ name: `node port of ${node}`, host: address(node), port: one.nodePort })),
      ...(source.startsWith("node-")
        ? [{ name: "node port on localhost", host: of.family === 4 ? "127.0.0.1" : "::1", port: one.nodePort }]
        : []),
    ];
  }

  /**
   * The decision of the node that decides: what passes one on the way to another is asked there. Under policy Local the load
   * balancer in front of the nodes may send to any that serves, so that their decisions hold as well.
   */
  async #decide(
    protocol: string,
    source: Source,
    host: string,
    port: number,
  ): Promise<readonly [PacketDecision, ...PacketDecision[]]> {
    const { family, host: outside, balancers } = this.#families.find((one) => one.family === ipFamily(host))!;
    const isLocal = host === "127.0.0.1" || host === "::1";
    const from = isLocal ? host : (places[source].from ?? outside);
    const written = (address: string) => (family === 6 && ipFamily(address) === 6 ? `[${address}]` : address);
    const packet = `${protocol} ${written(from)} -> ${written(host)}:${port}`;
    const decision = await this.#control.explainPacket({ packet, ...(isLocal ? { node: source } : {}) });
    const leadsToFirst = contains(parseCidr(balancers)!, host);
    if (leadsToFirst && source === "host" && decision.outcome === "endpoints" && !this.#relays) {
      const others = await Promise.all(nodes.map((node) => this.#control.explainPacket({ packet, node })));
      return [
        decision,
        ...others.filter((one) => one.outcome === "endpoints" && one.endpoints.every((to) => to.thisNode)),
      ];
    }
    if (decision.outcome !== "pass" || decision.node === "node-1" || !leadsToFirst) return [decision];
    return [await this.#control.explainPacket({ packet, node: "node-1" })];
  }

  async #connect(source: Source, attempts: readonly Attempt[]): Promise<Answer[][]> {
    const { patience = 1_200, atOnce = 96 } = this.#options;
    const target = places[source].exec;
    const client = [process.execPath, `${root}/test/e2e/packet-client.ts`];
    const argv =
      target === undefined
        ? client
        : [`${root}/bin/fairlead`, "exec", "--name", this.#stack.name, target, "--", ...client];
    const input: Attempts = { patience, atOnce, attempts };
    const env = { FAIRLEAD_HOME: this.#stack.home };
    const { out, err, code } = await run(argv, { stdin: JSON.stringify(input), env });
    if (code !== 0) throw new Error(err);
    return JSON.parse(out) as Answer[][];
  }
}

/** An address in the range of load balancers, to which the host has a way. */
function externalIP({ family, balancers }: Family, last: number): string {
  return family === 4
    ? `${balancers.split(".").slice(0, 2).join(".")}.255.${last}`
    : balancers.replace("::/112", `::ff${last}`);
}

/** An address that only nodes can send to. */
function elsewhere({ family }: Family, last: number): string {
  return family === 4 ? `198.51.100.${last}` : `2001:db8:100::${last}`;
}

const pod = (name: string, app: string, node: string) => `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, labels: { app: ${app} } }
spec:
  nodeName: ${node}
  containers:
    - { name: main, image: example.org/${app}:1, ports: [{ containerPort: 8080 }, { containerPort: 8080, protocol: UDP }] }
---`;

/** What a decision says that can become of the packet. */
function endsOf({ outcome, endpoints }: PacketDecision): ReadonlySet<End> {
  if (outcome !== "endpoints") return new Set([outcome]);
  return new Set(endpoints.map(({ source, fails }) => (fails ? "astray" : source.kept ? "kept" : "masqueraded")));
}

const nowhere = new Set(["EHOSTUNREACH", "ENETUNREACH", "ECONNREFUSED"]);

interface Sent {
  readonly protocol: "tcp" | "udp";
  readonly sentByNode: boolean;
  readonly relayed: boolean;
}

/** Whether a connection ended as the decision says. */
function agrees(decision: PacketDecision, { protocol, sentByNode, relayed }: Sent, answer: Answer): boolean {
  // The kernel tells whoever sends a datagram when its own rules do not let it out, and TCP tries again.
  const notLetOut = protocol === "udp" && sentByNode && answer === "EPERM";
  switch (decision.outcome) {
    case "reject":
      // A process has to take a connection before it can refuse it, and says nothing to datagrams that it does not carry.
      if (relayed && answer === (protocol === "tcp" ? "closed" : "timeout")) return true;
      return answer === "ECONNREFUSED" || notLetOut;
    case "drop":
      return answer === "timeout" || notLetOut;
    case "pass":
      // A socket for datagrams need not be told that its packets lead nowhere.
      return nowhere.has(String(answer)) || (protocol === "udp" && answer === "timeout");
    case "endpoints":
      return decision.endpoints.some(({ target, source, fails }) =>
        fails
          ? typeof answer === "string"
          : isReached(answer) && answer.pod === target?.name && answer.client === source.address,
      );
  }
}

function isReached(answer: Answer): answer is Reached {
  return typeof answer !== "string";
}

function expectation({ outcome, endpoints }: PacketDecision): string {
  const all = endpoints.map(({ target, source, fails }) =>
    fails ? "fails" : `${target?.name} sees ${source.address}`,
  );
  return [outcome, ...all].join("; ");
}
