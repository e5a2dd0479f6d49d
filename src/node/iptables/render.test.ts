import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { EndpointSlice, Service, ServiceSpec } from "../../api/kinds.ts";
import { resolveService } from "../../services/resolved-service.ts";
import { type ServicePort, servicePortsOf } from "../../services/service-table.ts";
import type { Rules } from "../service-rules.ts";
import type { IptablesOptions } from "./fixed-chains.ts";
import { chainHash, endpointChain, servicePortHash } from "./names.ts";
import { render } from "./renderer.ts";
import { probability } from "./rule-text.ts";
import { parseSave } from "./save.ts";

interface Given {
  readonly name: string;
  readonly spec: ServiceSpec;
  readonly ingress?: string;
  readonly endpoints?: readonly { readonly ip: string; readonly node?: string }[];
}

const node = "node-1";

function rowsOf({ name, spec, ingress, endpoints = [] }: Given): readonly ServicePort[] {
  const [namespace, service] = name.split("/") as [string, string];
  const object: Service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: service, namespace },
    spec: { type: "ClusterIP", ...(spec.clusterIP ? { clusterIPs: [spec.clusterIP] } : {}), ...spec },
    ...(ingress ? { status: { loadBalancer: { ingress: [{ ip: ingress }] } } } : {}),
  };
  const slice: EndpointSlice = {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: `${service}-1`, namespace, labels: { "kubernetes.io/service-name": service } },
    addressType: spec.clusterIP?.includes(":") ? "IPv6" : "IPv4",
    ports: (spec.ports ?? []).map((port) => ({ name: port.name ?? "", protocol: port.protocol ?? "TCP", port: 80 })),
    endpoints: endpoints.map((one) => ({
      addresses: [one.ip],
      conditions: { ready: true },
      ...(one.node ? { nodeName: one.node } : {}),
    })),
  };
  return servicePortsOf(resolveService(object, [slice]), { name: node });
}

const p80 = [{ name: "p80", port: 80, protocol: "TCP" }] as const;
const table = (given: readonly Given[]) => new Map(given.flatMap(rowsOf).map((row) => [row.key, row]));
const rules = (given: readonly Given[], options: Partial<IptablesOptions> = {}) =>
  render(table(given), { family: 4, localDetector: { kind: "cidr", cidr: "10.0.0.0/8" }, ...options });

/** The setup of kube-proxy's TestOverallIPTablesRules. */
const overall: readonly Given[] = [
  { name: "ns1/svc1", spec: { clusterIP: "172.30.0.41", ports: p80 }, endpoints: [{ ip: "10.180.0.1" }] },
  {
    name: "ns2/svc2",
    spec: {
      type: "LoadBalancer",
      externalTrafficPolicy: "Local",
      clusterIP: "172.30.0.42",
      externalIPs: ["192.168.99.22"],
      ports: [{ ...p80[0], nodePort: 3001 }],
      healthCheckNodePort: 30_000,
    },
    ingress: "1.2.3.4",
    endpoints: [{ ip: "10.180.0.2", node: "node-2" }],
  },
  {
    name: "ns3/svc3",
    spec: { type: "NodePort", clusterIP: "172.30.0.43", ports: [{ ...p80[0], nodePort: 3003 }] },
    endpoints: [{ ip: "10.180.0.3" }],
  },
  {
    name: "ns4/svc4",
    spec: { clusterIP: "172.30.0.44", externalIPs: ["192.168.99.33"], ports: p80 },
    endpoints: [{ ip: "10.180.0.4" }, { ip: "10.180.0.5" }],
  },
  {
    name: "ns5/svc5",
    spec: {
      type: "LoadBalancer",
      clusterIP: "172.30.0.45",
      sessionAffinity: "ClientIP",
      loadBalancerSourceRanges: ["203.0.113.0/25"],
      ports: [{ ...p80[0], nodePort: 3002 }],
    },
    ingress: "5.6.7.8",
    endpoints: [{ ip: "10.180.0.3" }],
  },
  { name: "ns6/svc6", spec: { clusterIP: "172.30.0.46", ports: p80 } },
];

describe("chain names", () => {
  test("are kube-proxy's", () => {
    expect(servicePortHash("ns1/svc1:p80", "TCP")).toBe("XPGD46QRK7WJZT7O");
    expect(servicePortHash("default/kubernetes:https", "TCP")).toBe("NPX46M4PTMTKRN6Y");
    expect(endpointChain("ns1/svc1:p80", "TCP", { address: "10.180.0.1", port: 80 })).toBe("KUBE-SEP-SXIVWICOYRO3J4NJ");
  });

  test("write IPv6 endpoints in brackets, and unnamed ports without a colon", () => {
    expect(endpointChain("a/b", "UDP", { address: "fd00::1", port: 80 })).toBe(
      `KUBE-SEP-${chainHash("a/budp[fd00::1]:80")}`,
    );
  });
});

