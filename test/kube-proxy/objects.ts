// Services, EndpointSlices and a Node that lead through every branch of what kube-proxy decides: each type with each pair of
// policies and each situation of its endpoints, and one Service for every further field. As an API server has them: addresses,
// ports and statuses are filled in. What kube-proxy 1.36 writes for them is in `recorded/`.

import type { KubeObject } from "../../src/api/object.ts";

/** The node whose rules are compared. */
export const node = { name: "node-1", zone: "a", addresses: ["192.168.0.2", "fd00:192::2"] } as const;

/** The pods' ranges: local traffic, where it is detected by range. */
export const clusterCidrs = ["10.180.0.0/16", "fd00:180::/48"] as const;
export const serviceCidrs = ["172.30.0.0/16", "fd00:172::/112"] as const;

interface Endpoint {
  /** The last group of its address. */
  readonly n: number;
  readonly node?: string;
  readonly zone?: string;
  readonly ready?: boolean;
  readonly serving?: boolean;
  readonly terminating?: boolean;
  readonly forZones?: readonly string[];
  readonly forNodes?: readonly string[];
}

const local = (n: number, more: Partial<Endpoint> = {}): Endpoint => ({ n, node: "node-1", zone: "a", ...more });
const remote = (n: number, more: Partial<Endpoint> = {}): Endpoint => ({ n, node: "node-2", zone: "b", ...more });
const ending = { ready: false, serving: true, terminating: true } as const;
const gone = { ready: false, serving: false, terminating: true } as const;

/** Situations of a Service's endpoints. */
const situations: Readonly<Record<string, readonly Endpoint[]>> = {
  none: [],
  remote: [remote(1), remote(2)],
  local: [local(1)],
  both: [local(1), remote(2), remote(3)],
  unready: [local(1, { ready: false, serving: false }), remote(2, { ready: false, serving: false })],
  "local-unready": [local(1, { ready: false, serving: false }), remote(2)],
  ending: [local(1, ending), remote(2, ending), remote(3, gone)],
  "local-ending": [local(1, ending), remote(2)],
  "zone-hints": [local(1, { forZones: ["a"] }), remote(2, { forZones: ["b"] }), remote(3, { forZones: ["a"] })],
  "zone-hints-elsewhere": [local(1, { forZones: ["c"] }), remote(2, { forZones: ["b"] })],
  "zone-hints-some": [local(1, { forZones: ["a"] }), remote(2)],
  "node-hints": [local(1, { forNodes: ["node-1"] }), remote(2, { forNodes: ["node-2"] })],
  "node-hints-elsewhere": [remote(1, { forNodes: ["node-3"], forZones: ["a"] }), remote(2, { forNodes: ["node-2"] })],
};

interface ServiceCase {
  readonly name: string;
  readonly family: 4 | 6;
  readonly spec?: Record<string, unknown>;
  readonly status?: Record<string, unknown>;
  readonly labels?: Record<string, string>;
  readonly sliceLabels?: Record<string, string>;
  /** One list a slice. */
  readonly slices?: readonly (readonly Endpoint[])[];
  readonly ports?: readonly Port[];
}

interface Port {
  readonly name?: string;
  readonly protocol?: "TCP" | "UDP" | "SCTP";
  readonly port: number;
  /** What the slices say; the Service's port plus 8000 unless given. */
  readonly target?: number;
}

/** Numbers Services, and with them their addresses and node ports. */
let number = 0;

