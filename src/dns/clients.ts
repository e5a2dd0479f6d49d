// Who may have names of others looked up: a DNS server that does this for everybody is used to flood others (RFC 5358).

import { contains, parseCidr } from "../base/cidr.ts";
import { UserError } from "../base/errors.ts";
import { unmapped } from "../base/ip.ts";

/** Addresses of the machine itself. */
const itself = ["127.0.0.0/8", "::1/128"];

/** Clients whose answer is remembered. */
const mostKnown = 4096;

/** Whether an address is in one of the ranges, or the machine's own loopback. Throws a UserError for what is no range. */
export function clientsWithin(ranges: readonly string[]): (address: string) => boolean {
  const parsed = [...itself, ...ranges].map((range) => {
    const cidr = parseCidr(range);
    if (!cidr) throw new UserError(`${range} is no address range`, { remedy: "write it as 10.244.0.0/16" });
    return cidr;
  });
  const known = new Map<string, boolean>();
  return (address) => {
    const before = known.get(address);
    if (before !== undefined) return before;
    const within = parsed.some((cidr) => contains(cidr, unmapped(address)));
    if (known.size >= mostKnown) known.clear();
    known.set(address, within);
    return within;
  };
}
