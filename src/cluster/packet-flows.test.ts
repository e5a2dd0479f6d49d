// Where packets go, as a table that a reader can check against Kubernetes' documentation: source, destination, protocol and port,
// and the endpoints that may take the packet, whether they see the client's address, or that it is refused. The situations are
// those of upstream's packet-flow tests (pkg/proxy/iptables/proxier_test.go and nftables/proxier_test.go: TestClusterIPGeneral,
// TestNodePorts, TestLoadBalancer, TestHealthCheckNodePort's Services, TestExternalTrafficPolicyLocal, …Cluster,
// TestInternalTrafficPolicy, TestTerminatingEndpointsTrafficPolicyLocal, …Cluster, TestInternalExternalMasquerade,
// TestMasqueradeAll, TestNoEndpointsReject). Each is said by `explain` and done by the text of the rules, in two modes.

import { describe, expect, test } from "bun:test";
import type { EndpointSlice, Service, ServiceSpec } from "../api/kinds.ts";
import { render as renderIptables } from "../node/iptables/renderer.ts";
import { render as renderNftables } from "../node/nftables/renderer.ts";
import { traceIptables } from "../node/testing/trace-iptables.ts";
import { traceNftables } from "../node/testing/trace-nftables.ts";
import type { Protocol } from "../services/objects.ts";
import { explainPacket } from "../services/packet.ts";
import { resolveService } from "../services/resolved-service.ts";
import { type ServicePort, servicePortsOf } from "../services/service-table.ts";
import { ruleNames } from "./packet-names.ts";

const node = "10.98.0.1";
const otherNode = "10.98.0.2";
const pods = "10.244.0.0/16";
/** Endpoints: one pod of this node, one of another. */
const here = "10.244.0.5";
const there = "10.244.1.5";
const sources = {
  pod: "10.244.0.9",
  "pod elsewhere": "10.244.1.9",
  node,
  outside: "203.0.113.7",
  stranger: "192.0.2.7",
  here,
  itself: "127.0.0.1",
} as const;

type State = "ready" | "finishing" | "unready";
interface Situation {
  readonly here?: State;
  readonly there?: State;
  readonly spec?: ServiceSpec;
  readonly protocol?: Protocol;
}

const both = { here: "ready", there: "ready" } as const;
const nodePortSpec = { type: "NodePort" } as const;
const externalLocal = { externalTrafficPolicy: "Local" } as const;
const internalLocal = { internalTrafficPolicy: "Local" } as const;
const external = { externalIPs: ["198.51.100.7"] } as const;
const balanced = { type: "LoadBalancer" } as const;
const ranges = (...list: string[]) => ({ ...balanced, loadBalancerSourceRanges: list });

