// What `explain --packet` says equals what the rules do: all endpoints × policies × source ranges × affinity × protocols × families
// × sources × addresses of a Service, walked through the text of the iptables, nftables and ipvs rules. The cases are those of upstream's
// packet-flow tables (pkg/proxy/iptables/proxier_test.go: TestClusterIPGeneral, TestLoadBalancer, TestNodePorts,
// TestExternalTrafficPolicyLocal/Cluster, TestInternalTrafficPolicy, TestTerminatingEndpointsTrafficPolicy…,
// TestInternalExternalMasquerade, TestNoEndpointsReject) and their products, as data of our own.

import { describe, expect, test } from "bun:test";
import type { Endpoint, EndpointSlice, Service } from "../api/kinds.ts";
import { addressWithPort } from "../base/ip.ts";
import { render as renderIptables } from "../node/iptables/renderer.ts";
import { render as renderIpvs } from "../node/ipvs/renderer.ts";
import { render as renderNftables } from "../node/nftables/renderer.ts";
import { type IptablesTrace, traceIptables } from "../node/testing/trace-iptables.ts";
import { traceIpvs } from "../node/testing/trace-ipvs.ts";
import { traceNftables } from "../node/testing/trace-nftables.ts";
import type { Protocol } from "../services/objects.ts";
import { explainPacket, type PacketDecision } from "../services/packet.ts";
import { resolveService } from "../services/resolved-service.ts";
import { type ServicePort, servicePortsOf } from "../services/service-table.ts";
import { ruleNames } from "./packet-names.ts";

/** Addresses by family. */
const places = {
  4: {
    node: "10.98.0.1",
    pods: "10.244.0.0/16",
    ownPods: "10.244.0.0/24",
    services: "10.96.0.0/16",
    clusterIP: "10.96.0.20",
    /** A Service address that no Service has. */
    nobody: "10.96.0.21",
    externalIP: "198.51.100.7",
    balancer: "10.97.0.3",
    loopback: "127.0.0.1",
    ranges: { outside: "192.0.2.0/24", pods: "10.244.0.0/16", node: "10.98.0.0/24", nobody: "203.0.113.0/24" },
    sources: { outside: "192.0.2.7", pod: "10.244.0.9", "pod elsewhere": "10.244.1.9", endpoint: "10.244.0.5" },
    here: "10.244.0.5",
    there: "10.244.1.5",
  },
  6: {
    node: "fd98::1",
    pods: "fd00:244::/56",
    ownPods: "fd00:244::/64",
    services: "fd00:96::/112",
    clusterIP: "fd00:96::20",
    nobody: "fd00:96::21",
    externalIP: "2001:db8:100::7",
    balancer: "fd00:97::3",
    loopback: "::1",
    ranges: { outside: "2001:db8:2::/48", pods: "fd00:244::/56", node: "fd98::/64", nobody: "2001:db8:3::/48" },
    sources: {
      outside: "2001:db8:2::7",
      pod: "fd00:244::9",
      "pod elsewhere": "fd00:244:0:1::9",
      endpoint: "fd00:244::5",
    },
    here: "fd00:244::5",
    there: "fd00:244:0:1::5",
  },
} as const;
type Family = keyof typeof places;

type State = "ready" | "unready" | "finishing";
/** What stands behind the Service on this node and on another. */
const endpointSets: Readonly<Record<string, { readonly here?: State; readonly there?: State }>> = {
  none: {},
  here: { here: "ready" },
  there: { there: "ready" },
  both: { here: "ready", there: "ready" },
  unready: { here: "unready", there: "unready" },
  "finishing here": { here: "finishing" },
  "finishing there": { there: "finishing" },
  "finishing here, ready there": { here: "finishing", there: "ready" },
  "finishing there, ready here": { here: "ready", there: "finishing" },
  "finishing on both": { here: "finishing", there: "finishing" },
};
const conditions = {
  ready: { ready: true, serving: true, terminating: false },
  unready: { ready: false, serving: false, terminating: false },
  finishing: { ready: false, serving: true, terminating: true },
} as const;

