import { describe, expect, test } from "bun:test";
import type { Endpoint, EndpointSlice, Service, ServiceSpec } from "../api/kinds.ts";
import { explainPacket, type PacketDecision } from "./packet.ts";
import type { PacketMode, RuleNames } from "./packet-modes.ts";
import type { Packet, PacketNode, PacketOptions } from "./packet-place.ts";
import { renderPacketDecision } from "./packet-report.ts";
import { type ResolvedService, resolveService } from "./resolved-service.ts";
import { endpointText, servicePortsOf } from "./service-table.ts";

/** Names that say what was asked for. */
const names: RuleNames = {
  lookup: (_, { kind }) => `lookup ${kind}`,
  firewall: () => "firewall",
  external: () => "external",
  balance: (_, policy) => `balance ${policy}`,
  endpoint: (_, endpoint) => `endpoint ${endpointText(endpoint)}`,
  masquerade: "masquerade",
  refusal: (_, { kind }, why) => `refusal ${kind} ${why}`,
  unknown: "unknown",
};

const node: PacketNode = { name: "node-1", addresses: ["10.98.0.1", "fd98::1"], podRanges: ["10.244.0.0/24"] };

const pod = (name: string, address: string, on: string, more: Partial<Endpoint> = {}): Endpoint => ({
  addresses: [address],
  conditions: { ready: true, serving: true, terminating: false },
  nodeName: on,
  targetRef: { kind: "Pod", namespace: "shop", name },
  ...more,
});
const here = pod("cart-1", "10.244.0.5", "node-1");
const there = pod("cart-2", "10.244.1.5", "node-2");
const unready = { conditions: { ready: false, serving: false, terminating: false } };
const finishing = { conditions: { ready: false, serving: true, terminating: true } };

const client = "10.244.0.9";
const clientElsewhere = "10.244.1.9";
const outside = "192.0.2.7";
const clusterIP = "10.96.0.20";
const externalIP = "198.51.100.7";
const loadBalancerIP = "10.97.0.3";
const nodePort = 30_080;

interface Setting {
  readonly spec?: ServiceSpec;
  readonly endpoints?: readonly Endpoint[];
  readonly options?: Partial<PacketOptions>;
  readonly mode?: PacketMode;
  readonly node?: PacketNode;
  readonly zone?: string;
}

function serviceOf(spec: ServiceSpec, endpoints: readonly Endpoint[]): ResolvedService {
  const service: Service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "cart", namespace: "shop" },
    spec: {
      type: "LoadBalancer",
      clusterIP,
      clusterIPs: [clusterIP],
      externalIPs: [externalIP],
      selector: { app: "cart" },
      ports: [{ name: "http", protocol: "TCP", port: 80, nodePort }],
      ...spec,
    },
    status: { loadBalancer: { ingress: [{ ip: loadBalancerIP }] } },
  };
  const slice: EndpointSlice = {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: "cart-1", namespace: "shop", labels: { "kubernetes.io/service-name": "cart" } },
    addressType: "IPv4",
    ports: (service.spec?.ports ?? []).map(({ name = "", protocol = "TCP" }) => ({ name, protocol, port: 8080 })),
    endpoints: [...endpoints],
  };
  return resolveService(service, [slice]);
}

function explain(text: string, setting: Setting = {}): PacketDecision {
  const [protocol, from = "", , to = ""] = text.split(" ");
  const at = to.lastIndexOf(":");
  const packet: Packet = {
    protocol: protocol!.toUpperCase() as Packet["protocol"],
    source: { address: from, port: undefined },
    destination: { address: to.slice(0, at), port: Number(to.slice(at + 1)) },
  };
  const service = serviceOf(setting.spec ?? {}, setting.endpoints ?? [here, there]);
  const place = setting.node ?? node;
  const rows = servicePortsOf(service, { name: place.name, ...(setting.zone ? { zone: setting.zone } : {}) });
  return explainPacket(
    packet,
    place,
    { values: () => rows },
    {
      mode: setting.mode ?? "iptables",
      names,
      podRanges: ["10.244.0.0/16"],
      serviceRanges: ["10.96.0.0/16"],
      resolved: (key) => (key === "shop/cart" ? service : undefined),
      nodeAt: (address) => (address === "10.98.0.2" ? "node-2" : undefined),
      ...setting.options,
    },
  );
}

