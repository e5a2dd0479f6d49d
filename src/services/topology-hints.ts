// `service.kubernetes.io/topology-mode: Auto`: zone hints so that traffic stays in its zone where that overloads no endpoint
// (KEP-2433; staging/src/k8s.io/endpointslice/topologycache). Endpoints are given to zones in proportion to the CPUs of their
// nodes; where that cannot be done within 20 % there are no hints at all. Pure; Service by Service and family by family.

import type { Service } from "../api/kinds.ts";

/** A ready node that runs pods, for the shares of the zones. */
export interface TopologyNode {
  readonly name: string;
  readonly zone: string | undefined;
  /** Allocatable CPUs in thousandths; undefined where the node does not say. */
  readonly cpu: number | undefined;
}

/** Zones by address, or the reason why there are none, in upstream's words. */
export type HintOutcome =
  | { readonly zones: ReadonlyMap<string, string> }
  | { readonly disabled: string; readonly zones?: undefined };

export interface HintedEndpoint {
  readonly address: string;
  readonly zone: string | undefined;
  /** The zone it is given to now: kept where it can be. */
  readonly hint: string | undefined;
}

/** How much more than its share an endpoint may get. */
const overloadThreshold = 0.2;

const annotations = ["service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"];

/** The annotation wins over `spec.trafficDistribution`. */
export function wantsTopologyHints(service: Pick<Service, "metadata">): boolean {
  const value = annotations.map((one) => service.metadata.annotations?.[one]).find((one) => one !== undefined);
  return value === "Auto" || value === "auto";
}

/** `endpoints` are the ready ones; addresses are unique. */
export function topologyHints(endpoints: readonly HintedEndpoint[], nodes: readonly TopologyNode[]): HintOutcome {
  const shares = zoneShares(nodes);
  if (typeof shares === "string") return { disabled: shares };
  const count = endpoints.length;
  if (count < shares.size)
    return { disabled: `Insufficient number of endpoints (${count} endpoints, ${shares.size} zones)` };
  if (endpoints.some((one) => one.zone === undefined)) {
    return { disabled: "One or more endpoints do not have a zone specified" };
  }
  // Rounding in floating point must not make 5 of 5.000000001.
  const least = new Map(
    [...shares].map(([zone, share]) => [zone, Math.ceil((share * count) / (1 + overloadThreshold) - 1e-9)]),
  );
  const needed = [...least.values()].reduce((a, b) => a + b, 0);
  if (needed > count) {
    return {
      disabled: `Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (${count} endpoints, ${shares.size} zones)`,
    };
  }
  return { zones: allocate(endpoints, least, count - needed) };
}

/** Each zone gets at least its minimum and at most `spare` more; what needs no move stays where it is, or in its own zone. */
function allocate(
  endpoints: readonly HintedEndpoint[],
  least: ReadonlyMap<string, number>,
  spare: number,
): ReadonlyMap<string, string> {
  const given = new Map<string, string>();
  const counts = new Map([...least.keys()].map((zone) => [zone, 0]));
  const give = (address: string, zone: string) => {
    given.set(address, zone);
    counts.set(zone, counts.get(zone)! + 1);
  };
  const sorted = [...endpoints].sort((a, b) => (a.address < b.address ? -1 : 1));
  const most = (zone: string) => least.get(zone)! + spare;
  const left: HintedEndpoint[] = [];
  // Endpoints of their own zone first: only what is over is given away.
  for (const one of [
    ...sorted.filter((each) => each.hint === each.zone),
    ...sorted.filter((each) => each.hint !== each.zone),
  ]) {
    const zone = one.hint !== undefined && least.has(one.hint) ? one.hint : one.zone!;
    if (least.has(zone) && counts.get(zone)! < most(zone)) give(one.address, zone);
    else left.push(one);
  }
  const shortage = (zone: string) => least.get(zone)! - counts.get(zone)!;
  const zones = [...least.keys()].sort();
  const neediest = () => zones.reduce((a, b) => (shortage(b) > shortage(a) ? b : a));
  for (const one of left) {
    const own = one.zone!;
    const room = least.has(own) && counts.get(own)! < most(own) && shortage(neediest()) <= 0;
    give(one.address, room ? own : neediest());
  }
  // Zones that are still short take from the one that has most over its minimum.
  for (;;) {
    const poor = neediest();
    if (shortage(poor) <= 0) return given;
    const rich = zones.reduce((a, b) => (shortage(b) < shortage(a) ? b : a));
    const candidates = sorted.filter((one) => given.get(one.address) === rich);
    // Better one that is at home in the poor zone, then one that is not at home where it is.
    const moved =
      candidates.find((one) => one.zone === poor) ?? candidates.find((one) => one.zone !== rich) ?? candidates.at(-1)!;
    counts.set(rich, counts.get(rich)! - 1);
    give(moved.address, poor);
  }
}

/** Each zone's part of all CPUs, or why there is none. */
function zoneShares(nodes: readonly TopologyNode[]): ReadonlyMap<string, number> | string {
  const cpus = new Map<string, number>();
  let total = 0;
  for (const { zone, cpu } of nodes) {
    if (zone === undefined || cpu === undefined || cpu <= 0) {
      return "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
    }
    cpus.set(zone, (cpus.get(zone) ?? 0) + cpu);
    total += cpu;
  }
  if (cpus.size < 2) return "Nodes only ready in one zone";
  return new Map([...cpus].map(([zone, cpu]) => [zone, cpu / total]));
}

/** `2` and `1500m` in thousandths. */
export function milliCpu(quantity: string | number | undefined): number | undefined {
  const match = /^([0-9]+(?:\.[0-9]+)?)(m?)$/.exec(String(quantity ?? ""));
  if (!match) return undefined;
  return match[2] ? Number(match[1]) : Number(match[1]) * 1000;
}