/** Services that differ in one thing or two. All have port 80, those with node ports 30080. */
const situations = {
  "cluster IP": both,
  UDP: { ...both, protocol: "UDP" },
  SCTP: { ...both, protocol: "SCTP" },
  affinity: { ...both, spec: { sessionAffinity: "ClientIP" } },
  "one endpoint here": { here: "ready" },
  "one endpoint there": { there: "ready" },
  "no endpoints": {},
  unready: { here: "unready", there: "unready" },
  finishing: { here: "finishing", there: "finishing" },
  "finishing here": { here: "finishing", there: "ready" },
  "node port": { ...both, spec: nodePortSpec },
  "node port UDP": { ...both, spec: nodePortSpec, protocol: "UDP" },
  "node port, no endpoints": { spec: nodePortSpec },
  "node port, unready": { here: "unready", spec: nodePortSpec },
  "node port Local": { ...both, spec: { ...nodePortSpec, ...externalLocal } },
  "node port Local, there": { there: "ready", spec: { ...nodePortSpec, ...externalLocal } },
  "node port Local, finishing here": { here: "finishing", there: "ready", spec: { ...nodePortSpec, ...externalLocal } },
  "node port Local, finishing there": { there: "finishing", spec: { ...nodePortSpec, ...externalLocal } },
  "node port Local, ready and finishing": {
    here: "ready",
    there: "finishing",
    spec: { ...nodePortSpec, ...externalLocal },
  },
  external: { ...both, spec: external },
  "external, no endpoints": { spec: external },
  "external Local": { ...both, spec: { ...external, ...nodePortSpec, ...externalLocal } },
  "external Local, there": { there: "ready", spec: { ...external, ...nodePortSpec, ...externalLocal } },
  balanced: { ...both, spec: balanced },
  "balanced, no endpoints": { spec: balanced },
  "for 203.0.113.0/24": { ...both, spec: ranges("203.0.113.0/24") },
  "for pods": { ...both, spec: ranges(pods) },
  "for nodes": { ...both, spec: ranges("10.98.0.0/24") },
  "for everybody": { ...both, spec: ranges("0.0.0.0/0") },
  "for 203.0.113.0/24, no endpoints": { spec: ranges("203.0.113.0/24") },
  "for 203.0.113.0/24, Local": { ...both, spec: { ...ranges("203.0.113.0/24"), ...externalLocal } },
  "balanced Local": { ...both, spec: { ...balanced, ...externalLocal } },
  "balanced Local, there": { there: "ready", spec: { ...balanced, ...externalLocal } },
  "balanced Local, no endpoints": { spec: { ...balanced, ...externalLocal } },
  "internal Local": { ...both, spec: internalLocal },
  "internal Local, there": { there: "ready", spec: internalLocal },
  "internal Local, finishing here": { here: "finishing", there: "ready", spec: internalLocal },
  "internal Local, no endpoints": { spec: internalLocal },
  "internal Local, external Cluster": { ...both, spec: { ...nodePortSpec, ...internalLocal } },
  "all Local": { ...both, spec: { ...nodePortSpec, ...internalLocal, ...externalLocal } },
} as const satisfies Record<string, Situation>;

const targets = {
  clusterIP: ["10.96.0.20", 80],
  "clusterIP:81": ["10.96.0.20", 81],
  nobody: ["10.96.0.99", 80],
  externalIP: ["198.51.100.7", 80],
  balancer: ["10.97.0.3", 80],
  "balancer:81": ["10.97.0.3", 81],
  nodePort: [node, 30_080],
  "another port": [node, 30_081],
  "nodePort elsewhere": [otherNode, 30_080],
  "localhost nodePort": ["127.0.0.1", 30_080],
} as const;

/** `*` behind an endpoint: it sees this node's address, not the client's. `pass`: the rules let the packet go on as it is. */
type Fate =
  | "here"
  | "here*"
  | "there"
  | "there*"
  | "here there"
  | "here* there"
  | "here* there*"
  | "reject"
  | "drop"
  | "pass";
type Row = readonly [
  situation: keyof typeof situations,
  source: keyof typeof sources,
  target: keyof typeof targets,
  iptables: Fate,
  /** Where it differs. */
  nftables?: Fate,
];