const nodePort = 30_080;

interface Case {
  readonly family: Family;
  readonly protocol: Protocol;
  readonly endpoints: string;
  readonly internal: "Cluster" | "Local";
  readonly external: "Cluster" | "Local";
  readonly ranges: readonly string[];
  readonly affinity: boolean;
}

function rowsOf({ family, protocol, endpoints, internal, external, ranges, affinity }: Case): readonly ServicePort[] {
  const { clusterIP, externalIP, balancer, here, there } = places[family];
  const pod = (address: string, nodeName: string, state: State | undefined): Endpoint[] =>
    state === undefined ? [] : [{ addresses: [address], nodeName, conditions: conditions[state] }];
  const set = endpointSets[endpoints]!;
  const service: Service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "cart", namespace: "shop" },
    spec: {
      type: "LoadBalancer",
      ...{ clusterIP, clusterIPs: [clusterIP], externalIPs: [externalIP], loadBalancerSourceRanges: [...ranges] },
      ...{ internalTrafficPolicy: internal, externalTrafficPolicy: external },
      ...(affinity ? { sessionAffinity: "ClientIP" } : {}),
      ports: [{ name: "p", protocol, port: 80, nodePort }],
    },
    status: { loadBalancer: { ingress: [{ ip: balancer }] } },
  };
  const slice: EndpointSlice = {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: "cart-1", namespace: "shop" },
    addressType: family === 4 ? "IPv4" : "IPv6",
    endpoints: [...pod(here, "node-1", set.here), ...pod(there, "node-2", set.there)],
    ports: [{ name: "p", protocol, port: 8080 }],
  };
  return servicePortsOf(resolveService(service, [slice]), { name: "node-1" });
}

/** All cases of one family: what does not depend on one another is not multiplied. */
function casesOf(family: Family): readonly Case[] {
  const { ranges } = places[family];
  const policies = ["Cluster", "Local"] as const;
  const plain = Object.keys(endpointSets).flatMap((endpoints) =>
    policies.flatMap((internal) =>
      policies.map((external): Case => {
        return { family, protocol: "TCP", endpoints, internal, external, ranges: [], affinity: false };
      }),
    ),
  );
  const narrow = Object.values(ranges).flatMap((range) => {
    return plain
      .filter(({ internal, endpoints }) => internal === "Cluster" && !endpoints.includes("finishing"))
      .map((one): Case => ({ ...one, ranges: [range] }));
  });
  const some = plain.filter(({ endpoints }) => ["none", "there", "both"].includes(endpoints));
  const others = (["UDP", "SCTP"] as const).flatMap((protocol) => some.map((one) => ({ ...one, protocol })));
  return [...plain, ...narrow, ...others, ...some.map((one) => ({ ...one, affinity: true }))];
}

type TracedBy = Parameters<typeof traceIptables>[1];

interface Packet {
  readonly source: string;
  readonly destination: string;
  readonly port: number;
}

function packetsOf(family: Family): readonly Packet[] {
  const { node, clusterIP, nobody, externalIP, balancer, loopback, sources } = places[family];
  const targets = [
    ...[clusterIP, externalIP, balancer].flatMap((destination) => [80, 81].map((port) => ({ destination, port }))),
    { destination: nobody, port: 80 },
    ...[nodePort, nodePort + 1].map((port) => ({ destination: node, port })),
  ];
  return [
    ...[...Object.values(sources), node].flatMap((source) => targets.map((target) => ({ source, ...target }))),
    { source: loopback, destination: loopback, port: nodePort },
  ];
}

