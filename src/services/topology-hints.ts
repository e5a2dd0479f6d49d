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
  /** The zone it is given to now. */
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
  return { zones: allocate(endpoints, least) };
}

/**
 * Each zone gets at least its minimum, and otherwise its own endpoints: they become ready one after another, and what was given
 * away while there were few must not stay away. How many each zone gets depends on zones alone; hints only say which ones are
 * given away, so that the same ones are again.
 */
function allocate(
  endpoints: readonly HintedEndpoint[],
  least: ReadonlyMap<string, number>,
): ReadonlyMap<string, string> {
  const zones = [...least.keys()].sort();
  const home = new Map(zones.map((zone) => [zone, 0]));
  for (const { zone } of endpoints) if (zone !== undefined && home.has(zone)) home.set(zone, home.get(zone)! + 1);
  const target = targets(home, least, endpoints.length);

  /** How many a zone takes from others, and how many it gives to them. */
  const takes = new Map(zones.map((zone) => [zone, Math.max(0, target.get(zone)! - home.get(zone)!)]));
  const gives = new Map(zones.map((zone) => [zone, Math.max(0, home.get(zone)! - target.get(zone)!)]));
  const given = new Map<string, string>();
  /** Endpoints of zones without nodes have to go anywhere. */
  const mayLeave = ({ zone }: HintedEndpoint) => !home.has(zone!) || gives.get(zone!)! > 0;
  const giveAway = ({ address, zone }: HintedEndpoint, to: string) => {
    given.set(address, to);
    takes.set(to, takes.get(to)! - 1);
    if (home.has(zone!)) gives.set(zone!, gives.get(zone!)! - 1);
  };
  const sorted = [...endpoints].sort((a, b) => (a.address < b.address ? -1 : 1));
  for (const one of sorted) {
    const { hint, zone } = one;
    if (hint !== undefined && hint !== zone && (takes.get(hint) ?? 0) > 0 && mayLeave(one)) giveAway(one, hint);
  }
  const rest = sorted.filter(({ address }) => !given.has(address));
  for (const one of [
    ...rest.filter(({ hint, zone }) => hint !== zone),
    ...rest.filter((each) => each.hint === each.zone),
  ]) {
    if (mayLeave(one)) giveAway(one, zones.find((zone) => takes.get(zone)! > 0)!);
    else given.set(one.address, one.zone!);
  }
  return given;
}

/** How many endpoints each zone gets: its own, where all have their minimum; the sum is `count`. */
function targets(
  home: ReadonlyMap<string, number>,
  least: ReadonlyMap<string, number>,
  count: number,
): ReadonlyMap<string, number> {
  const zones = [...home.keys()];
  const target = new Map(zones.map((zone) => [zone, Math.max(home.get(zone)!, least.get(zone)!)]));
  const over = (zone: string) => target.get(zone)! - least.get(zone)!;
  let sum = [...target.values()].reduce((a, b) => a + b, 0);
  for (; sum > count; sum--) {
    const richest = zones.reduce((a, b) => (over(b) > over(a) ? b : a));
    target.set(richest, target.get(richest)! - 1);
  }
  for (; sum < count; sum++) {
    const poorest = zones.reduce((a, b) => (over(b) < over(a) ? b : a));
    target.set(poorest, target.get(poorest)! + 1);
  }
  return target;
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