const rows: readonly Row[] = [
  // A cluster IP: pods are seen as they are, all others through this node; a pod that reaches itself, too.
  ["cluster IP", "pod", "clusterIP", "here there"],
  ["cluster IP", "pod elsewhere", "clusterIP", "here there"],
  ["cluster IP", "node", "clusterIP", "here* there*"],
  ["cluster IP", "outside", "clusterIP", "here* there*"],
  ["cluster IP", "here", "clusterIP", "here* there"],
  ["cluster IP", "pod", "clusterIP:81", "pass", "reject"],
  ["cluster IP", "pod", "nobody", "pass", "drop"],
  ["cluster IP", "pod", "another port", "pass"],
  ["UDP", "pod", "clusterIP", "here there"],
  ["UDP", "outside", "clusterIP", "here* there*"],
  ["SCTP", "pod", "clusterIP", "here there"],
  ["SCTP", "node", "clusterIP", "here* there*"],
  ["affinity", "pod", "clusterIP", "here there"],
  ["affinity", "here", "clusterIP", "here* there"],
  ["one endpoint here", "pod", "clusterIP", "here"],
  ["one endpoint here", "here", "clusterIP", "here*"],
  ["one endpoint there", "pod", "clusterIP", "there"],
  ["one endpoint there", "node", "clusterIP", "there*"],
  ["no endpoints", "pod", "clusterIP", "reject"],
  ["no endpoints", "node", "clusterIP", "reject"],
  ["no endpoints", "outside", "clusterIP", "reject"],
  // Endpoints that finish their work serve when no other is ready (KEP-1669).
  ["unready", "pod", "clusterIP", "reject"],
  ["finishing", "pod", "clusterIP", "here there"],
  ["finishing here", "pod", "clusterIP", "there"],
  // Node ports: everybody is masqueraded, for the answer has to come back through this node.
  ["node port", "outside", "nodePort", "here* there*"],
  ["node port", "pod", "nodePort", "here* there*"],
  ["node port", "here", "nodePort", "here* there*"],
  ["node port", "node", "nodePort", "here* there*"],
  ["node port", "pod", "clusterIP", "here there"],
  ["node port", "outside", "another port", "pass"],
  ["node port", "pod", "nodePort elsewhere", "pass"],
  ["node port", "itself", "localhost nodePort", "here* there*", "pass"],
  ["node port UDP", "outside", "nodePort", "here* there*"],
  ["node port, no endpoints", "outside", "nodePort", "reject"],
  ["node port, no endpoints", "node", "nodePort", "reject"],
  ["node port, unready", "outside", "nodePort", "reject"],
  // externalTrafficPolicy: Local. Clients from outside keep their address and reach this node only; pods and the node reach all.
  ["node port Local", "outside", "nodePort", "here"],
  ["node port Local", "pod", "nodePort", "here there"],
  ["node port Local", "pod elsewhere", "nodePort", "here there"],
  ["node port Local", "node", "nodePort", "here* there*"],
  ["node port Local", "pod", "clusterIP", "here there"],
  ["node port Local, there", "outside", "nodePort", "drop"],
  ["node port Local, there", "pod", "nodePort", "there"],
  ["node port Local, there", "node", "nodePort", "there*"],
  ["node port Local, finishing here", "outside", "nodePort", "here"],
  ["node port Local, finishing here", "pod", "clusterIP", "there"],
  ["node port Local, finishing there", "outside", "nodePort", "drop"],
  ["node port Local, finishing there", "pod", "clusterIP", "there"],
  ["node port Local, ready and finishing", "outside", "nodePort", "here"],
  // External IPs.
  ["external", "outside", "externalIP", "here* there*"],
  ["external", "pod", "externalIP", "here* there*"],
  ["external", "node", "externalIP", "here* there*"],
  ["external, no endpoints", "outside", "externalIP", "reject"],
  ["external, no endpoints", "pod", "externalIP", "reject"],
  ["external, no endpoints", "node", "externalIP", "pass", "reject"],
  ["external Local", "outside", "externalIP", "here"],
  ["external Local", "pod", "externalIP", "here there"],
  ["external Local", "node", "externalIP", "here* there*"],
  ["external Local, there", "outside", "externalIP", "drop"],
  ["external Local, there", "pod", "externalIP", "there"],
  // Load balancers, with source ranges: those count for the balancer's address and not for node ports and cluster IPs.
  ["balanced", "outside", "balancer", "here* there*"],
  ["balanced", "pod", "balancer", "here* there*"],
  ["balanced", "node", "balancer", "here* there*"],
  ["balanced", "outside", "balancer:81", "pass"],
  ["balanced", "outside", "nodePort", "here* there*"],
  ["balanced, no endpoints", "outside", "balancer", "reject"],
  ["balanced, no endpoints", "pod", "balancer", "reject"],
  ["for 203.0.113.0/24", "outside", "balancer", "here* there*"],
  ["for 203.0.113.0/24", "stranger", "balancer", "drop"],
  ["for 203.0.113.0/24", "pod", "balancer", "drop"],
  ["for 203.0.113.0/24", "node", "balancer", "drop"],
  ["for 203.0.113.0/24", "stranger", "nodePort", "here* there*"],
  ["for 203.0.113.0/24", "pod", "clusterIP", "here there"],
  ["for pods", "pod", "balancer", "here* there*"],
  ["for pods", "outside", "balancer", "drop"],
  ["for nodes", "node", "balancer", "here* there*"],
  ["for nodes", "pod", "balancer", "drop"],
  ["for everybody", "stranger", "balancer", "here* there*"],
  ["for 203.0.113.0/24, no endpoints", "outside", "balancer", "reject"],
  ["for 203.0.113.0/24, no endpoints", "stranger", "balancer", "reject", "drop"],
  ["for 203.0.113.0/24, Local", "outside", "balancer", "here"],
  ["for 203.0.113.0/24, Local", "stranger", "balancer", "drop"],
  ["balanced Local", "outside", "balancer", "here"],
  ["balanced Local", "pod", "balancer", "here there"],
  ["balanced Local", "here", "balancer", "here* there"],
  ["balanced Local", "node", "balancer", "here* there*"],
  ["balanced Local, there", "outside", "balancer", "drop"],
  ["balanced Local, there", "pod", "balancer", "there"],
  ["balanced Local, no endpoints", "outside", "balancer", "reject"],
  // internalTrafficPolicy: Local.
  ["internal Local", "pod", "clusterIP", "here"],
  ["internal Local", "node", "clusterIP", "here*"],
  ["internal Local", "outside", "clusterIP", "here*"],
  ["internal Local", "here", "clusterIP", "here*"],
  ["internal Local, there", "pod", "clusterIP", "drop"],
  ["internal Local, there", "node", "clusterIP", "drop"],
  ["internal Local, finishing here", "pod", "clusterIP", "here"],
  ["internal Local, no endpoints", "pod", "clusterIP", "reject"],
  ["internal Local, external Cluster", "pod", "clusterIP", "here"],
  ["internal Local, external Cluster", "outside", "nodePort", "here* there*"],
  ["all Local", "pod", "clusterIP", "here"],
  ["all Local", "pod", "nodePort", "here there"],
  ["all Local", "outside", "nodePort", "here"],
];

