// Rules of ipvs mode are written in steps by four tools, and packets come in between. In every state on the way a packet that was
// served before and is served afterwards is served, and one that is kept out before and afterwards is kept out.

import { describe, test } from "bun:test";
import fc from "fast-check";
import type { ServicePort } from "../../services/service-table.ts";
import type { Rules } from "../service-rules.ts";
import { applyIpvs } from "../testing/ipvs-kernel.ts";
import { port, table } from "../testing/rows.ts";
import { type IpvsTrace, traceIpvs } from "../testing/trace-ipvs.ts";
import { difference } from "./difference.ts";
import type { IpvsOptions } from "./fixed-chains.ts";
import { render } from "./renderer.ts";

const node = "192.0.2.1";
const options: IpvsOptions = {
  family: 4,
  localDetector: { kind: "cidr", cidr: "10.244.0.0/16" },
  nodeAddresses: [node],
  nodeAddress: node,
};

const sources = { outside: "198.51.100.9", pod: "10.244.200.2", node } as const;
type Source = keyof typeof sources;

interface Question {
  readonly source: Source;
  readonly protocol: string;
  readonly destination: string;
  readonly port: number;
}

/** All ways to Services, from all kinds of places. */
function questions(rows: readonly ServicePort[]): readonly Question[] {
  const found = new Map<string, Question>();
  for (const row of rows) {
    const addresses = [row.clusterIP, ...row.externalIPs, ...row.loadBalancerIPs].map(
      (one) => [one, row.port] as const,
    );
    const all = row.nodePort === undefined ? addresses : [...addresses, [node, row.nodePort] as const];
    for (const [destination, at] of all) {
      for (const source of Object.keys(sources) as Source[]) {
        const question = { source, protocol: row.protocol.toLowerCase(), destination, port: at };
        found.set(JSON.stringify(question), question);
      }
    }
  }
  return [...found.values()];
}

const ask = (rules: Rules, { source, ...packet }: Question) =>
  traceIpvs(rules, { ...packet, source: sources[source] }, [node]);

/** Endpoints with an even last number are on this node (`rows.ts`). */
const isHere = (address: string) => Number(address.split(":")[0]!.split(".")[3]) % 2 === 0;

/** Whether connections work: answers of endpoints elsewhere find back to pods and to the node, and else only by masquerading. */
function works({ outcome, servers }: IpvsTrace, { source }: Question): boolean {
  return (
    outcome === "servers" &&
    servers.every((one) => one.masqueraded || isHere(one.address) || source === "pod" || one.source === node)
  );
}

/** What is wrong with a state on the way from one to the other; undefined when nothing is. */
function wrongOnTheWay(question: Question, before: IpvsTrace, now: IpvsTrace, after: IpvsTrace): string | undefined {
  if (works(now, question)) {
    const keptOut = before.outcome === "drop" && after.outcome === "drop";
    return keptOut ? "is let in" : undefined;
  }
  if (works(before, question) && works(after, question)) return `meets ${JSON.stringify(now)}`;
  // What worked not before or works not afterwards may meet either, or be refused; but it goes not astray.
  if (now.outcome === before.outcome || now.outcome === after.outcome) return undefined;
  if (now.outcome === "reject") return undefined;
  // A source that is being let in hears nothing before, and may hear nothing for a moment more.
  if (now.outcome === "servers" && before.outcome === "drop" && after.outcome !== "drop") return undefined;
  // A new port of an address that is there already: its entry comes before its virtual server, or the node's own packets to it
  // would go out unmasqueraded. For that moment whoever listens on all of the node's addresses has it.
  if (now.outcome === "lost" && (before.outcome !== "drop" || question.source === "node")) return undefined;
  return `meets ${JSON.stringify(now)}`;
}

function check(from: readonly ServicePort[], to: readonly ServicePort[]): void {
  const start = applyIpvs(new Map(), difference(new Map(), render(table(from), options)).text);
  const wanted = render(table(to), options);
  const transaction = difference(start, wanted);
  const asked = questions([...from, ...to]).map((question) => ({
    question,
    before: ask(start, question),
    after: ask(wanted, question),
  }));
  const wrong: string[] = [];
  applyIpvs(start, transaction.text, (state, line) => {
    for (const { question, before, after } of asked) {
      const why = wrongOnTheWay(question, before, ask(state, question), after);
      const { source, protocol, destination, port: at } = question;
      if (why) wrong.push(`after "${line}" ${protocol} ${source} -> ${destination}:${at} ${why}`);
    }
  });
  if (wrong.length > 0) throw new Error(`${wrong.slice(0, 5).join("\n")}\n\n${transaction.text}`);
}

const open: Partial<ServicePort> = {
  nodePort: 30_001,
  externalIPs: ["203.0.113.1"],
  loadBalancerIPs: ["10.97.0.1"],
};
const narrow = { ...open, sourceRanges: ["198.51.100.0/24"] };
const shut = { ...open, sourceRanges: ["203.0.113.0/24"] };
const local = { ...open, externalPolicyLocal: true };

