// Packets between real namespaces go where `explain --packet` says: every source × destination × policy × kind of endpoints,
// as one table of data (what upstream's packet-flow tables mean: pkg/proxy/iptables/proxier_test.go TestInternalExternalMasquerade,
// TestExternalTrafficPolicyLocal, TestNoEndpointsReject, TestLoadBalancer and others), checked by connections.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { ControlClient } from "../../src/cluster/control-api.ts";
import type { PacketDecision } from "../../src/services/packet.ts";
import type { Answer, Attempt, Reached } from "./packet-client.ts";
import { isRoot, root, run, TestStack } from "./stack.ts";

if (!isRoot) console.log("skipped: packets: network namespaces need root");

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
const sources = {
  "client-1": { exec: "default/client-1", from: "default/client-1" },
  "client-2": { exec: "default/client-2", from: "default/client-2" },
  "web-1": { exec: "default/web-1", from: "default/web-1" },
  "far-3": { exec: "default/far-3", from: "default/far-3" },
  "node-1": { exec: "node/node-1", from: "node/node-1" },
  "node-2": { exec: "node/node-2", from: "node/node-2" },
  host: { exec: undefined, from: undefined },
} as const;
type Source = keyof typeof sources;

const nodes = ["node-1", "node-2", "node-3"] as const;

const pod = (name: string, app: string, node: string) => `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, labels: { app: ${app} } }
spec:
  nodeName: ${node}
  containers: [{ name: main, image: example.org/${app}:1, ports: [{ containerPort: 8080 }] }]
---`;

/** What can become of a packet in a mode. */
const modes = {
  iptables: ["astray", "drop", "kept", "masqueraded", "pass", "reject"],
  nftables: ["astray", "drop", "kept", "masqueraded", "pass", "reject"],
} as const;

