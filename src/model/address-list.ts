// Whether an address list lets a client pass: `deny` stands above `allow`, and an absent `allow` admits everybody else.

import { contains, parseCidr } from "../base/cidr.ts";
import { unmapped } from "../base/ip.ts";
import type { AddressList } from "./filters.ts";

/** Why an address may not pass, in words; undefined when it may. */
export function addressProblem({ allow, deny }: AddressList, source: string): string | undefined {
  const plain = unmapped(source);
  const range = (ranges: readonly string[]) =>
    ranges.find((text) => {
      const cidr = parseCidr(text);
      return cidr !== undefined && contains(cidr, plain);
    });
  const denied = range(deny ?? []);
  if (denied !== undefined) return `source ${source} is in ${denied}, which is denied`;
  if (allow && range(allow) === undefined) return `source ${source} is not in ${allow.join(", ") || "an empty list"}`;
  return undefined;
}
