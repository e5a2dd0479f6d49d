// IP addresses as text and as numbers. Strict: no leading zeros, no shortened IPv4, RFC 4291 and RFC 5952 for IPv6.

export type IpFamily = 4 | 6;

/** 4, 6, or undefined when the text is no address. */
export function ipFamily(text: string): IpFamily | undefined {
  if (parseIPv4(text) !== undefined) return 4;
  return parseIPv6(text) !== undefined ? 6 : undefined;
}

/** An IPv4 address as an unsigned 32-bit number; undefined when the text is none. */
export function parseIPv4(text: string): number | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  let value = 0;
  for (const part of parts) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part)) return undefined;
    const byte = Number(part);
    if (byte > 255) return undefined;
    value = value * 256 + byte;
  }
  return value;
}

/** The dotted form of an unsigned 32-bit number. */
export function formatIPv4(value: number): string {
  return `${(value >>> 24) & 255}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

/** An IPv6 address as a 128-bit number; undefined when the text is none. Zones (`%eth0`) are refused. */
export function parseIPv6(text: string): bigint | undefined {
  let source = text;
  const lastColon = source.lastIndexOf(":");
  if (lastColon < 0) return undefined;
  if (source.includes(".")) {
    const v4 = parseIPv4(source.slice(lastColon + 1));
    if (v4 === undefined) return undefined;
    source = `${source.slice(0, lastColon + 1)}${(v4 >>> 16).toString(16)}:${(v4 & 0xffff).toString(16)}`;
  }
  const halves = source.split("::");
  if (halves.length > 2) return undefined;
  const groups = (half: string) => (half === "" ? [] : half.split(":"));
  const head = groups(halves[0]!);
  const tail = halves.length === 2 ? groups(halves[1]!) : [];
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  let value = 0n;
  for (const group of [...head, ...Array<string>(missing).fill("0"), ...tail]) {
    if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
    value = (value << 16n) | BigInt(Number.parseInt(group, 16));
  }
  return value;
}

/** `192.0.2.1` of `::ffff:192.0.2.1`, as a socket for both families names IPv4 peers (RFC 4291, 2.5.5.2); others as they are. */
export function unmapped(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, "");
}

/** As it stands in a URL and before a port: one of IPv6 in brackets (RFC 3986 §3.2.2). A name stays as it is. */
export function hostLiteral(address: string): string {
  return address.includes(":") ? `[${address}]` : address;
}

/** `10.0.0.1:80`, `[fd00::1]:80`. */
export function addressWithPort(address: string, port: number): string {
  return `${hostLiteral(address)}:${port}`;
}

/** The one text of an address that has several (RFC 5952); text that is no address comes back as it is. */
export function canonicalAddress(text: string): string {
  const value = text.includes(":") ? parseIPv6(text) : undefined;
  return value === undefined ? text : formatIPv6(value);
}

/** The canonical text of a 128-bit number (RFC 5952: longest run of zeros shortened, lower case). */
export function formatIPv6(value: bigint): string {
  const groups: string[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) groups.push(((value >> shift) & 0xffffn).toString(16));
  let best = { start: -1, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === "0") length++;
    if (length > best.length) best = { start, length };
  }
  if (best.start < 0) return groups.join(":");
  return `${groups.slice(0, best.start).join(":")}::${groups.slice(best.start + best.length).join(":")}`;
}
