// Whether the address ranges of a stack are free: valid, disjoint, and not on any route that the host has already.

import { type Cidr, overlaps, parseCidr } from "../../base/cidr.ts";
import { UserError } from "../../base/errors.ts";
import type { IpFamily } from "../../base/ip.ts";
import type { NetworkRanges } from "../network.ts";
import { type HostRoute, routeRange } from "./ip.ts";
import { nodePrefix } from "./plan.ts";

interface RangeUse {
  readonly field: keyof NetworkRanges;
  readonly what: string;
  readonly option: string;
  /** The shortest and the longest prefix of each family: what can be routed, and what leaves room for what goes in. */
  readonly prefixes: Readonly<Record<IpFamily, readonly [shortest: number, longest: number]>>;
}

/** How messages name a range, and the option that changes it. An IPv6 Service range is a /64 at most (KEP-1880). */
export const rangeUses: readonly RangeUse[] = [
  {
    field: "pods",
    what: "pod range",
    option: "--pod-cidr",
    prefixes: { 4: [8, nodePrefix[4]], 6: [16, nodePrefix[6]] },
  },
  { field: "services", what: "Service range", option: "--service-cidr", prefixes: { 4: [8, 28], 6: [64, 120] } },
  {
    field: "loadBalancers",
    what: "load-balancer range",
    option: "--load-balancer-cidr",
    prefixes: { 4: [8, 30], 6: [16, 126] },
  },
  { field: "nodes", what: "node range", option: "--node-cidr", prefixes: { 4: [8, 28], 6: [16, 123] } },
];

/** Throws a UserError that names the range, what it collides with, and the option to change. `ownLink` is a link of ours. */
export function checkRanges(
  families: readonly NetworkRanges[],
  routes: readonly HostRoute[] = [],
  ownLink?: string,
): void {
  const parsed: { use: RangeUse; text: string; cidr: Cidr }[] = [];
  for (const ranges of families) {
    for (const use of rangeUses) {
      const text = ranges[use.field];
      const cidr = rangeOf(use, text);
      for (const other of parsed) {
        if (!overlaps(cidr, other.cidr)) continue;
        throw new UserError(`the ${use.what} ${text} overlaps the ${other.use.what} ${other.text}`, {
          remedy: `choose another with ${use.option} or ${other.use.option}`,
          exitCode: 2,
        });
      }
      parsed.push({ use, text, cidr });
    }
  }
  for (const route of routes) {
    if (route.dst === "default" || route.dev === ownLink) continue;
    const cidr = routeRange(route);
    if (!cidr || cidr.prefix === 0) continue;
    for (const { use, text, cidr: range } of parsed) {
      if (!overlaps(cidr, range)) continue;
      const stack = route.dev?.startsWith("fl-") ? "end that other Fairlead stack with `fairlead down`, or " : "";
      throw new UserError(
        `the ${use.what} ${text} overlaps the route ${route.dst}${route.dev ? ` dev ${route.dev}` : ""} of this machine`,
        { remedy: `${stack}choose another range with ${use.option}` },
      );
    }
  }
}

function rangeOf(use: RangeUse, text: string): Cidr {
  const cidr = parseCidr(text);
  if (!cidr) {
    throw new UserError(`${use.option} ${text}: not an address range such as 10.244.0.0/16 or fd00:10:244::/56`, {
      exitCode: 2,
    });
  }
  const [shortest, longest] = use.prefixes[cidr.family];
  if (cidr.prefix >= shortest && cidr.prefix <= longest) return cidr;
  const size = cidr.prefix > longest ? "too small" : "too large";
  throw new UserError(
    `${use.option} ${text}: ${size}, an IPv${cidr.family} ${use.what} has a prefix length from ${shortest} to ${longest}`,
    { exitCode: 2 },
  );
}