/** `cart-1 sees 10.244.0.9, cart-2 …`; or the verdict. */
function told({ outcome, endpoints }: PacketDecision): string {
  if (outcome !== "endpoints") return outcome;
  return endpoints
    .map(({ target, source }) => `${target?.name} ${source.kept ? "keeps" : `sees ${source.address}`}`)
    .join(", ");
}

const localOut: ServiceSpec = { externalTrafficPolicy: "Local" };
const localIn: ServiceSpec = { internalTrafficPolicy: "Local" };
const both = "cart-1 keeps, cart-2 keeps";
const bothMasqueraded = "cart-1 sees 10.98.0.1, cart-2 sees 10.98.0.1";

describe("where a packet goes", () => {
  // source, destination, Service, endpoints, what becomes of it. Restates upstream's packet-flow tables.
  const table: readonly (readonly [string, string, ServiceSpec, readonly Endpoint[], string])[] = [
    // To the cluster IP, pods keep their source and others do not.
    [client, `${clusterIP}:80`, {}, [here, there], both],
    [clientElsewhere, `${clusterIP}:80`, {}, [here, there], both],
    ["10.98.0.1", `${clusterIP}:80`, {}, [here, there], bothMasqueraded],
    [outside, `${clusterIP}:80`, {}, [here, there], bothMasqueraded],
    ["10.244.0.5", `${clusterIP}:80`, {}, [here, there], "cart-1 sees 10.98.0.1, cart-2 keeps"],
    [client, `${clusterIP}:80`, localIn, [here, there], "cart-1 keeps"],
    [outside, `${clusterIP}:80`, localIn, [here, there], "cart-1 sees 10.98.0.1"],
    [client, `${clusterIP}:80`, localIn, [there], "drop"],
    [client, `${clusterIP}:80`, localIn, [], "reject"],
    [client, `${clusterIP}:80`, {}, [], "reject"],
    [client, `${clusterIP}:80`, localOut, [there], "cart-2 keeps"],
    // To addresses outside under policy Cluster, everybody is masqueraded.
    ...[`${externalIP}:80`, `${loadBalancerIP}:80`, `10.98.0.1:${nodePort}`].flatMap((to) => [
      [client, to, {}, [here, there], bothMasqueraded] as const,
      [outside, to, {}, [here, there], bothMasqueraded] as const,
      ["10.98.0.1", to, {}, [here, there], bothMasqueraded] as const,
      [outside, to, localIn, [there], "cart-2 sees 10.98.0.1"] as const,
      [outside, to, {}, [], "reject"] as const,
      // Under Local, only those that come from outside are kept to this node, with their source.
      [outside, to, localOut, [here, there], "cart-1 keeps"] as const,
      [outside, to, localOut, [there], "drop"] as const,
      [outside, to, localOut, [], "reject"] as const,
      [client, to, localOut, [here, there], both] as const,
      [client, to, localOut, [there], "cart-2 keeps"] as const,
      ["10.98.0.1", to, localOut, [here, there], bothMasqueraded] as const,
      ["10.98.0.1", to, localOut, [there], "cart-2 sees 10.98.0.1"] as const,
      ["10.98.0.2", to, localOut, [here, there], "cart-1 keeps"] as const,
      ["10.244.0.5", to, localOut, [here], "cart-1 sees 10.98.0.1"] as const,
      [outside, to, { ...localOut, ...localIn }, [here, there], "cart-1 keeps"] as const,
    ]),
    // What is terminating serves when nothing else does, for each policy by itself.
    [client, `${clusterIP}:80`, {}, [{ ...here, ...finishing }, there], "cart-2 keeps"],
    [
      client,
      `${clusterIP}:80`,
      {},
      [
        { ...here, ...finishing },
        { ...there, ...unready },
      ],
      "cart-1 keeps",
    ],
    [outside, `${externalIP}:80`, localOut, [{ ...here, ...finishing }, there], "cart-1 keeps"],
    [client, `${clusterIP}:80`, {}, [{ ...here, ...unready }], "reject"],
    // Not asked of any Service.
    [client, `${clusterIP}:81`, {}, [here], "pass"],
    [client, "10.96.0.99:80", {}, [here], "pass"],
    [client, `${externalIP}:81`, {}, [here], "pass"],
    [client, "10.98.0.1:30081", {}, [here], "pass"],
    [client, `10.98.0.2:${nodePort}`, {}, [here], "pass"],
    [client, "10.244.1.5:8080", {}, [here], "pass"],
    [client, "203.0.113.1:80", {}, [here], "pass"],
    [client, `127.0.0.1:${nodePort}`, {}, [here], "pass"],
  ];
  test.each(table)("%s to %s, %j, %j", (from, to, spec, endpoints, expected) => {
    expect(told(explain(`tcp ${from} -> ${to}`, { spec, endpoints }))).toBe(expected);
  });

  test("follows zone hints on this node", () => {
    const hinted = [
      { ...here, hints: { forZones: [{ name: "a" }] } },
      { ...there, hints: { forZones: [{ name: "b" }] } },
    ];
    const decision = explain(`tcp ${client} -> ${clusterIP}:80`, { endpoints: hinted, zone: "b" });
    expect(told(decision)).toBe("cart-2 keeps");
    expect(decision.leftOut).toEqual([
      { address: "10.244.0.5", port: 8080, node: "node-1", reason: "its hints are for zone a, and others are nearer" },
    ]);
  });

  test("goes by protocol", () => {
    const spec: ServiceSpec = { ports: [{ name: "dns", protocol: "UDP", port: 53, nodePort }] };
    expect(explain(`udp ${client} -> ${clusterIP}:53`, { spec }).answer).toContain("shop/cart:dns");
    expect(explain(`tcp ${client} -> ${clusterIP}:53`, { spec }).answer).toContain(
      "has no port 53/TCP (it has 53/UDP)",
    );
    expect(explain(`tcp ${client} -> 10.98.0.1:${nodePort}`, { spec }).answer).toContain("for UDP only");
  });

  test("goes by family", () => {
    const spec: ServiceSpec = { clusterIP: "fd96::20", clusterIPs: ["fd96::20"], externalIPs: [] };
    const rows = [...servicePortsOf(serviceOf(spec, []), { name: "node-1" })].map((row) => ({
      ...row,
      clusterEndpoints: [{ address: "fd44::5", port: 8080, local: true }],
      hasEndpoints: true,
    }));
    const ask = (from: string) =>
      explainPacket(
        { protocol: "TCP", source: { address: from, port: 4000 }, destination: { address: "fd96::20", port: 80 } },
        node,
        { values: () => rows },
        { mode: "iptables", names, podRanges: ["10.244.0.0/16", "fd44::/64"] },
      );
    expect(ask("fd44::9")).toMatchObject({
      packet: "tcp [fd44::9]:4000 -> [fd96::20]:80",
      endpoints: [{ address: "fd44::5", source: { address: "fd44::9", kept: true } }],
    });
    expect(ask("2001:db8::1").endpoints[0]?.source).toMatchObject({ address: "fd98::1", kept: false });
  });
});