function tableOf({ here: ofHere, there: ofThere, spec = {}, protocol = "TCP" }: Situation): readonly ServicePort[] {
  const conditions = (state: State) => ({
    ready: state === "ready",
    serving: state !== "unready",
    terminating: state === "finishing",
  });
  const endpoint = (address: string, nodeName: string, state: State | undefined) =>
    state === undefined ? [] : [{ addresses: [address], nodeName, conditions: conditions(state) }];
  const port = { name: "p", protocol, port: 80 };
  const service: Service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "cart", namespace: "shop" },
    spec: {
      type: "ClusterIP",
      ...{ clusterIP: "10.96.0.20", clusterIPs: ["10.96.0.20"], ...spec },
      ports: [spec.type === undefined ? port : { ...port, nodePort: 30_080 }],
    },
    ...(spec.type === "LoadBalancer" ? { status: { loadBalancer: { ingress: [{ ip: "10.97.0.3" }] } } } : {}),
  };
  const slice: EndpointSlice = {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: "cart-1", namespace: "shop" },
    addressType: "IPv4",
    endpoints: [...endpoint(here, "node-1", ofHere), ...endpoint(there, "node-2", ofThere)],
    ports: [{ name: "p", protocol, port: 8080 }],
  };
  return servicePortsOf(resolveService(service, [slice]), { name: "node-1" });
}

