// Whether an address list lets a client pass: `deny` stands above `allow`, and an absent `allow` admits everybody else.

import { contains, parseCidr } from "../base/cidr.ts";
import { unmapped } from "../base/ip.ts";
import type { AddressList } from "./filters.ts";

/** Why an address may not pass, in words; undefined when it may. */
export function addressProblem({ allow, deny }: AddressList, source: string): string | undefined {
  const denied = rangeOf(deny ?? [], source);
  if (denied !== undefined) return `source ${source} is in ${denied}, which is denied`;
  if (allow && rangeOf(allow, source) === undefined)
    return `source ${source} is not in ${allow.join(", ") || "an empty list"}`;
  return undefined;
}

/** The first of the ranges that an address is in. */
export function rangeOf(ranges: readonly string[], address: string): string | undefined {
  const plain = unmapped(address);
  return ranges.find((text) => {
    const cidr = parseCidr(text);
    return cidr !== undefined && contains(cidr, plain);
  });
}
