// Names of kube-proxy's ipvs mode (pkg/proxy/ipvs/ipset.go, proxier.go ipsetInfo; 1.36): the sets with their types and the
// words of their rules, the device that has the Services' addresses, and how a virtual server is written.

import type { IpFamily } from "../../base/ip.ts";
import type { Protocol } from "../../services/objects.ts";
import { endpointText } from "../../services/service-table.ts";

/** The device whose addresses make packets to Services local, so that IPVS sees them on the way in. It stays down. */
export const device = "kube-ipvs0";

export const schedulers = ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq", "mh"] as const;
export type Scheduler = (typeof schedulers)[number];

export type SetType = "hash:ip" | "hash:ip,port" | "hash:ip,port,ip" | "hash:ip,port,net" | "bitmap:port";

export interface SetKind {
  readonly type: SetType;
  /** The comment of the rules that match the set. */
  readonly comment: string;
  /** Its entries keep traffic from being masqueraded: they come last and go first, or a remote endpoint could not answer. */
  readonly keepsSource?: true;
}

/** All sets, by the IPv4 name; in IPv6 they are named `setName(name, 6)`. */
export const sets = {
  "KUBE-LOOP-BACK": {
    type: "hash:ip,port,ip",
    comment: "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
  },
  "KUBE-CLUSTER-IP": {
    type: "hash:ip,port",
    comment: "Kubernetes service cluster ip + port for masquerade purpose",
  },
  "KUBE-EXTERNAL-IP": {
    type: "hash:ip,port",
    comment: "Kubernetes service external ip + port for masquerade and filter purpose",
  },
  "KUBE-EXTERNAL-IP-LOCAL": {
    type: "hash:ip,port",
    comment: "Kubernetes service external ip + port with externalTrafficPolicy=local",
    keepsSource: true,
  },
  "KUBE-LOAD-BALANCER": { type: "hash:ip,port", comment: "Kubernetes service lb portal" },
  "KUBE-LOAD-BALANCER-FW": {
    type: "hash:ip,port",
    comment: "Kubernetes service load balancer ip + port for load balancer with sourceRange",
  },
  "KUBE-LOAD-BALANCER-LOCAL": {
    type: "hash:ip,port",
    comment: "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
    keepsSource: true,
  },
  "KUBE-LOAD-BALANCER-SOURCE-IP": {
    type: "hash:ip,port,ip",
    comment: "Kubernetes service load balancer ip + port + source IP for packet filter purpose",
  },
  "KUBE-LOAD-BALANCER-SOURCE-CIDR": {
    type: "hash:ip,port,net",
    comment: "Kubernetes service load balancer ip + port + source cidr for packet filter purpose",
  },
  "KUBE-NODE-PORT-TCP": { type: "bitmap:port", comment: "Kubernetes nodeport TCP port for masquerade purpose" },
  "KUBE-NODE-PORT-LOCAL-TCP": {
    type: "bitmap:port",
    comment: "Kubernetes nodeport TCP port with externalTrafficPolicy=local",
    keepsSource: true,
  },
  "KUBE-NODE-PORT-UDP": { type: "bitmap:port", comment: "Kubernetes nodeport UDP port for masquerade purpose" },
  "KUBE-NODE-PORT-LOCAL-UDP": {
    type: "bitmap:port",
    comment: "Kubernetes nodeport UDP port with externalTrafficPolicy=local",
    keepsSource: true,
  },
  "KUBE-NODE-PORT-SCTP-HASH": {
    type: "hash:ip,port",
    comment: "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'",
  },
  "KUBE-NODE-PORT-LOCAL-SCTP-HASH": {
    type: "hash:ip,port",
    comment: "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
    keepsSource: true,
  },
  "KUBE-HEALTH-CHECK-NODE-PORT": { type: "bitmap:port", comment: "Kubernetes health check node port" },
  "KUBE-IPVS-IPS": { type: "hash:ip", comment: "Virtual IPs" },
} as const satisfies Record<string, SetKind>;

export type SetId = keyof typeof sets;
export const setIds = Object.keys(sets) as SetId[];

/** The kernel's limit on a set's name, without the closing zero. */
const longestSetName = 31;

/** The name of a set in a family: `KUBE-CLUSTER-IP`, `KUBE-6-CLUSTER-IP`; cut at 31 characters, as upstream's are. */
export function setName(id: SetId, family: IpFamily): string {
  return family === 4 ? id : id.replace("KUBE-", "KUBE-6-").slice(0, longestSetName);
}

/** What a set is made with, as far as it matters: `hash:ip,port family inet maxelem 65536`. */
export function setHeader(id: SetId, family: IpFamily): string {
  const { type } = sets[id];
  if (type === "bitmap:port") return `${type} range 0-65535`;
  return `${type} family ${family === 4 ? "inet" : "inet6"} maxelem 65536`;
}

const serviceFlags: Readonly<Record<Protocol, string>> = { TCP: "-t", UDP: "-u", SCTP: "--sctp-service" };

/** A virtual server in the words of ipvsadm: `-t 10.96.0.1:80`. */
export function virtualServer(protocol: Protocol, address: string, port: number): string {
  return `${serviceFlags[protocol]} ${endpointText({ address, port })}`;
}