/** Services whose rules change from the one to the other. */
const changes: Readonly<Record<string, readonly [readonly ServicePort[], readonly ServicePort[]]>> = {
  "a new Service": [[], [port(1, [1, 2], open)]],
  "a deleted Service": [[port(1, [1, 2], open)], []],
  "the first endpoint": [[port(1, [], open)], [port(1, [1], open)]],
  "the last endpoint gone": [[port(1, [1], open)], [port(1, [], open)]],
  "all endpoints replaced": [[port(1, [1, 2], open)], [port(1, [3, 4], open)]],
  "endpoints of UDP replaced": [
    [port(1, [1, 2], { ...open, protocol: "UDP" })],
    [port(1, [3, 4], { ...open, protocol: "UDP" })],
  ],
  "policy Cluster to Local": [[port(1, [1, 2], open)], [port(1, [1, 2], local)]],
  "policy Local to Cluster": [[port(1, [1, 2], local)], [port(1, [1, 2], open)]],
  "policy Local, and the local endpoint moves away": [[port(1, [1, 2], local)], [port(1, [1, 3], local)]],
  "policy Local, and a local endpoint comes": [[port(1, [1, 3], local)], [port(1, [1, 2], local)]],
  "endpoints replaced while the policy becomes Local": [[port(1, [1, 3], open)], [port(1, [2, 4], local)]],
  "endpoints replaced while the policy becomes Cluster": [[port(1, [2], local)], [port(1, [1, 3], open)]],
  "affinity comes": [[port(1, [1, 2], open)], [port(1, [1, 2], { ...open, affinitySeconds: 60 })]],
  "affinity goes": [[port(1, [1, 2], { ...open, affinitySeconds: 60 })], [port(1, [1, 2], open)]],
  "source ranges come": [[port(1, [1, 2], open)], [port(1, [1, 2], narrow)]],
  "source ranges go": [[port(1, [1, 2], narrow)], [port(1, [1, 2], open)]],
  "source ranges change": [[port(1, [1, 2], narrow)], [port(1, [1, 2], shut)]],
  "other source ranges that admit the same": [
    [port(1, [1, 2], narrow)],
    [port(1, [1, 2], { ...open, sourceRanges: ["198.51.100.9/32"] })],
  ],
  "other source ranges that shut out the same": [
    [port(1, [1, 2], shut)],
    [port(1, [1, 2], { ...open, sourceRanges: ["192.0.2.128/25"] })],
  ],
  "source ranges and policy at once": [
    [port(1, [1, 2], narrow)],
    [port(1, [1, 2], { ...shut, externalPolicyLocal: true })],
  ],
  "source ranges and policy at once, and the first endpoint comes elsewhere": [
    [port(1, [], narrow)],
    [port(1, [1], { ...shut, externalPolicyLocal: true })],
  ],
  "LoadBalancer to ClusterIP": [[port(1, [1, 2], narrow)], [port(1, [1, 2])]],
  "ClusterIP to LoadBalancer": [[port(1, [1, 2])], [port(1, [1, 2], narrow)]],
  "another node port": [[port(1, [1, 2], open)], [port(1, [1, 2], { ...open, nodePort: 30_002 })]],
  "a node port that goes from one Service to another": [
    [port(1, [1, 2], { nodePort: 30_001 }), port(2, [1, 2])],
    [port(1, [1, 2]), port(2, [1, 2], { nodePort: 30_001 })],
  ],
  "the protocol of a guarded port": [
    [port(1, [], { ...shut, nodePort: undefined, externalIPs: [] })],
    [port(1, [], { loadBalancerIPs: ["10.97.0.1"], protocol: "UDP" })],
  ],
  "an external IP that becomes a load-balancer IP": [
    [port(1, [1, 2], { externalIPs: ["10.97.0.1"] })],
    [port(1, [1, 2], { loadBalancerIPs: ["10.97.0.1"] })],
  ],
  "an external IP that becomes the node's": [
    [port(1, [1, 2], { externalIPs: ["203.0.113.1"] })],
    [port(1, [1, 2], { externalIPs: [node] })],
  ],
};

describe("no packet is lost or astray on the way", () => {
  test.each(Object.entries(changes))("of %s", (_, [from, to]) => {
    check(from, to);
  });

  const row = fc
    .record({
      endpoints: fc.uniqueArray(fc.integer({ min: 1, max: 5 }), { maxLength: 3 }),
      protocol: fc.constantFrom("TCP", "UDP", "SCTP"),
      nodePort: fc.boolean(),
      externalPolicyLocal: fc.boolean(),
      internalPolicyLocal: fc.boolean(),
      affinitySeconds: fc.option(fc.constant(10), { nil: undefined }),
      external: fc.boolean(),
      balanced: fc.boolean(),
      sourceRanges: fc.constantFrom<readonly string[]>([], ["198.51.100.0/24"], ["203.0.113.0/24"], ["0.0.0.0/0"]),
    })
    .map((one) => (service: number) => {
      const { endpoints, protocol, nodePort, external, balanced, sourceRanges, ...more } = one;
      return port(service, endpoints, {
        ...more,
        protocol: protocol as ServicePort["protocol"],
        nodePort: nodePort ? 30_000 + service : undefined,
        externalIPs: external ? [`203.0.113.${service}`] : [],
        loadBalancerIPs: balanced ? [`10.97.0.${service}`] : [],
        sourceRanges: balanced ? sourceRanges : [],
      });
    });
  const rows = fc
    .array(fc.option(row), { minLength: 2, maxLength: 2 })
    .map((list) => list.flatMap((make, at) => (make ? [make(at + 1)] : [])));

  test("of any change", () => {
    fc.assert(
      fc.property(rows, rows, (from, to) => check(from, to)),
      { numRuns: 30 },
    );
  }, 60_000);
});
