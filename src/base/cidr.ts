// Address ranges in CIDR notation (RFC 4632, RFC 4291), of both families.

import { formatIPv4, formatIPv6, type IpFamily, parseIPv4, parseIPv6 } from "./ip.ts";

/** A range of addresses. `first` has its host bits cleared. */
export interface Cidr {
  readonly family: IpFamily;
  readonly first: bigint;
  readonly prefix: number;
  /** The number of addresses. */
  readonly size: bigint;
}

/** Parses `10.244.0.0/16` or `fd00::/64`; undefined when it is no range. Host bits may be set and are cleared. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf("/");
  if (slash < 0) return undefined;
  const address = text.slice(0, slash);
  const prefixText = text.slice(slash + 1);
  if (!/^(0|[1-9][0-9]{0,2})$/.test(prefixText)) return undefined;
  const prefix = Number(prefixText);
  const v4 = parseIPv4(address);
  const value = v4 !== undefined ? BigInt(v4) : parseIPv6(address);
  if (value === undefined) return undefined;
  const family: IpFamily = v4 !== undefined ? 4 : 6;
  const bits = family === 4 ? 32 : 128;
  if (prefix > bits) return undefined;
  const size = 1n << BigInt(bits - prefix);
  return { family, first: value - (value % size), prefix, size };
}

export function formatCidr(cidr: Cidr): string {
  return `${formatAddress(cidr.family, cidr.first)}/${cidr.prefix}`;
}

/** The address `offset` places into the range. Throws a RangeError outside of it. */
export function addressAt(cidr: Cidr, offset: bigint | number): string {
  const at = BigInt(offset);
  if (at < 0n || at >= cidr.size) throw new RangeError(`offset ${at} is outside ${formatCidr(cidr)}`);
  return formatAddress(cidr.family, cidr.first + at);
}

/** How far into the range an address is; undefined when it is outside or no address of this family. */
export function offsetOf(cidr: Cidr, address: string): bigint | undefined {
  const value = cidr.family === 4 ? parseIPv4(address) : parseIPv6(address);
  if (value === undefined) return undefined;
  const offset = BigInt(value) - cidr.first;
  return offset >= 0n && offset < cidr.size ? offset : undefined;
}

export function contains(cidr: Cidr, address: string): boolean {
  return offsetOf(cidr, address) !== undefined;
}

export function overlaps(a: Cidr, b: Cidr): boolean {
  return a.family === b.family && a.first < b.first + b.size && b.first < a.first + a.size;
}

/** The `index`th sub-range of length `prefix` (node 3's /24 of a cluster's /16). Throws a RangeError when there is none. */
export function subCidr(cidr: Cidr, prefix: number, index: number): Cidr {
  const bits = cidr.family === 4 ? 32 : 128;
  const size = 1n << BigInt(bits - prefix);
  const first = cidr.first + size * BigInt(index);
  if (prefix < cidr.prefix || first + size > cidr.first + cidr.size) {
    throw new RangeError(`${formatCidr(cidr)} has no /${prefix} number ${index}`);
  }
  return { family: cidr.family, first, prefix, size };
}

function formatAddress(family: IpFamily, value: bigint): string {
  return family === 4 ? formatIPv4(Number(value)) : formatIPv6(value);
}