function objectsOf(given: ServiceCase): KubeObject[] {
  const n = ++number;
  const {
    name,
    family,
    spec = {},
    status,
    labels,
    sliceLabels,
    slices = [],
    ports = [{ name: "p80", port: 80 }],
  } = given;
  const namespace = `ns${(n % 3) + 1}`;
  const address = family === 4 ? `172.30.${n >> 8}.${n & 255}` : `fd00:172::${n.toString(16)}`;
  const exposed = spec["type"] === "NodePort" || spec["type"] === "LoadBalancer";
  const allocates = exposed && spec["allocateLoadBalancerNodePorts"] !== false;
  const service: KubeObject = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace, ...(labels ? { labels } : {}) },
    spec: {
      type: "ClusterIP",
      clusterIP: address,
      clusterIPs: [spec["clusterIP"] ?? address],
      ipFamilies: [family === 4 ? "IPv4" : "IPv6"],
      ipFamilyPolicy: "SingleStack",
      sessionAffinity: "None",
      internalTrafficPolicy: "Cluster",
      ...(exposed || spec["externalIPs"] ? { externalTrafficPolicy: "Cluster" } : {}),
      ...(spec["type"] === "LoadBalancer" && spec["externalTrafficPolicy"] === "Local"
        ? { healthCheckNodePort: 32_000 + n }
        : {}),
      ports: ports.map(({ name: port, protocol = "TCP", port: at, target = at + 8000 }, index) => ({
        ...(port === undefined ? {} : { name: port }),
        protocol,
        port: at,
        targetPort: target,
        ...(allocates ? { nodePort: 30_000 + 4 * n + index } : {}),
      })),
      ...spec,
    },
    status: {
      loadBalancer: spec["type"] === "LoadBalancer" ? { ingress: [{ ip: external(family, n), ipMode: "VIP" }] } : {},
      ...status,
    },
  };
  const made = slices.map(
    (endpoints, at): KubeObject => ({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: {
        name: `${name}-${at + 1}`,
        namespace,
        labels: { "kubernetes.io/service-name": name, ...sliceLabels },
      },
      addressType: family === 4 ? "IPv4" : "IPv6",
      ports: ports.map(({ name: port = "", protocol = "TCP", port: number, target = number + 8000 }) => ({
        name: port,
        protocol,
        port: target,
      })),
      endpoints: endpoints.map((one) => ({
        addresses: [
          family === 4 ? `10.180.${n & 255}.${one.n}` : `fd00:180:0:${n.toString(16)}::${one.n.toString(16)}`,
        ],
        conditions: {
          ready: one.ready ?? true,
          serving: one.serving ?? one.ready ?? true,
          terminating: one.terminating ?? false,
        },
        ...(one.node ? { nodeName: one.node } : {}),
        ...(one.zone ? { zone: one.zone } : {}),
        ...(one.forZones || one.forNodes
          ? {
              hints: {
                ...(one.forZones ? { forZones: one.forZones.map((zone) => ({ name: zone })) } : {}),
                ...(one.forNodes ? { forNodes: one.forNodes.map((name) => ({ name })) } : {}),
              },
            }
          : {}),
      })),
    }),
  );
  return [service, ...made];
}

function external(family: 4 | 6, n: number): string {
  return family === 4 ? `198.51.100.${n & 255}` : `2001:db8:100::${n.toString(16)}`;
}

/** Every type with every pair of policies in every situation. */
function grid(family: 4 | 6, names: readonly string[]): ServiceCase[] {
  const policies = ["Cluster", "Local"];
  return names.flatMap((situation) =>
    ["ClusterIP", "NodePort", "LoadBalancer"].flatMap((type) =>
      policies.flatMap((internalTrafficPolicy) =>
        (type === "ClusterIP" ? ["Cluster"] : policies).map((externalTrafficPolicy): ServiceCase => {
          const short = `${internalTrafficPolicy[0]}${externalTrafficPolicy[0]}`.toLowerCase();
          return {
            name: `${type.toLowerCase()}-${short}-${situation}-v${family}`,
            family,
            spec: {
              type,
              internalTrafficPolicy,
              ...(type === "ClusterIP" ? {} : { externalTrafficPolicy }),
            },
            slices: [situations[situation]!],
          };
        }),
      ),
    ),
  );
}

const both = situations["both"]!;
const clientIp = (timeoutSeconds: number) => ({
  sessionAffinity: "ClientIP",
  sessionAffinityConfig: { clientIP: { timeoutSeconds } },
});
const balancer = { type: "LoadBalancer" } as const;