function decide(
  mode: "iptables" | "nftables" | "ipvs",
  { family, protocol }: Case,
  rows: readonly ServicePort[],
  packet: Packet,
): PacketDecision {
  const { node, pods, ownPods, services } = places[family];
  return explainPacket(
    {
      protocol,
      source: { address: packet.source, port: undefined },
      destination: { address: packet.destination, port: packet.port },
    },
    { name: "node-1", addresses: [node], podRanges: [ownPods] },
    { values: () => rows },
    {
      ...{ mode, names: ruleNames(mode), podRanges: [pods] },
      serviceRanges: [services],
      ...(mode === "iptables" ? { localhostNodePorts: family === 4 } : { nodePortAddresses: [node] }),
    },
  );
}

/** In one form, so that differences read well. */
function shown(outcome: string, endpoints: readonly { to: string; share: number; masqueraded: boolean }[]): string {
  const all = endpoints.map(
    ({ to, share, masqueraded }) => `${to} ${share.toFixed(2)}${masqueraded ? " masqueraded" : ""}`,
  );
  return [outcome, ...all.sort()].join("; ");
}

function said({ outcome, endpoints }: PacketDecision): string {
  const list = endpoints.map(({ address, port, probability, source }) => {
    return { to: addressWithPort(address, port), share: probability, masqueraded: !source.kept };
  });
  return shown(outcome, list);
}

describe.each([4, 6] as const)("in IPv%i", (family) => {
  const { node, pods, loopback } = places[family];
  const detector = { kind: "cidr", cidr: pods } as const;

  const isLocal = (address: string) => address === node || address === loopback;
  const common = { family, localDetector: detector, nodeAddress: node } as const;
  const walks: Readonly<
    Record<"iptables" | "nftables", (rows: readonly ServicePort[]) => (packet: TracedBy) => IptablesTrace>
  > = {
    iptables(rows) {
      const rules = renderIptables({ values: () => rows }, { ...common, localhostNodePorts: true, dropInvalid: true });
      return (packet) => traceIptables(rules, packet, { isLocal });
    },
    nftables(rows) {
      const rules = renderNftables(
        { values: () => rows },
        { ...common, nodePortAddresses: [node], serviceCidrs: [places[family].services] },
      );
      return (packet) => traceNftables(rules, packet, { isLocal });
    },
  };

  test.each(["iptables", "nftables"] as const)("what explain says equals what the %s rules do", (mode) => {
    const wrong: string[] = [];
    const seen = new Set<string>();
    let packets = 0;
    for (const one of casesOf(family)) {
      const rows = rowsOf(one);
      const walk = walks[mode](rows);
      for (const packet of packetsOf(family)) {
        const traced = walk({ ...packet, protocol: one.protocol.toLowerCase() });
        const list = traced.endpoints.map(({ address, port, probability, masqueraded }) => {
          return { to: addressWithPort(address, port), share: probability, masqueraded };
        });
        const [does, says] = [shown(traced.outcome, list), said(decide(mode, one, rows, packet))];
        packets++;
        seen.add(traced.outcome);
        if (does !== says)
          wrong.push(`${JSON.stringify(one)} ${JSON.stringify(packet)}\n  does ${does}\n  says ${says}`);
      }
    }
    expect(wrong.slice(0, 5)).toEqual([]);
    expect([...seen].sort()).toEqual(["drop", "endpoints", "pass", "reject"]);
    expect(packets).toBeGreaterThan(4_000);
  });

  test("what explain says equals what the ipvs rules do", () => {
    const wrong: string[] = [];
    const seen = new Set<string>();
    for (const one of casesOf(family)) {
      const rows = rowsOf(one);
      const options = { family, localDetector: detector, nodeAddresses: [node], nodeAddress: node };
      const rules = renderIpvs({ values: () => rows }, options);
      for (const packet of packetsOf(family)) {
        if (packet.source === loopback) continue;
        const traced = traceIpvs(rules, { ...packet, protocol: one.protocol.toLowerCase() }, [node]);
        const outcome = { servers: "endpoints", lost: "pass", reject: "reject", drop: "drop" }[traced.outcome];
        const list = traced.servers.map(({ address, masqueraded }) => {
          return { to: address, share: 1 / traced.servers.length, masqueraded };
        });
        const [does, says] = [shown(outcome, list), said(decide("ipvs", one, rows, packet))];
        seen.add(outcome);
        if (does !== says)
          wrong.push(`${JSON.stringify(one)} ${JSON.stringify(packet)}\n  does ${does}\n  says ${says}`);
      }
    }
    expect(wrong.slice(0, 5)).toEqual([]);
    expect([...seen].sort()).toEqual(["drop", "endpoints", "pass", "reject"]);
  });
});