describe("masquerading on the way to a cluster IP", () => {
  test("is for all with masqueradeAll, and for nobody when pods cannot be told from others", () => {
    const to = `${clusterIP}:80`;
    expect(told(explain(`tcp ${client} -> ${to}`, { options: { masqueradeAll: true } }))).toBe(bothMasqueraded);
    const { podRanges: _, ...rest } = { podRanges: undefined, masqueradeAll: false };
    const service = serviceOf({}, [here]);
    const decision = explainPacket(
      { protocol: "TCP", source: { address: outside, port: undefined }, destination: { address: clusterIP, port: 80 } },
      node,
      { values: () => servicePortsOf(service, { name: "node-1" }) },
      { mode: "iptables", names, ...rest },
    );
    expect(decision.endpoints[0]?.source).toEqual({
      address: outside,
      kept: true,
      reason: "nothing asks for masquerading on the way to a cluster IP",
    });
  });
});

describe("source ranges of a load balancer", () => {
  const spec: ServiceSpec = { loadBalancerSourceRanges: ["203.0.113.0/24", " 192.0.2.0/29 "] };
  const to = `${loadBalancerIP}:80`;

  test("admit who is in one, and drop the others; other addresses of the Service are open", () => {
    expect(told(explain(`tcp ${outside} -> ${to}`, { spec }))).toBe(bothMasqueraded);
    const refused = explain(`tcp 192.0.2.9 -> ${to}`, { spec });
    expect(refused).toMatchObject({ outcome: "drop", service: { by: "loadBalancerIP" } });
    expect(refused.answer).toBe(
      "dropped: shop/cart:http does not admit the source 192.0.2.9 (loadBalancerSourceRanges: 203.0.113.0/24, 192.0.2.0/29)",
    );
    expect(refused.steps.map(({ where }) => where)).toEqual([
      "lookup loadBalancerIP",
      "firewall",
      "refusal loadBalancerIP ranges",
    ]);
    expect(told(explain(`tcp 192.0.2.9 -> ${externalIP}:80`, { spec }))).toBe(bothMasqueraded);
  });

  test("keep pods and the node itself out, too", () => {
    expect(told(explain(`tcp ${client} -> ${to}`, { spec }))).toBe("drop");
    expect(told(explain(`tcp 10.98.0.1 -> ${to}`, { spec }))).toBe("drop");
  });

  test("that have the node's address admit what it sends from the load-balancer address that it owns", () => {
    const owner = { ...node, localRanges: ["10.97.0.0/16"] };
    const ranges: ServiceSpec = { loadBalancerSourceRanges: ["10.98.0.0/24"] };
    expect(told(explain(`tcp ${loadBalancerIP} -> ${to}`, { spec: ranges, node: owner }))).toBe(bothMasqueraded);
    expect(told(explain(`tcp ${loadBalancerIP} -> ${to}`, { spec, node: owner }))).toBe("drop");
  });

  test("come after the refusal for want of endpoints in iptables, and before it in nftables", () => {
    const setting = { spec, endpoints: [] };
    expect(told(explain(`tcp 192.0.2.9 -> ${to}`, setting))).toBe("reject");
    expect(told(explain(`tcp 192.0.2.9 -> ${to}`, { ...setting, mode: "nftables" }))).toBe("drop");
  });

  test("that an ipMode Proxy address has none of are no matter: it is not taken here", () => {
    const service = { ...serviceOf({}, [here]), ingress: [{ ip: loadBalancerIP, ipMode: "Proxy" as const }] };
    const rows = servicePortsOf(service, { name: "node-1" });
    expect(rows[0]?.loadBalancerIPs).toEqual([]);
  });
});