/** One Service for each further field, in both families. */
function fields(family: 4 | 6): ServiceCase[] {
  // Each Service has its own: of two that claim one address, kube-proxy serves whichever comes first.
  let used = 0;
  const address = (of: 4 | 6) => (of === 4 ? `203.0.113.${++used}` : `2001:db8:113::${(++used).toString(16)}`);
  const outside = (count = 1) => Array.from({ length: count }, () => address(family));
  const other = () => address(family === 4 ? 6 : 4);
  const range = family === 4 ? "203.0.113.0/25" : "2001:db8:113::/64";
  const nodes = family === 4 ? "192.168.0.0/24" : "fd00:192::/64";
  const everything = family === 4 ? "0.0.0.0/0" : "::/0";
  const otherRange = family === 4 ? "2001:db8::/32" : "203.0.113.0/24";
  const ips = (...list: object[]) => ({ loadBalancer: { ingress: list } });
  const list: Omit<ServiceCase, "family">[] = [
    { name: "affinity", spec: clientIp(10_800), slices: [both] },
    { name: "affinity-short", spec: { ...clientIp(30), ...balancer }, slices: [both] },
    {
      name: "affinity-local",
      spec: { ...clientIp(600), ...balancer, externalTrafficPolicy: "Local", internalTrafficPolicy: "Local" },
      slices: [both],
    },
    { name: "affinity-none", spec: clientIp(600), slices: [[]] },
    { name: "external", spec: { externalIPs: outside(2) }, slices: [both] },
    { name: "external-none", spec: { externalIPs: outside() }, slices: [[]] },
    { name: "external-mixed", spec: { externalIPs: [...outside(), other()] }, slices: [both] },
    { name: "external-local", spec: { externalIPs: outside(), externalTrafficPolicy: "Local" }, slices: [both] },
    {
      name: "external-local-none",
      spec: { externalIPs: outside(), externalTrafficPolicy: "Local" },
      slices: [situations["remote"]!],
    },
    { name: "ranges", spec: { ...balancer, loadBalancerSourceRanges: [range] }, slices: [both] },
    { name: "ranges-node", spec: { ...balancer, loadBalancerSourceRanges: [range, nodes] }, slices: [both] },
    { name: "ranges-all", spec: { ...balancer, loadBalancerSourceRanges: [everything] }, slices: [both] },
    { name: "ranges-also-all", spec: { ...balancer, loadBalancerSourceRanges: [range, everything] }, slices: [both] },
    { name: "ranges-other", spec: { ...balancer, loadBalancerSourceRanges: [otherRange] }, slices: [both] },
    { name: "ranges-spaces", spec: { ...balancer, loadBalancerSourceRanges: [` ${range} `] }, slices: [both] },
    { name: "ranges-none", spec: { ...balancer, loadBalancerSourceRanges: [range] }, slices: [[]] },
    {
      name: "ranges-local",
      spec: { ...balancer, externalTrafficPolicy: "Local", loadBalancerSourceRanges: [range] },
      slices: [both],
    },
    {
      name: "ranges-local-none",
      spec: { ...balancer, externalTrafficPolicy: "Local", loadBalancerSourceRanges: [range] },
      slices: [situations["remote"]!],
    },
    { name: "no-node-ports", spec: { ...balancer, allocateLoadBalancerNodePorts: false }, slices: [both] },
    {
      name: "ingress-proxy",
      spec: balancer,
      status: ips({ ip: external(family, 250), ipMode: "Proxy" }, { ip: external(family, 251) }),
      slices: [both],
    },
    {
      name: "ingress-many",
      spec: balancer,
      status: ips(
        { ip: external(family, 252) },
        { ip: external(family, 253) },
        { ip: other() },
        { hostname: "lb.test" },
      ),
      slices: [both],
    },
    { name: "ingress-name", spec: balancer, status: ips({ hostname: "lb.test" }), slices: [both] },
    { name: "ingress-none", spec: balancer, status: { loadBalancer: {} }, slices: [both] },
    { name: "unnamed", ports: [{ port: 81 }], slices: [both] },
    {
      name: "many-ports",
      ports: [
        { name: "http", port: 80 },
        { name: "https", port: 443 },
        { name: "dns", port: 53, protocol: "UDP" },
        { name: "dns-tcp", port: 53 },
      ],
      spec: { type: "NodePort" },
      slices: [both],
    },
    {
      name: "sctp",
      ports: [{ name: "sig", port: 2905, protocol: "SCTP" }],
      spec: { ...balancer, ...clientIp(60) },
      slices: [both],
    },
    { name: "udp-none", ports: [{ name: "u", port: 53, protocol: "UDP" }], spec: { type: "NodePort" }, slices: [[]] },
    { name: "slices", slices: [[local(1), remote(2)], [remote(3)], [], [remote(20), remote(19)]] },
    {
      name: "slices-double",
      slices: [
        [local(1), remote(2)],
        [remote(2, ending), local(1)],
      ],
    },
    { name: "slices-double-ending", slices: [[remote(2, ending)], [remote(2), local(1)]] },
    { name: "no-slice" },
    { name: "ten", slices: [Array.from({ length: 10 }, (_, at) => (at < 3 ? local(at + 1) : remote(at + 1)))] },
    { name: "headless", spec: { clusterIP: "None" }, slices: [both] },
    {
      name: "labelled-headless",
      labels: { "service.kubernetes.io/headless": "" },
      slices: [both],
    },
    { name: "slices-headless", slices: [both], sliceLabels: { "service.kubernetes.io/headless": "" } },
    { name: "other-proxy", labels: { "service.kubernetes.io/service-proxy-name": "other" }, slices: [both] },
    { name: "no-node", slices: [[{ n: 1 }, { n: 2 }]] },
    { name: "to-node", spec: { type: "NodePort", externalTrafficPolicy: "Local" }, slices: [[{ n: 1 }]] },
  ];
  return list.map((one) => ({ ...one, name: `${one.name}-v${family}`, family }));
}