/** Lines of filter and nat, without the jumps from built-in chains: pkg/proxy/iptables/number_generated_rules_test.go. */
const counts: readonly (readonly [
  "ClusterIP" | "LoadBalancer",
  services: number,
  endpoints: number,
  filter: number,
  nat: number,
])[] = [
  ["ClusterIP", 0, 0, 4, 5],
  ["ClusterIP", 1, 0, 5, 5],
  ["ClusterIP", 1, 1, 4, 10],
  ["ClusterIP", 1, 2, 4, 13],
  ["ClusterIP", 1, 10, 4, 37],
  ["ClusterIP", 10, 0, 14, 5],
  ["ClusterIP", 10, 1, 4, 55],
  ["ClusterIP", 10, 2, 4, 85],
  ["ClusterIP", 10, 10, 4, 325],
  ["LoadBalancer", 1, 0, 8, 5],
  ["LoadBalancer", 1, 1, 5, 18],
  ["LoadBalancer", 1, 2, 5, 21],
  ["LoadBalancer", 1, 10, 5, 45],
  ["LoadBalancer", 10, 0, 44, 5],
  ["LoadBalancer", 10, 1, 14, 135],
  ["LoadBalancer", 10, 2, 14, 165],
  ["LoadBalancer", 10, 10, 14, 405],
];

test.each(counts)(
  "%s: %i Services of %i endpoints are %i rules of filter and %i of nat",
  (type, services, endpoints, filter, nat) => {
    const rows = Array.from({ length: services }, (_, at): ServicePort => {
      const list = Array.from({ length: endpoints }, (_, n) => ({
        address: `10.244.${at}.${n + 1}`,
        port: 80,
        local: false,
      }));
      const outside = type === "LoadBalancer";
      return {
        ...{
          key: `ns/s${at}:p/TCP/4`,
          name: `ns/s${at}:p`,
          namespace: "ns",
          service: `s${at}`,
          family: 4,
          protocol: "TCP",
          port: 80,
        },
        ...{
          clusterIP: `10.96.0.${at + 1}`,
          externalIPs: outside ? [`198.51.100.${at + 1}`] : [],
          loadBalancerIPs: outside ? [`10.97.0.${at + 1}`] : [],
        },
        ...{ sourceRanges: outside ? ["203.0.113.0/24"] : [], nodePort: outside ? 30_000 + at : undefined },
        ...{
          healthCheckNodePort: undefined,
          internalPolicyLocal: false,
          externalPolicyLocal: false,
          affinitySeconds: undefined,
        },
        ...{ clusterEndpoints: list, localEndpoints: [], hasEndpoints: endpoints > 0, localReady: 0 },
      };
    });
    const rules = renderIptables(
      { values: () => rows },
      {
        family: 4,
        localDetector: { kind: "cidr", cidr: "10.244.0.0/16" },
        localhostNodePorts: true,
        dropInvalid: true,
        // Node ports on localhost are counted, by a rule of their own.
        nfacct: true,
      },
    );
    const lines = (table: string) =>
      [...rules].flatMap(([name, all]) => (name.startsWith(`${table}/KUBE-`) ? all : [])).length;
    expect([lines("filter"), lines("nat")]).toEqual([filter, nat]);
  },
);
