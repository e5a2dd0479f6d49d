// The PROXY protocol, versions 1 and 2 (HAProxy, doc/proxy-protocol.txt): who the client of a connection is, told by the one that
// passes it on. Reading works on the first bytes of a connection as they come; writing makes the header for a backend. Strict:
// what is no header is refused, never taken as the beginning of a request.

import { formatIPv4, formatIPv6, ipFamily, parseIPv4, parseIPv6 } from "../../base/ip.ts";

export interface ProxyHeader {
  /** Undefined: the sender speaks for itself (LOCAL, UNKNOWN): the connection's own addresses stand. */
  readonly source: { readonly address: string; readonly port: number } | undefined;
  readonly destination: { readonly address: string; readonly port: number } | undefined;
  /** Bytes that the header takes. */
  readonly length: number;
}

/** `more`: the header is not whole yet. */
export type ProxyHeaderResult = ProxyHeader | "more" | "malformed";

const signature = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
/** §2.1: a version 1 header has at most 107 bytes with its line end. */
const maxLine = 107;
/** A version 2 header may carry up to 64 KiB of TLVs; nobody sends more than a certificate. */
const maxBlock = 16 * 1024;

/** Reads the header at the beginning of a connection. */
export function readProxyHeader(bytes: Buffer): ProxyHeaderResult {
  if (bytes.length === 0) return "more";
  if (bytes[0] === 0x50) return readVersion1(bytes);
  const known = Math.min(bytes.length, signature.length);
  if (signature.compare(bytes, 0, known, 0, known) !== 0) return "malformed";
  return bytes.length < 16 ? "more" : readVersion2(bytes);
}

function readVersion1(bytes: Buffer): ProxyHeaderResult {
  const end = bytes.indexOf("\r\n");
  if (end < 0 || end + 2 > maxLine) {
    const begun = bytes.subarray(0, 6).toString("latin1");
    return bytes.length < maxLine && end < 0 && "PROXY ".startsWith(begun) ? "more" : "malformed";
  }
  const length = end + 2;
  const line = bytes.subarray(0, end).toString("latin1");
  if (line === "PROXY UNKNOWN" || line.startsWith("PROXY UNKNOWN "))
    return { source: undefined, destination: undefined, length };
  const parts = line.split(" ");
  const family = parts[1] === "TCP4" ? 4 : parts[1] === "TCP6" ? 6 : undefined;
  if (parts[0] !== "PROXY" || family === undefined || parts.length !== 6) return "malformed";
  const [, , from, to, fromPort, toPort] = parts as [string, string, string, string, string, string];
  if (ipFamily(from) !== family || ipFamily(to) !== family) return "malformed";
  const sourcePort = portOf(fromPort);
  const destinationPort = portOf(toPort);
  if (sourcePort === undefined || destinationPort === undefined) return "malformed";
  return {
    source: { address: from, port: sourcePort },
    destination: { address: to, port: destinationPort },
    length,
  };
}

function portOf(text: string): number | undefined {
  if (!/^(0|[1-9]\d{0,4})$/.test(text)) return undefined;
  const port = Number(text);
  return port <= 65_535 ? port : undefined;
}

function readVersion2(bytes: Buffer): ProxyHeaderResult {
  const versionAndCommand = bytes[12]!;
  const command = versionAndCommand & 0x0f;
  if (versionAndCommand >> 4 !== 2 || command > 1) return "malformed";
  const block = bytes.readUInt16BE(14);
  if (block > maxBlock) return "malformed";
  const length = 16 + block;
  if (bytes.length < length) return "more";
  const family = bytes[13]! >> 4;
  const size = family === 1 ? 4 : family === 2 ? 16 : undefined;
  // LOCAL, or families that say nothing of internet addresses (unspecified, unix): skipped as a whole.
  if (command === 0 || family === 0 || family === 3) return { source: undefined, destination: undefined, length };
  if (size === undefined || (bytes[13]! & 0x0f) > 2 || block < 2 * size + 4) return "malformed";
  const at = (start: number) =>
    size === 4
      ? formatIPv4(bytes.readUInt32BE(start))
      : formatIPv6((bytes.readBigUInt64BE(start) << 64n) | bytes.readBigUInt64BE(start + 8));
  return {
    source: { address: at(16), port: bytes.readUInt16BE(16 + 2 * size) },
    destination: { address: at(16 + size), port: bytes.readUInt16BE(18 + 2 * size) },
    length,
  };
}

export interface ProxyAddresses {
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
}

/** The header that tells a backend of a client. Addresses of two families make one that tells nothing (UNKNOWN, LOCAL). */
export function writeProxyHeader(version: 1 | 2, addresses: ProxyAddresses): Buffer {
  const { source, sourcePort, destination, destinationPort } = addresses;
  const family = ipFamily(source);
  const told = family !== undefined && family === ipFamily(destination);
  if (version === 1) {
    if (!told) return Buffer.from("PROXY UNKNOWN\r\n");
    return Buffer.from(`PROXY TCP${family} ${source} ${destination} ${sourcePort} ${destinationPort}\r\n`);
  }
  if (!told) return Buffer.concat([signature, Buffer.from([0x20, 0, 0, 0])]);
  const body = Buffer.concat([addressBytes(source), addressBytes(destination), Buffer.alloc(4)]);
  body.writeUInt16BE(sourcePort, body.length - 4);
  body.writeUInt16BE(destinationPort, body.length - 2);
  const head = Buffer.from([0x21, family === 4 ? 0x11 : 0x21, 0, body.length]);
  return Buffer.concat([signature, head, body]);
}

/** Of an address that is one. */
function addressBytes(address: string): Buffer {
  const four = parseIPv4(address);
  const bytes = Buffer.alloc(four === undefined ? 16 : 4);
  if (four !== undefined) bytes.writeUInt32BE(four);
  else {
    const six = parseIPv6(address) ?? 0n;
    bytes.writeBigUInt64BE(six >> 64n);
    bytes.writeBigUInt64BE(six & 0xffff_ffff_ffff_ffffn, 8);
  }
  return bytes;
}
