// Whether the address ranges of a stack are free: valid, disjoint, and not on any route that the host has already.

import { type Cidr, overlaps, parseCidr } from "../../base/cidr.ts";
import { UserError } from "../../base/errors.ts";
import type { NetworkRanges } from "../network.ts";
import type { HostRoute } from "./ip.ts";

interface RangeUse {
  readonly field: keyof NetworkRanges;
  readonly what: string;
  readonly option: string;
  /** The shortest and the longest prefix that leaves room for what goes in. */
  readonly longest: number;
}

/** How messages name a range, and the option that changes it. */
export const rangeUses: readonly RangeUse[] = [
  { field: "pods", what: "pod range", option: "--pod-cidr", longest: 24 },
  { field: "services", what: "Service range", option: "--service-cidr", longest: 28 },
  { field: "loadBalancers", what: "load-balancer range", option: "--load-balancer-cidr", longest: 30 },
  { field: "nodes", what: "node range", option: "--node-cidr", longest: 28 },
];

/** Throws a UserError that names the range, what it collides with, and the option to change. `ownLink` is a link of ours. */
export function checkRanges(ranges: NetworkRanges, routes: readonly HostRoute[], ownLink: string): void {
  const parsed: { use: RangeUse; text: string; cidr: Cidr }[] = [];
  for (const use of rangeUses) {
    const text = ranges[use.field];
    const cidr = parseCidr(text);
    if (cidr?.family !== 4 || cidr.prefix < 8) {
      throw new UserError(`${use.option} ${text}: not an IPv4 range such as 10.244.0.0/16`, { exitCode: 2 });
    }
    if (cidr.prefix > use.longest) {
      throw new UserError(`${use.option} ${text}: too small, a ${use.what} is at least a /${use.longest}`, {
        exitCode: 2,
      });
    }
    for (const other of parsed) {
      if (!overlaps(cidr, other.cidr)) continue;
      throw new UserError(`the ${use.what} ${text} overlaps the ${other.use.what} ${other.text}`, {
        remedy: `choose another with ${use.option} or ${other.use.option}`,
        exitCode: 2,
      });
    }
    parsed.push({ use, text, cidr });
  }
  for (const route of routes) {
    if (route.dst === "default" || route.dev === ownLink) continue;
    const cidr = parseCidr(route.dst.includes("/") ? route.dst : `${route.dst}/32`);
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