describe("node ports", () => {
  const to = `127.0.0.1:${nodePort}`;

  test("answer on localhost where that is wanted, masqueraded under both policies", () => {
    const options = { localhostNodePorts: true };
    expect(told(explain(`tcp 127.0.0.1 -> ${to}`, { options }))).toBe(bothMasqueraded);
    expect(told(explain(`tcp 127.0.0.1 -> ${to}`, { options, spec: localOut }))).toBe(bothMasqueraded);
    expect(explain(`tcp 127.0.0.1 -> ${to}`).answer).toBe(
      "no Service takes it: 30080 is a node port of shop/cart:http, but node ports do not answer on 127.0.0.1 here",
    );
  });

  test("answer only on chosen addresses where some are chosen", () => {
    const owner = { ...node, addresses: ["10.98.0.1", "10.99.0.1"] };
    const options = { nodePortAddresses: ["10.99.0.1"] };
    expect(told(explain(`tcp ${outside} -> 10.99.0.1:${nodePort}`, { node: owner, options }))).toBe(bothMasqueraded);
    expect(told(explain(`tcp ${outside} -> 10.98.0.1:${nodePort}`, { node: owner, options }))).toBe("pass");
  });

  test("answer on every address that the kernel takes for its own", () => {
    const owner = { ...node, localRanges: ["10.97.0.0/16"] };
    expect(told(explain(`tcp ${outside} -> 10.97.4.4:${nodePort}`, { node: owner }))).toBe(bothMasqueraded);
  });

  test("of other nodes are their own business", () => {
    expect(explain(`tcp ${client} -> 10.98.0.2:${nodePort}`).answer).toBe(
      "no Service takes it: 10.98.0.2 leads to node-2, whose rules decide there: ask with --node node-2",
    );
  });
});