/** A Service of more endpoints than kube-proxy writes comments for. */
export function largeService(): KubeObject[] {
  number = 900;
  const part = (slice: number) => Array.from({ length: 250 }, (_, at) => remote(slice * 250 + at));
  const objects = objectsOf({ name: "large", family: 4, slices: [part(0), part(1), part(2), part(3), part(4)] });
  // More addresses than one group of four has.
  for (const slice of objects.slice(1)) {
    (slice["endpoints"] as { addresses: string[] }[]).forEach((endpoint) => {
      const n = Number(endpoint.addresses[0]!.split(".")[3]);
      endpoint.addresses = [`10.180.${200 + (n >> 8)}.${n & 255}`];
    });
  }
  return objects;
}

function cluster(): KubeObject[] {
  number = 0;
  return [
    {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: node.name, labels: { "topology.kubernetes.io/zone": node.zone } },
      spec: { podCIDR: "10.180.0.0/20", podCIDRs: ["10.180.0.0/20", "fd00:180:0:1::/64"] },
      status: { addresses: node.addresses.map((address) => ({ type: "InternalIP", address })) },
    },
    {
      apiVersion: "networking.k8s.io/v1",
      kind: "ServiceCIDR",
      metadata: { name: "kubernetes" },
      spec: { cidrs: [...serviceCidrs] },
    },
  ];
}

/** Everything, in the order that it is made. */
export function objects(): KubeObject[] {
  const cases = [
    ...grid(4, Object.keys(situations)),
    ...fields(4),
    ...grid(6, ["none", "remote", "both", "ending"]),
    ...fields(6),
  ];
  return [...cluster(), ...cases.flatMap(objectsOf)];
}

/** One Service of each external policy in each family: enough to see what a flag changes. */
export function fewObjects(): KubeObject[] {
  const cases = [...grid(4, ["both"]), ...grid(6, ["both"])].filter(({ name }) =>
    /^(nodeport-cc|load.*-ll)-/.test(name),
  );
  return [...cluster(), ...cases.flatMap(objectsOf)];
}