const sample = join(import.meta.dir, "../../../../shared/research/samples/kube-proxy-iptables-overall.txt");

/** Chains in which kube-proxy's order is that of a Go map: compared without it. */
const unordered = /\/KUBE-(SERVICES|NODEPORTS|EXTERNAL-SERVICES|PROXY-FIREWALL)$/;
const comparable = (all: Rules) =>
  Object.fromEntries([...all].map(([chain, lines]) => [chain, unordered.test(chain) ? [...lines].sort() : lines]));

describe("the whole table", () => {
  test.skipIf(!existsSync(sample))("is what kube-proxy 1.36.2 wrote for the same Services", () => {
    const options = { localhostNodePorts: true, nfacct: true } as const;
    const ours = rules(overall, options);
    expect(comparable(ours)).toEqual(comparable(parseSave(readFileSync(sample, "utf8"))));
    expect(ours.get("nat/KUBE-SERVICES")?.at(-1)).toContain("NOTE: this must be the last rule in this chain");
  });

  test.each([
    ["no Service", 0, 0, 4, 5],
    ["one without endpoints", 1, 0, 5, 5],
    ["one with one", 1, 1, 4, 10],
    ["one with ten", 1, 10, 4, 37],
    ["ten with two", 10, 2, 4, 85],
    ["ten with ten", 10, 10, 4, 325],
  ])("of %s has as many rules as kube-proxy's", (_name, services, endpoints, filter, nat) => {
    const given = Array.from(
      { length: services },
      (_, s): Given => ({
        name: `ns/svc${s}`,
        spec: { clusterIP: `172.30.0.${s + 1}`, ports: p80 },
        endpoints: Array.from({ length: endpoints }, (_, e) => ({ ip: `10.180.${s}.${e + 1}` })),
      }),
    );
    const all = rules(given, { localhostNodePorts: true });
    const count = (prefix: string) =>
      [...all]
        .filter(([chain]) => chain.startsWith(`${prefix}/KUBE-`))
        .reduce((sum, [, lines]) => sum + lines.length, 0);
    expect(count("filter")).toBe(filter);
    expect(count("nat")).toBe(nat);
  });
});

describe("a ClusterIP", () => {
  const svc = (count: number, spec: ServiceSpec = {}): Given => ({
    name: "shop/cart",
    spec: { clusterIP: "10.96.0.9", ports: p80, ...spec },
    endpoints: Array.from({ length: count }, (_, at) => ({
      ip: `10.180.0.${at + 1}`,
      node: at === 0 ? node : "node-2",
    })),
  });
  const chain = `nat/KUBE-SVC-${servicePortHash("shop/cart:p80", "TCP")}`;
  const localChain = chain.replace("SVC", "SVL");

  test("gives each of three endpoints a third: 1/3, then 1/2 of what is left, then the rest", () => {
    const shares = rules([svc(3)])
      .get(chain)!
      .map((line) => /--probability (\S+)/.exec(line)?.[1]);
    expect(shares).toEqual([undefined, "0.33333333349", "0.50000000000", undefined]);
    expect(probability(3)).toBe("0.33333333349");
  });

  test("without endpoints refuses, and under policy Local without a local one drops", () => {
    expect(rules([svc(0)]).get("filter/KUBE-SERVICES")).toEqual([
      '-d 10.96.0.9/32 -p tcp -m comment --comment "shop/cart:p80 has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable',
    ]);
    const elsewhere = {
      ...svc(0, { internalTrafficPolicy: "Local" }),
      endpoints: [{ ip: "10.180.0.9", node: "node-2" }],
    };
    expect(rules([elsewhere]).get("filter/KUBE-SERVICES")).toEqual([
      '-d 10.96.0.9/32 -p tcp -m comment --comment "shop/cart:p80 has no local endpoints" -m tcp --dport 80 -j DROP',
    ]);
  });

  test("under policy Local goes to this node's endpoints only", () => {
    const all = rules([svc(3, { internalTrafficPolicy: "Local" })]);
    expect(all.has(chain)).toBe(false);
    expect(all.get(localChain)).toHaveLength(2);
    expect(all.get("nat/KUBE-SERVICES")?.[0]).toEndWith(`-j ${localChain.slice(4)}`);
  });

  test("is masqueraded for others than pods, for all, or for none", () => {
    const first = (options: Partial<IptablesOptions>) => rules([svc(1)], options).get(chain)?.[0];
    expect(first({})).toStartWith("! -s 10.0.0.0/8 -d 10.96.0.9/32 -p tcp");
    expect(first({ localDetector: { kind: "prefix", prefix: "fl-" } })).toStartWith("-d 10.96.0.9/32 ! -i fl-+ -p tcp");
    expect(first({ masqueradeAll: true })).toStartWith("-d 10.96.0.9/32 -p tcp");
    expect(first({ localDetector: undefined })).toContain("->");
  });

  test("of IPv6 is left to the other family's rules, and rendered there with its own texts", () => {
    const six: Given = {
      name: "shop/six",
      spec: { clusterIP: "fd00:96::9", ports: p80 },
      endpoints: [{ ip: "fd00::1" }],
    };
    expect(rules([six]).get("nat/KUBE-SERVICES")).toHaveLength(1);
    const all = rules([six], { family: 6, localDetector: { kind: "cidr", cidr: "fd00::/64" } });
    expect(all.get("nat/KUBE-SERVICES")?.[0]).toStartWith("-d fd00:96::9/128 -p tcp");
    expect([...all.values()].flat().some((line) => line.endsWith("--to-destination [fd00::1]:80"))).toBe(true);
  });
});