describe("a packet that nothing serves", () => {
  test("leaves the node unchanged where iptables does not ask, which is what the node itself sends away", () => {
    const setting = { endpoints: [] };
    expect(explain(`tcp 10.98.0.1 -> ${externalIP}:80`, setting)).toMatchObject({
      outcome: "pass",
      answer:
        "no rule takes it: shop/cart:http has no endpoints, but this is not asked of what the node itself sends away; it leaves this node unchanged",
    });
    expect(told(explain(`tcp 10.98.0.1 -> ${externalIP}:80`, { ...setting, mode: "nftables" }))).toBe("reject");
    // To an address of its own it comes back in.
    expect(told(explain(`tcp 10.98.0.1 -> 10.98.0.1:${nodePort}`, setting))).toBe("reject");
    expect(told(explain(`tcp 10.98.0.1 -> ${clusterIP}:80`, setting))).toBe("reject");
  });

  test("names the field and the endpoints that could not serve", () => {
    const decision = explain(`tcp ${outside} -> ${externalIP}:80`, { spec: localOut, endpoints: [there] });
    expect(decision.steps.at(-1)).toEqual({
      where: "refusal externalIP endpoints",
      what: "drop: has no local endpoints: externalTrafficPolicy is Local and its endpoints are on other nodes",
      from: { kind: "Service", namespace: "shop", name: "cart", field: "spec.externalTrafficPolicy" },
    });
    expect(decision.leftOut.map(({ reason }) => reason)).toEqual(["on node-2, and policy Local uses only this node's"]);
    const none = explain(`tcp ${outside} -> ${clusterIP}:80`, { endpoints: [{ ...here, ...unready }] });
    expect(none.steps.at(-1)?.from?.field).toBe("spec.selector");
    expect(none.leftOut.map(({ reason }) => reason)).toEqual(["not ready"]);
  });
});