for (const [mode, ends] of Object.entries(modes)) {
  describe.skipIf(!isRoot)(`packets with mode ${mode}`, () => {
    const stack = new TestStack(`packets-${mode.slice(0, 4)}`);
    const control = new ControlClient(stack.name);
    const addresses = new Map<string, string>();
    /** How many packets came to which end. */
    const seen = new Map<string, number>();
    let hostAddress = "";
    let loadBalancers = "";

    const service = ({ service: name, endpoints, internal, external, nodePort, external4, ranges }: Case) => {
      const sourceRanges = ranges?.map(
        (range) => ({ host: `${hostAddress}/32`, pods: podRange(), nowhere: "192.0.2.0/24" })[range],
      );
      return `
apiVersion: v1
kind: Service
metadata: { name: ${name} }
spec:
  type: LoadBalancer
  internalTrafficPolicy: ${internal}
  externalTrafficPolicy: ${external}
  externalIPs: [${externalIP(external4)}, 198.51.100.${external4}]
  ${sourceRanges ? `loadBalancerSourceRanges: [${sourceRanges.join(", ")}]` : ""}
  selector: { app: ${endpoints} }
  ports: [{ name: http, port: 80, targetPort: 8080, nodePort: ${nodePort} }]
---`;
    };
    const rangeOf = (option: string) => stack.rangeOptions[stack.rangeOptions.indexOf(option) + 1]!;
    const podRange = () => rangeOf("--pod-cidr");
    const externalIP = (last: number) => `${loadBalancers.split(".").slice(0, 2).join(".")}.255.${last}`;

    beforeAll(async () => {
      loadBalancers = rangeOf("--load-balancer-cidr");
      hostAddress = rangeOf("--node-cidr").replace(/\.0\/24$/, ".254");
      const pods = [
        ...Object.entries(endpointPods).flatMap(([app, list]) =>
          Object.entries(list).map(([name, node]) => pod(name, app, node)),
        ),
        pod("client-1", "client", "node-1"),
        pod("client-2", "client", "node-2"),
      ];
      const up = await stack.upWith([...pods, ...cases.map(service)].join("\n"), "--nodes", "3", "--proxy-mode", mode);
      // Services without endpoints are what some cases are about: `up` says that they do not work.
      if (!up.out.includes("rules")) throw new Error(up.err);
      for (const one of await stack.list("services")) {
        addresses.set(`${one.metadata.name} clusterIP`, one.spec.clusterIP);
        addresses.set(`${one.metadata.name} loadBalancerIP`, one.status.loadBalancer.ingress?.[0].ip);
      }
      for (const one of await stack.list("pods")) addresses.set(one.metadata.name, one.status.podIP);
      for (const { metadata, status } of await stack.list("nodes"))
        addresses.set(metadata.name, status.addresses[0].address);
    }, 60_000);
    afterAll(() => stack.remove(), 30_000);

    /** Where a Service is reached, from this source. */
    const destinations = (one: Case, source: Source) => [
      { name: "cluster IP", host: addresses.get(`${one.service} clusterIP`)!, port: 80 },
      { name: "load-balancer IP", host: addresses.get(`${one.service} loadBalancerIP`)!, port: 80 },
      { name: "external IP", host: externalIP(one.external4), port: 80 },
      // The host's own way to that address leads out of the machine.
      ...(source === "host" ? [] : [{ name: "external IP elsewhere", host: `198.51.100.${one.external4}`, port: 80 }]),
      ...nodes.map((node) => ({ name: `node port of ${node}`, host: addresses.get(node)!, port: one.nodePort })),
      ...(source.startsWith("node-")
        ? [{ name: "node port on localhost", host: "127.0.0.1", port: one.nodePort }]
        : []),
    ];

    /** The decision of the node that decides: what passes one on the way to another is asked there. */
    const decide = async (source: Source, host: string, port: number): Promise<PacketDecision> => {
      const from = host === "127.0.0.1" ? "127.0.0.1" : (sources[source].from ?? hostAddress);
      const packet = `tcp ${from} -> ${host}:${port}`;
      const local = host === "127.0.0.1" ? { node: source } : {};
      const decision = await control.explainPacket({ packet, ...local });
      const leadsToFirst = host.startsWith(loadBalancers.split(".").slice(0, 2).join("."));
      if (decision.outcome !== "pass" || decision.node === "node-1" || !leadsToFirst) return decision;
      return await control.explainPacket({ packet, node: "node-1" });
    };

    test.each(Object.keys(sources) as Source[])(
      "from %s go where explain says",
      async (source) => {
        const asked = await Promise.all(
          cases.flatMap((one) =>
            destinations(one, source).map(async (to) => {
              const decision = await decide(source, to.host, to.port);
              const served = decision.endpoints.some(({ fails }) => !fails);
              const fails = decision.endpoints.some((endpoint) => endpoint.fails);
              const times = served && decision.endpoints.length > 1 ? (fails ? 2 : 4) : 1;
              return { what: `${source} → ${one.service} by ${to.name} (${to.host}:${to.port})`, to, times, decision };
            }),
          ),
        );
        const answers = await connect(
          sources[source].exec,
          asked.map(({ to, times }) => ({ ...to, times })),
        );
        const wrong = asked.flatMap(({ what, decision }, at) => {
          const differs = answers[at]!.filter((answer) => !agrees(decision, answer));
          return differs.length === 0
            ? []
            : [{ what, said: decision.answer, came: differs, expected: expectation(decision) }];
        });
        expect(wrong).toEqual([]);
        for (const { decision } of asked) {
          const ends = decision.endpoints.map(({ source, fails }) =>
            fails ? "astray" : source.kept ? "kept" : "masqueraded",
          );
          for (const end of new Set(ends.length > 0 ? ends : [decision.outcome]))
            seen.set(end, (seen.get(end) ?? 0) + 1);
        }
      },
      60_000,
    );

    test("are explained on the command line, in words and as JSON", async () => {
      const packet = ["--packet", "tcp default/client-1:40000 -> default/far-cluster-cluster:80"];
      const words = await stack.fairlead("explain", ...packet);
      expect(words.out).toContain("→ default/far-cluster-cluster:http takes it by its cluster IP, to ");
      expect(words.out).toContain("pod default/far-3  on node-3");
      const json = await stack.fairlead("explain", ...packet, "--node", "node-3", "-o", "json");
      expect(JSON.parse(json.out)).toMatchObject({
        mode,
        node: "node-3",
        outcome: "endpoints",
        endpoints: [{ thisNode: true }],
      });
      const wrong = await stack.fairlead("explain", "--packet", "tcp default/nobody -> default/far-cluster-cluster:80");
      expect([wrong.code, wrong.err]).toEqual([1, expect.stringContaining('there is no pod "default/nobody"')]);
    });

    test("and all that can become of a packet was seen", () => {
      console.log(`packets with mode ${mode}: ${[...seen].map(([end, count]) => `${count} ${end}`).join(", ")}`);
      expect([...seen.keys()].sort()).toEqual([...ends]);
    });

    const connect = async (target: string | undefined, attempts: readonly Attempt[]): Promise<Answer[][]> => {
      const argv = [process.execPath, `${root}/test/e2e/packet-client.ts`];
      const stdin = JSON.stringify(attempts);
      const { out, err, code } =
        target === undefined
          ? await run(argv, { stdin })
          : await run([`${root}/bin/fairlead`, "exec", "--name", stack.name, target, "--", ...argv], {
              stdin,
              env: { FAIRLEAD_HOME: stack.home },
            });
      if (code !== 0) throw new Error(err);
      return JSON.parse(out) as Answer[][];
    };
  });
}

/** Whether a connection ended as the decision says. */
function agrees(decision: PacketDecision, answer: Answer): boolean {
  switch (decision.outcome) {
    case "reject":
      return answer === "ECONNREFUSED";
    case "drop":
      return answer === "timeout";
    case "pass":
      return answer === "EHOSTUNREACH" || answer === "ECONNREFUSED";
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