/** In the words of the table. Endpoints have equal shares, or it is no fate of the table. */
function fate(
  outcome: string,
  endpoints: readonly { address: string; probability: number; masqueraded: boolean }[],
): string {
  if (endpoints.length === 0) return outcome;
  return endpoints
    .map(({ address, probability, masqueraded }) => {
      const share = Math.abs(probability * endpoints.length - 1) < 0.01 ? "" : `(${probability})`;
      return `${address === here ? "here" : "there"}${masqueraded ? "*" : ""}${share}`;
    })
    .sort()
    .join(" ");
}

describe.each(["iptables", "nftables"] as const)("in %s mode", (mode) => {
  test.each(rows)("Service '%s': from %s to %s", (name, from, to, ofIptables, ofNftables = ofIptables) => {
    const expected = mode === "iptables" ? ofIptables : ofNftables;
    const situation: Situation = situations[name];
    const { protocol = "TCP" } = situation;
    const rows = tableOf(situation);
    const table = { values: () => rows };
    const source = sources[from];
    const [destination, port] = targets[to];
    const common = { family: 4, localDetector: { kind: "cidr", cidr: pods }, nodeAddress: node } as const;
    const packet = { protocol: protocol.toLowerCase(), source, destination, port };
    const around = { isLocal: (address: string) => address === node || address === "127.0.0.1" };
    const does =
      mode === "iptables"
        ? traceIptables(
            renderIptables(table, { ...common, localhostNodePorts: true, dropInvalid: true }),
            packet,
            around,
          )
        : traceNftables(
            renderNftables(table, { ...common, nodePortAddresses: [node], serviceCidrs: ["10.96.0.0/16"] }),
            packet,
            around,
          );
    expect(fate(does.outcome, does.endpoints)).toBe(expected);

    const says = explainPacket(
      { protocol, source: { address: source, port: undefined }, destination: { address: destination, port } },
      { name: "node-1", addresses: [node], podRanges: ["10.244.0.0/24"] },
      table,
      {
        ...{ mode, names: ruleNames(mode), podRanges: [pods], serviceRanges: ["10.96.0.0/16"] },
        ...(mode === "iptables" ? { localhostNodePorts: true } : { nodePortAddresses: [node] }),
      },
    );
    const endpoints = says.endpoints.map((one) => ({ ...one, masqueraded: !one.source.kept }));
    expect(fate(says.outcome, endpoints)).toBe(expected);
  });
});

test("the nftables tracer draws evenly where endpoints are drawn by a rule each, and throws at what it does not know", () => {
  const [one] = tableOf({ ...both, spec: nodePortSpec });
  const third = { address: "10.244.2.5", port: 8080, local: false };
  const endpoints = [...one!.clusterEndpoints, third];
  const many = Array.from({ length: 1_001 }, (_, at): ServicePort => {
    return {
      ...one!,
      key: `${at}`,
      clusterIP: `10.96.${at >> 8}.${at & 255}`,
      nodePort: undefined,
      name: `shop/s${at}:p`,
    };
  });
  const rows = many.map((row) => ({ ...row, clusterEndpoints: endpoints }));
  const rules = renderNftables({ values: () => rows }, { family: 4 });
  const packet = { protocol: "tcp", source: sources.pod, destination: "10.96.1.1", port: 80 };
  const around = { isLocal: () => false };
  const { endpoints: drawn } = traceNftables(rules, packet, around);
  expect(drawn.map(({ address, probability }) => [address, probability.toFixed(3)])).toEqual([
    [here, "0.333"],
    [there, "0.333"],
    [third.address, "0.333"],
  ]);
  const strange = new Map([...rules, ["chain services", ["ip ttl 3 drop"]]] as const);
  expect(() => traceNftables(strange, packet, around)).toThrow('the tracer does not know "ip ttl 3 drop" in');
});
