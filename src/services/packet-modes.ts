// In what the backends differ for one packet: data for `packet.ts`, so that one walk explains all of them. Names of chains and
// map elements are the backends' own; whoever knows them answers `RuleNames`.

import type { ServicePort, TableEndpoint } from "./service-table.ts";

export type PacketMode = "iptables" | "nftables" | "ipvs" | "userspace";

/** What of a Service port an address and port can be. */
export type DestinationKind = "clusterIP" | "externalIP" | "loadBalancerIP" | "nodePort";

export interface Destination {
  readonly kind: DestinationKind;
  readonly address: string;
  readonly port: number;
}

/** How a backend names what a packet passes, as its own listing shows it. */
export interface RuleNames {
  /** Where the destination is found: `nat KUBE-SERVICES`. */
  lookup(row: ServicePort, destination: Destination): string;
  /** Where source ranges are checked. */
  firewall(row: ServicePort): string;
  /** Where traffic from outside is told from other traffic. */
  external(row: ServicePort): string;
  /** Where an endpoint is picked. */
  balance(row: ServicePort, policy: "Cluster" | "Local"): string;
  endpoint(row: ServicePort, endpoint: TableEndpoint): string;
  /** Where sources are masqueraded. */
  readonly masquerade: string;
  /** Where the packet is refused or dropped. */
  refusal(row: ServicePort, destination: Destination, why: "endpoints" | "ranges"): string;
  /** Where packets to unknown ports of Service addresses are refused; only where the mode does that. */
  readonly unknown: string;
}

/** A hook of the kernel that a packet passes; a node's packet to itself passes `output` and `input`. */
export type Hook = "input" | "forward" | "output";

export interface ModeSemantics {
  /** Hooks at which packets to Service ports without endpoints are refused. Elsewhere they go on unchanged. */
  readonly refusedAt: Readonly<Record<"clusterIP" | "outside" | "nodePort", readonly Hook[]>>;
  /** Whether a node port that cannot serve refuses on addresses where node ports do not answer, too. */
  readonly refusesOnAllAddresses: boolean;
  /** Under an external policy Local, packets of pods and of the node itself may go to endpoints of all nodes. */
  readonly shortCircuits: boolean;
  /** What happens when policy Local finds no endpoint on this node and others have some. */
  readonly withoutLocal: "drop" | "reject" | "all nodes";
  /** Whether the source of a packet that comes back to where it came from is masqueraded for endpoints of other nodes, too. */
  readonly hairpinElsewhere: boolean;
  /** `first`: also for a port without endpoints, before anything else; `with endpoints`: only when there are any. */
  readonly checksSourceRanges: "first" | "with endpoints";
  /** What becomes of a source that no range admits. */
  readonly outsideRanges: "drop" | "reject";
  /** What happens to a known cluster IP's port that no Service has, and to addresses of the service range that none has. */
  readonly unknownPort: "pass" | "reject";
  readonly unknownAddress: "pass" | "drop";
  /** What happens to a port that no Service has of an external or load-balancer address, unless the node has the address itself. */
  readonly unknownOutsidePort: "pass" | "reject";
  /** The node has Services' outside addresses itself, and sends to one of them from that address. */
  readonly sendsFromServices: boolean;
  /** A process relays the bytes: endpoints see its address, never the client's. */
  readonly relays: boolean;
  readonly carriesSctp: boolean;
}

const everywhere: readonly Hook[] = ["input", "forward", "output"];

export const modeSemantics: Readonly<Record<PacketMode, ModeSemantics>> = {
  // KUBE-SERVICES of table filter hangs on FORWARD and OUTPUT, KUBE-EXTERNAL-SERVICES on INPUT and FORWARD, and asks of a node
  // port only whether the address is the node's.
  iptables: {
    refusedAt: { clusterIP: ["forward", "output"], outside: ["input", "forward"], nodePort: ["input", "forward"] },
    refusesOnAllAddresses: true,
    shortCircuits: true,
    withoutLocal: "drop",
    hairpinElsewhere: true,
    checksSourceRanges: "with endpoints",
    outsideRanges: "drop",
    unknownPort: "pass",
    unknownAddress: "pass",
    sendsFromServices: false,
    unknownOutsidePort: "pass",
    relays: false,
    carriesSctp: true,
  },
  nftables: {
    refusedAt: { clusterIP: everywhere, outside: everywhere, nodePort: ["input"] },
    refusesOnAllAddresses: false,
    shortCircuits: true,
    withoutLocal: "drop",
    hairpinElsewhere: false,
    checksSourceRanges: "first",
    outsideRanges: "drop",
    unknownPort: "reject",
    unknownAddress: "drop",
    sendsFromServices: false,
    unknownOutsidePort: "pass",
    relays: false,
    carriesSctp: true,
  },
  // A virtual server without real servers answers "unreachable"; policy Local without local endpoints uses all (pull 97081).
  ipvs: {
    refusedAt: { clusterIP: everywhere, outside: everywhere, nodePort: everywhere },
    refusesOnAllAddresses: false,
    shortCircuits: false,
    withoutLocal: "all nodes",
    hairpinElsewhere: false,
    checksSourceRanges: "first",
    outsideRanges: "drop",
    unknownPort: "reject",
    unknownAddress: "pass",
    sendsFromServices: true,
    unknownOutsidePort: "reject",
    relays: false,
    carriesSctp: true,
  },
  // A port without endpoints has no listener; who is not admitted is connected and reset.
  userspace: {
    refusedAt: { clusterIP: everywhere, outside: everywhere, nodePort: everywhere },
    refusesOnAllAddresses: false,
    shortCircuits: false,
    withoutLocal: "reject",
    hairpinElsewhere: true,
    checksSourceRanges: "with endpoints",
    outsideRanges: "reject",
    unknownPort: "pass",
    unknownAddress: "pass",
    sendsFromServices: false,
    unknownOutsidePort: "pass",
    relays: true,
    carriesSctp: false,
  },
};
