// Service ports as kube-proxy's nftables objects (pkg/proxy/nftables/proxier.go syncProxyRules, 1.36): pure, one row at a time.
// A row asks for pieces; those that several rows ask for (an address of `cluster-ips`) are settled in `renderer.ts`.

import { contains, parseCidr } from "../../base/cidr.ts";
import { canonicalAddress } from "../../base/ip.ts";
import {
  endpointText,
  externallyAccessible,
  type ServicePort,
  type TableEndpoint,
  usesClusterEndpoints,
  usesLocalEndpoints,
} from "../../services/service-table.ts";
import { isAddress, mergedRanges, oneOrSet } from "./addresses.ts";
import { addressType, fromPods, ipWord, type NftablesOptions, setMark, withComment } from "./fixed.ts";
import { commentOf, endpointName, portName } from "./names.ts";
import { chainPiece, elementPiece, setPiece } from "./pieces.ts";

/** What one row asks for: lines by piece. */
export type Fragment = ReadonlyMap<string, readonly string[]>;

/**
 * How an endpoint is drawn: from a map in one rule, as kube-proxy does, or by a rule for each endpoint. Both are even. The kernel
 * looks through all sets of a table to name each map that a rule has, so that many of them take long to load (`docs/services-nftables.md`).
 */
export type Draw = "maps" | "rules";

/** With more endpoints than these, a map is used in any case: a chain of rules is walked one by one. */
const mostDrawnByRules = 8;

/** The pieces of one Service port. The row's family must be the options'. */
export function renderPort(row: ServicePort, options: NftablesOptions, draw: Draw = "maps"): Fragment {
  const pieces = new Map<string, readonly string[]>();
  const protocol = row.protocol.toLowerCase();
  const name = portName(row);
  const cluster = `service-${name}`;
  const local = `local-${name}`;
  const external = `external-${name}`;
  const firewall = `firewall-${name}`;

  const { hasEndpoints } = row;
  const usesCluster = row.clusterEndpoints.length > 0 && usesClusterEndpoints(row);
  const usesLocal = row.localEndpoints.length > 0 && usesLocalEndpoints(row);
  const hasInternal = hasEndpoints && (!row.internalPolicyLocal || row.localEndpoints.length > 0);
  const hasExternal = hasEndpoints && (!row.externalPolicyLocal || row.localEndpoints.length > 0);
  const usesExternal = hasEndpoints && externallyAccessible(row);

  const add = (map: string, key: string, verdict: string, comment?: string) =>
    pieces.set(elementPiece(map, key), [`${comment ? withComment(key, comment) : key} : ${verdict}`]);
  const at = (address: string) => `${address} . ${protocol} . ${row.port}`;
  // Refused when nothing at all could serve it; dropped when only a Local policy keeps this node from serving it.
  const refusal = hasEndpoints ? "drop" : "goto reject-chain";
  const comment = commentOf(row.name);
  const refuse = (address: string) => add("no-endpoint-services", at(address), refusal, comment);

  const clusterIP = canonicalAddress(row.clusterIP);
  pieces.set(elementPiece("cluster-ips", clusterIP), [clusterIP]);
  if (hasInternal) add("service-ips", at(clusterIP), `goto ${row.internalPolicyLocal ? local : cluster}`);
  else refuse(clusterIP);

  const outer = (addresses: readonly string[]) =>
    addresses.filter((one) => isAddress(row.family, one)).map(canonicalAddress);
  const loadBalancers = outer(row.loadBalancerIPs);
  for (const address of [...outer(row.externalIPs), ...loadBalancers]) {
    if (hasEndpoints) add("service-ips", at(address), `goto ${external}`);
    if (!hasExternal) refuse(address);
  }
  if (loadBalancers.length > 0 && row.sourceRanges.length > 0) {
    for (const address of loadBalancers) add("firewall-ips", at(address), `goto ${firewall}`);
    pieces.set(chainPiece(firewall), firewallRules(row, options, loadBalancers));
  }
  if (row.nodePort !== undefined) {
    const key = `${protocol} . ${row.nodePort}`;
    if (hasEndpoints) add("service-nodeports", key, `goto ${external}`);
    if (!hasExternal) add("no-endpoint-nodeports", key, refusal, comment);
  }

  if (usesExternal) {
    const lines = externalRules(row, options, cluster);
    if (hasExternal) lines.push(`goto ${row.externalPolicyLocal ? local : cluster}`);
    pieces.set(chainPiece(external), lines);
  }
  if (usesCluster) pieces.set(chainPiece(cluster), balance(row, row.clusterEndpoints, draw));
  if (usesLocal) pieces.set(chainPiece(local), balance(row, row.localEndpoints, draw));

  const serving = [...(usesCluster ? row.clusterEndpoints : []), ...(usesLocal ? row.localEndpoints : [])];
  for (const endpoint of serving) {
    const { address, port, local: isLocal } = canonicalEndpoint(endpoint);
    // A pod that reaches itself through its Service must see another source than itself.
    if (isLocal) {
      const key = `${address} . ${address} . ${protocol} . ${port}`;
      pieces.set(elementPiece("hairpin-connections", key), [key]);
    }
    if (row.affinitySeconds === undefined) continue;
    const own = endpointName(row, { address, port });
    pieces.set(setPiece(`affinity-${own}`), [`type ${addressType(row.family)}`, `timeout ${row.affinitySeconds}s`]);
    pieces.set(chainPiece(`endpoint-${own}`), [
      `update @affinity-${own} { ${ipWord(row.family)} saddr }`,
      `meta l4proto ${protocol} dnat to ${endpointText({ address, port })}`,
    ]);
  }
  return pieces;
}

