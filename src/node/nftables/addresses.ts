// Addresses and ranges in the one spelling that nft prints: what was rendered and what is read back must be the same text.

import { type Cidr, formatCidr, parseCidr } from "../../base/cidr.ts";
import { formatIPv4, formatIPv6, parseIPv4, parseIPv6 } from "../../base/ip.ts";

/** `10.244.0.0/16`, host bits cleared; a range of one address is that address. Undefined for what is no range. */
export function canonicalRange(text: string): string | undefined {
  const cidr = parseCidr(text);
  return cidr && spell(cidr);
}

/**
 * Ranges (and single addresses) as nft keeps them in a set: sorted, those that overlap or touch made one, each written as a range
 * with a prefix where it is one, else as `first-last`. `everything` when they hold all addresses of the family.
 */
export function mergedRanges(family: 4 | 6, texts: readonly string[]): readonly string[] | "everything" {
  const bits = family === 4 ? 32 : 128;
  const spans: { first: bigint; last: bigint }[] = [];
  for (const text of texts) {
    const cidr = parseCidr(text.includes("/") ? text : `${text}/${bits}`);
    if (cidr?.family === family) spans.push({ first: cidr.first, last: cidr.first + cidr.size - 1n });
  }
  spans.sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  const merged: { first: bigint; last: bigint }[] = [];
  for (const span of spans) {
    const before = merged.at(-1);
    if (before && span.first <= before.last + 1n) {
      if (span.last > before.last) before.last = span.last;
    } else merged.push({ ...span });
  }
  if (merged[0]?.first === 0n && merged[0].last === (1n << BigInt(bits)) - 1n) return "everything";
  return merged.map(({ first, last }) => {
    const size = last - first + 1n;
    const isPrefix = (size & (size - 1n)) === 0n && first % size === 0n;
    if (!isPrefix) return `${format(family, first)}-${format(family, last)}`;
    return spell({ family, first, size, prefix: bits - (size.toString(2).length - 1) });
  });
}

/** What follows `ip saddr`: one value as it is, several in braces. */
export function oneOrSet(values: readonly string[]): string {
  return values.length === 1 ? values[0]! : `{ ${values.join(", ")} }`;
}

function spell(cidr: Cidr): string {
  return cidr.size === 1n ? format(cidr.family, cidr.first) : formatCidr(cidr);
}

function format(family: 4 | 6, value: bigint): string {
  return family === 4 ? formatIPv4(Number(value)) : formatIPv6(value);
}

/** Whether a text is an address of the family. */
export function isAddress(family: 4 | 6, text: string): boolean {
  return (family === 4 ? parseIPv4(text) : parseIPv6(text)) !== undefined;
}
