// Field lines of HTTP/1 (RFC 9112 §5, RFC 9110 §5.5), parsed strictly: no line folding, no space before the colon, no bare
// CR or LF, no control characters. Anything that two parsers could read differently is an error, not a repair. One pass over
// the bytes finds the places of names and values; no string is made here.

import { type HeaderBlock, Kind } from "../headers.ts";

/** Largest head: start line and fields, in bytes. */
export const maxHeadBytes = 64 * 1024;
/** Most field lines in one head. */
export const maxFields = 100;

/** Results of parsing that are no offset. */
export const more = -1;
export const malformed = -2;
export const tooLarge = -3;

/** Character classes: 1 token (RFC 9110 §5.6.2), 2 may stand in a value (VCHAR, SP, HTAB, obs-text), 4 in a request target. */
export const classes = new Uint8Array(256);
for (let code = 0; code < 256; code++) {
  if (code === 9 || (code >= 32 && code !== 127)) classes[code]! |= 2;
  if (code > 32 && code < 127 && code !== 35) classes[code]! |= 4;
  if (/[!#$%&'*+\-.^_`|~0-9A-Za-z]/.test(String.fromCharCode(code)) && code < 127) classes[code]! |= 1;
}

const cr = 13;
const lf = 10;
const colon = 58;

/** What is known by name, by the name's length. */
const known: (readonly [Uint8Array, number][] | undefined)[] = [];
for (const [name, kind] of [
  ["host", Kind.host],
  ["connection", Kind.connection],
  ["content-length", Kind.contentLength],
  ["transfer-encoding", Kind.transferEncoding],
  ["keep-alive", Kind.keepAlive],
  ["proxy-connection", Kind.proxyConnection],
  ["te", Kind.te],
  ["trailer", Kind.trailer],
  ["upgrade", Kind.upgrade],
  ["expect", Kind.expect],
  ["x-forwarded-for", Kind.forwardedFor],
  ["x-forwarded-proto", Kind.forwardedProto],
  ["x-forwarded-host", Kind.forwardedHost],
  ["x-request-id", Kind.requestId],
  ["http2-settings", Kind.http2Settings],
  ["date", Kind.date],
  ["cookie", Kind.cookie],
  ["forwarded", Kind.forwarded],
  ["x-forwarded-client-cert", Kind.forwardedClientCert],
  ["x-unverified-client-cert", Kind.forwardedClientCert],
] as const) {
  known[name.length] = [...(known[name.length] ?? []), [new Uint8Array(Buffer.from(name)), kind]];
}

/**
 * What a field is to the proxy, by its name in any case. A known name with underscores for hyphens is dropped: backends that make
 * variables of names (CGI, RFC 3875 §4.1.18) would take it for the one that we have looked at.
 */
export function kindOf(bytes: Uint8Array, start: number, length: number): number {
  const candidates = known[length];
  if (candidates === undefined) return Kind.other;
  next: for (let index = 0; index < candidates.length; index++) {
    const name = candidates[index]![0];
    let disguised = false;
    for (let offset = 0; offset < length; offset++) {
      const code = bytes[start + offset]!;
      const wanted = name[offset]!;
      if (code === wanted) continue;
      if (code === 95 && wanted === 45) disguised = true;
      else if (code < 65 || code > 90 || code + 32 !== wanted) continue next;
    }
    return disguised ? Kind.dropped : candidates[index]![1];
  }
  return Kind.other;
}

/**
 * Parses field lines from `at` up to and with the empty line into `block`. Returns the offset behind the empty line, or `more`,
 * `malformed` or `tooLarge` (too many fields).
 */
export function parseFields(bytes: Buffer, at: number, end: number, block: HeaderBlock): number {
  let position = at;
  block.source = bytes;
  for (;;) {
    if (position >= end) return more;
    let code = bytes[position]!;
    if (code === cr) {
      if (position + 1 >= end) return more;
      if (bytes[position + 1] !== lf) return malformed;
      block.end = position;
      return position + 2;
    }
    const nameStart = position;
    while ((classes[code]! & 1) !== 0) {
      if (++position >= end) return more;
      code = bytes[position]!;
    }
    if (code !== colon || position === nameStart) return malformed;
    const nameEnd = position;
    position++;
    while (position < end && (bytes[position] === 32 || bytes[position] === 9)) position++;
    const valueStart = position;
    while (position < end && (classes[bytes[position]!]! & 2) !== 0) position++;
    if (position + 1 >= end) return position < end && bytes[position] !== cr ? malformed : more;
    if (bytes[position] !== cr || bytes[position + 1] !== lf) return malformed;
    let valueEnd = position;
    while (valueEnd > valueStart && (bytes[valueEnd - 1] === 32 || bytes[valueEnd - 1] === 9)) valueEnd--;
    position += 2;
    if (block.count >= maxFields) return tooLarge;
    block.push(nameStart, nameEnd, valueStart, valueEnd, kindOf(bytes, nameStart, nameEnd - nameStart));
  }
}

/** The Content-Length that a field of a block is: up to 15 digits (below 2^53); undefined when it is none. */
export function lengthOf({ source, spans }: HeaderBlock, index: number): number | undefined {
  const start = spans[index * 4 + 2]!;
  const end = spans[index * 4 + 3]!;
  if (start === end || end - start > 15) return undefined;
  let length = 0;
  for (let position = start; position < end; position++) {
    const digit = source[position]! - 48;
    if (digit < 0 || digit > 9) return undefined;
    length = length * 10 + digit;
  }
  return length;
}

/** The members of a comma-separated list in lower case, without empty ones. */
export function listOf(value: string): string[] {
  return value
    .split(",")
    .map((part) => part.trim().toLowerCase())
    .filter((part) => part !== "");
}