describe("modes differ", () => {
  test.each([
    ["iptables", `${clusterIP}:81`, "pass"],
    ["nftables", `${clusterIP}:81`, "reject"],
    ["ipvs", `${clusterIP}:81`, "reject"],
    ["userspace", `${clusterIP}:81`, "pass"],
    ["iptables", "10.96.9.9:80", "pass"],
    ["nftables", "10.96.9.9:80", "drop"],
  ] as const)("%s makes of %s: %s", (mode, to, outcome) => {
    expect(explain(`tcp ${client} -> ${to}`, { mode }).outcome).toBe(outcome);
  });

  test("ipvs uses other nodes' endpoints when policy Local finds none, and knows no exception for pods", () => {
    const to = `${externalIP}:80`;
    expect(told(explain(`tcp ${outside} -> ${to}`, { mode: "ipvs", spec: localOut, endpoints: [there] }))).toBe(
      "cart-2 keeps",
    );
    expect(told(explain(`tcp ${client} -> ${to}`, { mode: "ipvs", spec: localOut }))).toBe("cart-1 keeps");
    expect(told(explain(`tcp ${client} -> ${clusterIP}:80`, { mode: "ipvs", spec: localIn, endpoints: [] }))).toBe(
      "reject",
    );
  });

  test("nftables does not masquerade a hairpin by way of another node", () => {
    const setting = { spec: localOut, endpoints: [there] };
    const hairpin = `tcp 10.244.1.5 -> ${externalIP}:80`;
    expect(told(explain(hairpin, setting))).toBe("cart-2 sees 10.98.0.1");
    expect(told(explain(hairpin, { ...setting, mode: "nftables" }))).toBe("cart-2 keeps");
  });

  test("userspace relays, refuses without local endpoints, and carries no SCTP", () => {
    const mode = "userspace" as const;
    expect(told(explain(`tcp ${client} -> ${clusterIP}:80`, { mode }))).toBe(bothMasqueraded);
    expect(told(explain(`tcp ${outside} -> ${externalIP}:80`, { mode, spec: localOut, endpoints: [there] }))).toBe(
      "reject",
    );
    const spec: ServiceSpec = { ports: [{ name: "s", protocol: "SCTP", port: 80 }] };
    expect(explain(`sctp ${client} -> ${clusterIP}:80`, { mode, spec }).answer).toContain("carries no SCTP");
    expect(told(explain(`sctp ${client} -> ${clusterIP}:80`, { spec }))).toBe(both);
  });
});