function externalRules(row: ServicePort, options: NftablesOptions, cluster: string): string[] {
  if (!row.externalPolicyLocal) return [withComment(setMark(options), "masquerade")];
  // Traffic from pods and from the node itself keeps its source already: it may go to endpoints on any node.
  const pods = fromPods(options, "");
  const fromNode = "fib saddr type local";
  return [
    ...(pods ? [withComment(`${pods} goto ${cluster}`, "short-circuit pod traffic")] : []),
    withComment(`${fromNode} ${setMark(options)}`, "masquerade local traffic"),
    withComment(`${fromNode} goto ${cluster}`, "short-circuit local traffic"),
  ];
}

/** Drops what comes from elsewhere than the ranges; no rule where they hold everything. */
function firewallRules(
  row: ServicePort,
  options: NftablesOptions,
  loadBalancers: readonly string[],
): readonly string[] {
  const { nodeAddress } = options;
  const admitsNode =
    nodeAddress !== undefined &&
    row.sourceRanges.some((range) => {
      const cidr = parseCidr(range);
      return cidr !== undefined && contains(cidr, nodeAddress);
    });
  // What the node sends to a load-balancer address that it owns itself has that address as its source.
  const ranges = mergedRanges(row.family, [...row.sourceRanges, ...(admitsNode ? loadBalancers : [])]);
  if (ranges === "everything") return [];
  if (ranges.length === 0) return ["drop"];
  return [`${ipWord(row.family)} saddr != ${oneOrSet(ranges)} drop`];
}

/** One endpoint at random; with affinity, the one that the client had before, first. */
function balance(row: ServicePort, endpoints: readonly TableEndpoint[], draw: Draw): readonly string[] {
  const all = endpoints.map(canonicalEndpoint);
  const byRules = draw === "rules" && all.length <= mostDrawnByRules;
  const random = `numgen random mod ${all.length}`;
  if (row.affinitySeconds === undefined) {
    const protocol = `meta l4proto ${row.protocol.toLowerCase()}`;
    if (byRules) return drawByRules(all.map((one) => `${protocol} dnat to ${endpointText(one)}`));
    const list = all.map(({ address, port }, index) => `${index} : ${address} . ${port}`).join(", ");
    return [`${protocol} dnat ${ipWord(row.family)} addr . port to ${random} map { ${list} }`];
  }
  const names = all.map((one) => endpointName(row, one));
  return [
    ...names.map((own) => `${ipWord(row.family)} saddr @affinity-${own} goto endpoint-${own}`),
    ...(byRules
      ? drawByRules(names.map((own) => `goto endpoint-${own}`))
      : [`${random} vmap { ${names.map((own, index) => `${index} : goto endpoint-${own}`).join(", ")} }`]),
  ];
}

/** The first with 1/n, the next with 1/(n-1) of what is left, and so on: the same share for each. */
function drawByRules(ends: readonly string[]): readonly string[] {
  return ends.map((end, index) => {
    const left = ends.length - index;
    return left > 1 ? `numgen random mod ${left} 0 ${end}` : end;
  });
}

function canonicalEndpoint(endpoint: TableEndpoint): TableEndpoint {
  const address = canonicalAddress(endpoint.address);
  return address === endpoint.address ? endpoint : { ...endpoint, address };
}