describe("external traffic", () => {
  const balancer = (spec: ServiceSpec, nodes: readonly string[] = [node]): Given => ({
    name: "shop/web",
    spec: { type: "LoadBalancer", clusterIP: "10.96.0.8", ports: [{ ...p80[0], nodePort: 30_090 }], ...spec },
    ingress: "10.97.0.1",
    endpoints: nodes.map((one, at) => ({ ip: `10.180.0.${at + 1}`, node: one })),
  });
  const hash = servicePortHash("shop/web:p80", "TCP");

  test("under policy Local keeps its source, and drops where nothing is local", () => {
    const local = rules([balancer({ externalTrafficPolicy: "Local" })]);
    expect(local.get(`nat/KUBE-EXT-${hash}`)?.at(-1)).toBe(`-j KUBE-SVL-${hash}`);
    expect(local.get("filter/KUBE-EXTERNAL-SERVICES")).toEqual([]);
    const elsewhere = rules([balancer({ externalTrafficPolicy: "Local" }, ["node-2"])]);
    expect(elsewhere.get(`nat/KUBE-EXT-${hash}`)?.at(-1)).toEndWith(`-j KUBE-SVC-${hash}`);
    expect(elsewhere.get("filter/KUBE-EXTERNAL-SERVICES")).toHaveLength(2);
  });

  test("from source ranges is admitted, also the node's own where a range contains it", () => {
    const all = rules([balancer({ loadBalancerSourceRanges: ["192.0.2.0/24", "203.0.113.0/25"] })], {
      nodeAddress: "192.0.2.7",
    });
    expect(all.get(`nat/KUBE-FW-${hash}`)).toEqual([
      `-s 192.0.2.0/24 -m comment --comment "shop/web:p80 loadbalancer IP" -j KUBE-EXT-${hash}`,
      `-s 203.0.113.0/25 -m comment --comment "shop/web:p80 loadbalancer IP" -j KUBE-EXT-${hash}`,
      `-s 10.97.0.1/32 -m comment --comment "shop/web:p80 loadbalancer IP" -j KUBE-EXT-${hash}`,
      '-m comment --comment "other traffic to shop/web:p80 will be dropped by KUBE-PROXY-FIREWALL"',
    ]);
  });

  test("is not restricted by ranges that have everything among them", () => {
    const all = rules([balancer({ loadBalancerSourceRanges: ["192.0.2.0/24", "0.0.0.0/0"] })]);
    expect(all.has(`nat/KUBE-FW-${hash}`)).toBe(false);
  });

  test("to a node port without endpoints is refused", () => {
    expect(
      rules([balancer({}, [])])
        .get("filter/KUBE-EXTERNAL-SERVICES")
        ?.at(-1),
    ).toBe(
      '-p tcp -m comment --comment "shop/web:p80 has no endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 30090 -j REJECT --reject-with icmp-port-unreachable',
    );
  });

  test("to node ports can be limited to some of the node's addresses", () => {
    const all = rules([], { nodePortAddresses: ["192.0.2.7"] });
    expect(all.get("nat/KUBE-SERVICES")).toHaveLength(1);
    expect(all.get("nat/KUBE-SERVICES")?.[0]).toStartWith("-d 192.0.2.7/32 -m comment");
  });
});
