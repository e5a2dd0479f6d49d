// Why a packet is no Service's: what its destination is instead, so that a person sees what is wrong with it.

import type { ModeSemantics } from "./packet-modes.ts";
import { type Packet, type PacketNode, type PacketOptions, rangeWith, takesNodePorts } from "./packet-place.ts";
import type { ServicePort, ServiceTable } from "./service-table.ts";

export interface StrangerContext {
  readonly isLocal: (address: string) => boolean;
  readonly table: ServiceTable;
  readonly node: PacketNode;
  readonly options: PacketOptions;
  readonly semantics: ModeSemantics;
}

export interface Stranger {
  readonly outcome: "pass" | "reject" | "drop";
  readonly reason: string;
}

export function strangerReason(packet: Packet, context: StrangerContext): Stranger {
  const { table, node, options, semantics, isLocal } = context;
  const { address, port } = packet.destination;
  const wanted = `${port}/${packet.protocol}`;
  const pass = (reason: string): Stranger => ({ outcome: "pass", reason });
  if (packet.protocol === "SCTP" && !semantics.carriesSctp) return pass(`mode ${options.mode} carries no SCTP`);

  const rows = [...table.values()];
  const owners = rows.filter((row) => row.clusterIP === address);
  if (owners.length > 0) {
    const reason = `${address} is the cluster IP of Service ${nameOf(owners)}, which has no port ${wanted} (it has ${portsOf(owners)})`;
    return { outcome: semantics.unknownPort, reason };
  }
  const outside = rows.filter((row) => row.externalIPs.includes(address) || row.loadBalancerIPs.includes(address));
  if (outside.length > 0) {
    const reason = `${address} leads to Service ${nameOf(outside)}, which has no port ${wanted} (it has ${portsOf(outside)})`;
    return { outcome: node.addresses.includes(address) ? "pass" : semantics.unknownOutsidePort, reason };
  }
  if (isLocal(address)) {
    const row = rows.find((one) => one.nodePort === port);
    if (row && row.protocol !== packet.protocol)
      return pass(`${port} is a node port of ${row.name} for ${row.protocol} only`);
    if (row && row.family === familyOf(address) && !takesNodePorts(address, { isLocal }, options)) {
      return pass(`${port} is a node port of ${row.name}, but node ports do not answer on ${address} here`);
    }
    return pass(`${address} is ${node.name}'s own, and no Service has the node port ${wanted}`);
  }
  const other = options.nodeAt?.(address);
  if (other !== undefined)
    return pass(`${address} leads to ${other}, whose rules decide there: ask with --node ${other}`);
  if (rangeWith(options.podRanges ?? [], address)) return pass(`${address} is a pod's own address`);
  const range = rangeWith(options.serviceRanges ?? [], address);
  if (range) {
    const reason = `no Service has the address ${address} of the service range ${range}`;
    return { outcome: semantics.unknownAddress, reason };
  }
  return pass(`${address} is no address of a Service`);
}

function familyOf(address: string): 4 | 6 {
  return address.includes(":") ? 6 : 4;
}

function nameOf(rows: readonly ServicePort[]): string {
  return [...new Set(rows.map((row) => `${row.namespace}/${row.service}`))].join(", ");
}

function portsOf(rows: readonly ServicePort[]): string {
  return rows.map((row) => `${row.port}/${row.protocol}`).join(", ");
}
