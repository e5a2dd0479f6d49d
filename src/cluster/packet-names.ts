// How each backend names what a packet passes, for `explain --packet`: the same functions that its rules are rendered with.

import { endpointChain, servicePortHash } from "../node/iptables/names.ts";
import { endpointName, portName } from "../node/nftables/names.ts";
import type { Destination, PacketMode, RuleNames } from "../services/packet-modes.ts";
import { endpointText, type ServicePort } from "../services/service-table.ts";

export function ruleNames(mode: PacketMode): RuleNames {
  return names[mode];
}

const chainOf = (prefix: string, row: ServicePort) => `nat ${prefix}-${servicePortHash(row.name, row.protocol)}`;

const iptablesNames: RuleNames = {
  lookup: (_, { kind }) => (kind === "nodePort" ? "nat KUBE-NODEPORTS" : "nat KUBE-SERVICES"),
  firewall: (row) => chainOf("KUBE-FW", row),
  external: (row) => chainOf("KUBE-EXT", row),
  balance: (row, policy) => chainOf(policy === "Local" ? "KUBE-SVL" : "KUBE-SVC", row),
  endpoint: (row, endpoint) => `nat ${endpointChain(row.name, row.protocol, endpoint)}`,
  masquerade: "nat KUBE-POSTROUTING",
  refusal(_, { kind }, why) {
    if (why === "ranges") return "filter KUBE-PROXY-FIREWALL";
    return kind === "clusterIP" ? "filter KUBE-SERVICES" : "filter KUBE-EXTERNAL-SERVICES";
  },
  unknown: "nat KUBE-SERVICES",
};

const userspaceNames: RuleNames = {
  lookup: (_, { address, port }) => `listener ${address}:${port}`,
  firewall: (row) => `listener of ${row.name}`,
  external: (row) => `listener of ${row.name}`,
  balance: (row, policy) => `endpoints of ${row.name}, policy ${policy}`,
  endpoint: (_, { address, port }) => `connection to ${address}:${port}`,
  masquerade: "relay",
  refusal: (_, { address, port }) => `no listener on ${address}:${port}`,
  unknown: "no listener",
};

const elementOf = (row: ServicePort, { kind, address, port }: Destination) => {
  const protocol = row.protocol.toLowerCase();
  return kind === "nodePort" ? `{ ${protocol} . ${port} }` : `{ ${address} . ${protocol} . ${port} }`;
};

const nftablesNames: RuleNames = {
  lookup: (row, to) => `map ${to.kind === "nodePort" ? "service-nodeports" : "service-ips"} ${elementOf(row, to)}`,
  firewall: (row) => `chain firewall-${portName(row)}`,
  external: (row) => `chain external-${portName(row)}`,
  balance: (row, policy) => `chain ${policy === "Local" ? "local" : "service"}-${portName(row)}`,
  endpoint: (row, endpoint) =>
    row.affinitySeconds === undefined ? "dnat" : `chain endpoint-${endpointName(row, endpoint)}`,
  masquerade: "chain masquerading",
  refusal(row, to, why) {
    if (why === "ranges") return `chain firewall-${portName(row)}`;
    return `map ${to.kind === "nodePort" ? "no-endpoint-nodeports" : "no-endpoint-services"} ${elementOf(row, to)}`;
  },
  unknown: "chain cluster-ips-check",
};

const serverOf = (row: ServicePort, { address, port }: Destination) =>
  `virtual server ${row.protocol} ${endpointText({ address, port })}`;

const ipvsNames: RuleNames = {
  lookup: serverOf,
  firewall: () => "filter KUBE-SOURCE-RANGES-FIREWALL",
  external: () => "nat KUBE-SERVICES",
  balance: (row, policy) => `real servers of ${row.name}, policy ${policy}`,
  endpoint: (_, endpoint) => `real server ${endpointText(endpoint)}`,
  masquerade: "nat KUBE-POSTROUTING",
  refusal: (row, to, why) => (why === "ranges" ? "filter KUBE-SOURCE-RANGES-FIREWALL" : serverOf(row, to)),
  unknown: "filter KUBE-IPVS-FILTER",
};

const names: Readonly<Record<PacketMode, RuleNames>> = {
  iptables: iptablesNames,
  nftables: nftablesNames,
  ipvs: ipvsNames,
  userspace: userspaceNames,
};