describe("what a decision tells", () => {
  test("where the packet passes, in order, each with the field behind it", () => {
    const decision = explain(`tcp ${outside} -> 10.98.0.1:${nodePort}`);
    expect(decision.steps.map(({ where, from }) => `${where}: ${from?.field}`)).toEqual([
      "lookup nodePort: spec.ports[0].nodePort",
      "external: spec.externalTrafficPolicy",
      "balance Cluster: spec.externalTrafficPolicy",
    ]);
    expect(decision.masquerade?.where).toBe("masquerade");
    expect(
      decision.endpoints.map(({ where, probability, node: on, thisNode }) => [where, probability, on, thisNode]),
    ).toEqual([
      ["endpoint 10.244.0.5:8080", 0.5, "node-1", true],
      ["endpoint 10.244.1.5:8080", 0.5, "node-2", false],
    ]);
    expect(decision.service).toMatchObject({ namespace: "shop", name: "cart", port: "shop/cart:http", by: "nodePort" });
  });

  test("session affinity", () => {
    const spec: ServiceSpec = { sessionAffinity: "ClientIP" };
    expect(explain(`tcp ${client} -> ${clusterIP}:80`, { spec }).affinity?.seconds).toBe(10_800);
    expect(explain(`tcp ${client} -> ${clusterIP}:80`).affinity).toBeUndefined();
  });

  test("that a connection fails when its answer does not come back through this node", () => {
    const to = `10.98.0.1:${nodePort}`;
    const failing = (from: string) =>
      explain(`tcp ${from} -> ${to}`, { spec: localOut }).endpoints.map(({ fails }) => fails !== undefined);
    expect(failing(clientElsewhere)).toEqual([false, true]);
    expect(failing(client)).toEqual([false, false]);
    expect(failing(outside)).toEqual([false]);
  });

  test("that in iptables a node port that cannot serve refuses on every address of the node", () => {
    const gone = (to: string, more: Partial<Setting> = {}) =>
      explain(`tcp 10.98.0.1 -> ${to}:${nodePort}`, { options: { localhostNodePorts: false }, ...more }).outcome;
    expect(gone("127.0.0.1")).toBe("pass");
    expect(gone("127.0.0.1", { endpoints: [] })).toBe("reject");
    expect(gone("127.0.0.1", { endpoints: [there], spec: localOut })).toBe("drop");
    expect(gone("127.0.0.1", { endpoints: [here], spec: localOut })).toBe("pass");
    expect(gone("127.0.0.1", { endpoints: [], mode: "nftables" })).toBe("pass");
  });

  test("that in ipvs the node itself sends to outside addresses from those addresses, and other nodes keep the answer", () => {
    const from = (to: string, endpoints: readonly Endpoint[], more: Partial<Setting> = {}) =>
      explain(`tcp 10.98.0.1 -> ${to}`, { mode: "ipvs", spec: localOut, endpoints, ...more }).endpoints.map(
        ({ source, fails }) => [source.address, source.kept, fails !== undefined],
      );
    expect(from(`${loadBalancerIP}:80`, [here])).toEqual([[loadBalancerIP, true, false]]);
    expect(from(`${externalIP}:80`, [there])).toEqual([[externalIP, true, true]]);
    expect(from(`${externalIP}:80`, [there], { spec: {} })).toEqual([["10.98.0.1", false, false]]);
    expect(from(`10.98.0.1:${nodePort}`, [there])).toEqual([["10.98.0.1", true, false]]);
  });

  test("that in ipvs policy Local with endpoints elsewhere works only where answers come back this way", () => {
    const failing = (from: string) =>
      explain(`tcp ${from} -> 10.98.0.1:${nodePort}`, {
        ...{ mode: "ipvs", spec: localOut, endpoints: [there] },
        options: { nodeAt: (address) => (address === "10.98.0.2" ? "node-2" : undefined) },
      }).endpoints.map(({ fails }) => fails !== undefined);
    expect([failing(outside), failing("10.98.0.2")]).toEqual([[true], [true]]);
    expect(failing(client)).toEqual([false]);
  });

  test("that an endpoint serves only because nothing else is ready", () => {
    const decision = explain(`tcp ${client} -> ${clusterIP}:80`, { endpoints: [{ ...here, ...finishing }] });
    expect(decision.endpoints[0]?.terminating).toBe(true);
  });

  test("in words for people", () => {
    const decision = explain(`tcp 10.244.0.5 -> ${clusterIP}:80`, {
      endpoints: [here, there, pod("cart-3", "10.244.1.6", "node-2", unready)],
      spec: { sessionAffinity: "ClientIP" },
    });
    expect(renderPacketDecision(decision)).toBe(`tcp 10.244.0.5 -> 10.96.0.20:80   on node-1 (iptables)

→ shop/cart:http takes it by its cluster IP, to one of 2 endpoints
    50 %  10.244.0.5:8080  pod shop/cart-1  on node-1 (this node)
    50 %  10.244.1.5:8080  pod shop/cart-2  on node-2

10.244.0.5:8080: The source is masqueraded as 10.98.0.1: hairpin: a pod that reaches itself must not see its own address
10.244.1.5:8080: The source 10.244.0.5 is kept: the source is a pod (range 10.244.0.0/16)

A client that came within the last 10800 s goes where it went before   Service shop/cart spec.sessionAffinity

through
  lookup clusterIP          cluster IP 10.96.0.20 port 80 of shop/cart:http   Service shop/cart spec.clusterIPs
  balance Cluster           policy Cluster: 2 endpoints   Service shop/cart spec.internalTrafficPolicy
  endpoint 10.244.0.5:8080  to 10.244.0.5:8080
  endpoint 10.244.1.5:8080  to 10.244.1.5:8080
  masquerade                source masqueraded as 10.98.0.1 for 10.244.0.5:8080: hairpin: a pod that reaches itself must not see its own address

left out
  10.244.1.6:8080  not ready`);
  });
});
