// The static table of HPACK (RFC 7541 Appendix A), and what an entry of a table is here: a field as the line that HTTP/1 would
// send, so that a decoded field is one copy of bytes wherever it goes next.

import { Kind } from "../../headers.ts";
import { classes, kindOf } from "../../http1/fields.ts";

/** Pseudo-header fields (RFC 9113 §8.3, RFC 8441 §4). The numbers are bits. */
export const Pseudo = {
  none: 0,
  method: 1,
  scheme: 2,
  authority: 4,
  path: 8,
  protocol: 16,
  status: 32,
  unknown: 64,
} as const;

export interface Entry {
  /** `name: value` CR LF. */
  readonly line: Uint8Array;
  readonly nameLength: number;
  readonly kind: number;
  readonly pseudo: number;
  /** Neither name nor value has what must not be in them (RFC 9113 §8.2.1, §8.3.1). */
  readonly valid: boolean;
  /** Of a pseudo-header field. */
  readonly value: string;
  /** As RFC 7541 §4.1 counts. */
  readonly size: number;
}

/** What every field costs in a table or list beside its bytes (RFC 7541 §4.1, RFC 9113 §6.5.2). */
export const fieldOverhead = 32;

const pseudoNames: readonly (readonly [Uint8Array, number])[] = (
  [
    [":method", Pseudo.method],
    [":scheme", Pseudo.scheme],
    [":authority", Pseudo.authority],
    [":path", Pseudo.path],
    [":protocol", Pseudo.protocol],
    [":status", Pseudo.status],
  ] as const
).map(([name, pseudo]) => [new Uint8Array(Buffer.from(name)), pseudo]);

/** Which pseudo-header field a name is; `none` for a name that does not begin with a colon. */
export function pseudoOf(bytes: Uint8Array, start: number, length: number): number {
  if (length === 0 || bytes[start] !== 58) return Pseudo.none;
  next: for (const [name, pseudo] of pseudoNames) {
    if (name.length !== length) continue;
    for (let offset = 1; offset < length; offset++) if (bytes[start + offset] !== name[offset]) continue next;
    return pseudo;
  }
  return Pseudo.unknown;
}

/** Whether a field's name may stand in HTTP/2: a token without capital letters. */
export function nameIsValid(bytes: Uint8Array, start: number, end: number): boolean {
  if (start === end) return false;
  for (let position = start; position < end; position++) {
    const code = bytes[position]!;
    if ((classes[code]! & 1) === 0 || (code >= 65 && code <= 90)) return false;
  }
  return true;
}

/** Whether a value may stand in a field of this kind: no control characters, no space around it; what stands in a request line is stricter. */
export function valueIsValid(bytes: Uint8Array, start: number, end: number, pseudo: number): boolean {
  if (start === end) return pseudo === Pseudo.none || pseudo === Pseudo.authority;
  if (pseudo === Pseudo.none) {
    const first = bytes[start]!;
    const last = bytes[end - 1]!;
    if (first === 32 || first === 9 || last === 32 || last === 9) return false;
  }
  const mask = pseudo === Pseudo.none ? 2 : pseudo === Pseudo.path || pseudo === Pseudo.authority ? 4 : 1;
  for (let position = start; position < end; position++) if ((classes[bytes[position]!]! & mask) === 0) return false;
  return true;
}

/** An entry of the bytes of a line that begins at `start`; they are copied. */
export function makeEntry(bytes: Uint8Array, start: number, nameLength: number, end: number): Entry {
  const line = new Uint8Array(bytes.subarray(start, end));
  const pseudo = pseudoOf(line, 0, nameLength);
  const valueStart = nameLength + 2;
  const valueEnd = line.length - 2;
  return {
    line,
    nameLength,
    pseudo,
    kind: pseudo === Pseudo.none ? kindOf(line, 0, nameLength) : Kind.other,
    valid:
      (pseudo !== Pseudo.none || nameIsValid(line, 0, nameLength)) && valueIsValid(line, valueStart, valueEnd, pseudo),
    value: pseudo === Pseudo.none ? "" : Buffer.from(line.buffer).latin1Slice(valueStart, valueEnd),
    size: nameLength + (valueEnd - valueStart) + fieldOverhead,
  };
}

/** Name and value; the value is empty where the table has none. Index 1 is the first. */
export const staticFields: readonly (readonly [name: string, value: string])[] = [
  [":authority", ""],
  [":method", "GET"],
  [":method", "POST"],
  [":path", "/"],
  [":path", "/index.html"],
  [":scheme", "http"],
  [":scheme", "https"],
  [":status", "200"],
  [":status", "204"],
  [":status", "206"],
  [":status", "304"],
  [":status", "400"],
  [":status", "404"],
  [":status", "500"],
  ["accept-charset", ""],
  ["accept-encoding", "gzip, deflate"],
  ...(
    "accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control " +
    "content-disposition content-encoding content-language content-length content-location content-range content-type " +
    "cookie date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since " +
    "last-modified link location max-forwards proxy-authenticate proxy-authorization range referer refresh retry-after " +
    "server set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate"
  )
    .split(" ")
    .map((name) => [name, ""] as const),
];

/** The static table as entries, by index from 1; the place 0 is unused. */
export const staticEntries: readonly Entry[] = [["x", ""] as const, ...staticFields].map(([name, value]) =>
  makeEntry(new Uint8Array(Buffer.from(`${name}: ${value}\r\n`)), 0, name.length, name.length + value.length + 4),
);
