// Whether an address is in one of several ranges, made quick for IPv4. An IPv4 address that a dual-stack socket names in its
// mapped form (::ffff:192.0.2.1) is the IPv4 address.

import { contains, parseCidr } from "../base/cidr.ts";
import { parseIPv4, unmapped } from "../base/ip.ts";

/** `ranges` in CIDR notation; those that are none contain nothing. */
export function addressSet(ranges: readonly string[]): (address: string) => boolean {
  const four: { first: number; size: number }[] = [];
  const six: NonNullable<ReturnType<typeof parseCidr>>[] = [];
  for (const range of ranges) {
    const cidr = parseCidr(range);
    if (cidr?.family === 4) four.push({ first: Number(cidr.first), size: Number(cidr.size) });
    else if (cidr) six.push(cidr);
  }
  return (source) => {
    const plain = unmapped(source);
    const address = parseIPv4(plain);
    if (address === undefined) return six.some((cidr) => contains(cidr, plain));
    return four.some(({ first, size }) => address >= first && address < first + size);
  };
}
