// The encoder of HPACK (RFC 7541): one for each connection. Fields come as bytes in place and as strings; the block grows in a
// buffer that all encoders share. A field enters the dynamic table the second time it is sent, so that values that never come
// again push nothing out; what must stay secret, or rarely repeats, never does.

import { type HeaderBlock, hopByHopKinds, Kind } from "../../headers.ts";
import { tableBytes } from "./decoder.ts";
import { huffmanEncode, huffmanLength } from "./huffman.ts";
import { fieldOverhead, staticFields } from "./static-table.ts";

/** The block that is being encoded. */
let out = Buffer.allocUnsafeSlow(16 * 1024);
let at = 0;
/** A field given as strings, as bytes. */
let scratch = Buffer.allocUnsafeSlow(16 * 1024);

const places = tableBytes / fieldOverhead;
/** Longer values do not enter the table. */
const maxIndexed = 512;
const hashes = 128;
/** Fields of a block for which it is remembered which entry the field in the same place was last. */
const guesses = 32;

/** What a name says of its field's encoding: its place in the static table, and whether it may enter the dynamic one. */
interface Name {
  readonly bytes: Uint8Array;
  readonly index: number;
  readonly treatment: number;
}
const Treatment = { indexed: 0, plain: 1, never: 2 } as const;

/** Values that differ from message to message. */
const plain = new Set([
  "age",
  "content-length",
  "content-range",
  "etag",
  "expires",
  "grpc-timeout",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "if-range",
  "last-modified",
  "link",
  "location",
  "range",
  "retry-after",
  "traceparent",
  "x-request-id",
]);
/** Secrets, which a table that several clients share would let one of them guess (RFC 7541 §7.1). */
const never = new Set(["authorization", "cookie", "proxy-authorization", "set-cookie"]);

/** Names by hash, open addressing. */
const names: (Name | undefined)[] = new Array(512).fill(undefined);
const firstIndex = new Map<string, number>();
staticFields.forEach(([name], index) => {
  if (!firstIndex.has(name)) firstIndex.set(name, index + 1);
});
for (const name of new Set([...firstIndex.keys(), ...plain, ...never])) {
  const bytes = new Uint8Array(Buffer.from(name));
  let place = hashOf(bytes, 0, bytes.length) & 511;
  while (names[place] !== undefined) place = (place + 1) & 511;
  const treatment = never.has(name) ? Treatment.never : plain.has(name) ? Treatment.plain : Treatment.indexed;
  names[place] = { bytes, index: firstIndex.get(name) ?? 0, treatment };
}

/** A hash of a name in any case; never 0. */
function hashOf(bytes: Uint8Array, start: number, end: number): number {
  let hash = 5381;
  for (let position = start; position < end; position++) {
    let code = bytes[position]!;
    if (code >= 65 && code <= 90) code += 32;
    hash = (Math.imul(hash, 33) + code) | 0;
  }
  return hash === 0 ? 1 : hash;
}

function nameOf(hash: number, bytes: Uint8Array, start: number, length: number): Name | undefined {
  next: for (let place = hash & 511; ; place = (place + 1) & 511) {
    const name = names[place];
    if (name === undefined) return undefined;
    if (name.bytes.length !== length) continue;
    for (let offset = 0; offset < length; offset++)
      if ((bytes[start + offset]! | 32) !== (name.bytes[offset]! | 32)) continue next;
    return name;
  }
}

/** Indices of the static table by status. */
const statusIndex = new Map<number, number>();
staticFields.forEach(([name, value], index) => {
  if (name === ":status") statusIndex.set(Number(value), index + 1);
});

interface Sent {
  /** Name in lower case and value. */
  readonly bytes: Uint8Array;
  readonly nameLength: number;
}

export class HpackEncoder {
  /** A ring of `places`, which grows to that as entries come. */
  readonly #table: (Sent | undefined)[] = [];
  /** The number of the newest entry with a hash, counted from 1, and hashes that were seen once. */
  readonly #newest = new Int32Array(hashes);
  readonly #seen = new Int32Array(hashes);
  /** The number of the entry that a block's field in this place was: heads of one connection are alike. */
  readonly #guessed = new Int32Array(guesses);
  #field = 0;
  #inserted = 0;
  #count = 0;
  #bytes = 0;
  #limit = tableBytes;
  /** What the peer must be told at the beginning of the next block: the smallest limit since then, or -1. */
  #smallest = -1;

  /** The peer's SETTINGS_HEADER_TABLE_SIZE. */
  setLimit(size: number): void {
    const limit = Math.min(size, tableBytes);
    if (limit === this.#limit) return;
    this.#smallest = this.#smallest < 0 ? limit : Math.min(this.#smallest, limit);
    this.#limit = limit;
    this.#evict(0);
  }

  /** Begins a block. */
  begin(): void {
    at = 0;
    this.#field = 0;
    if (this.#smallest < 0) return;
    if (this.#smallest < this.#limit) integer(0x20, 0x1f, this.#smallest);
    integer(0x20, 0x1f, this.#limit);
    this.#smallest = -1;
  }

  /** The block so far: {@link length} bytes of it are valid until the next `begin`. */
  get block(): Buffer {
    return out;
  }

  get length(): number {
    return at;
  }

  /** A field that is in the static table. */
  index(index: number): void {
    reserve(8);
    integer(0x80, 0x7f, index);
  }

  /** `:status`. */
  status(status: number): void {
    const index = statusIndex.get(status);
    if (index !== undefined) this.index(index);
    else this.text(":status", String(status));
  }

  /** A field of strings; the name in lower case, both of one byte a character. */
  text(name: string, value: string): void {
    const length = name.length + value.length;
    if (length > scratch.length) scratch = Buffer.allocUnsafeSlow(2 * length);
    scratch.latin1Write(name, 0);
    scratch.latin1Write(value, name.length);
    this.field(scratch, 0, name.length, name.length, length, false);
  }

  /** All fields of a block but for the kinds that `drop` names. */
  fields(headers: HeaderBlock, drop: Uint8Array): void {
    const { source, kinds, spans, count, extra } = headers;
    for (let index = 0; index < count; index++) {
      if (drop[kinds[index]!] !== 0) continue;
      const place = index * 4;
      const secret = headers.sensitive !== 0 && (headers.sensitive & (1 << Math.min(index, 31))) !== 0;
      this.field(source, spans[place]!, spans[place + 1]!, spans[place + 2]!, spans[place + 3]!, secret);
    }
    if (extra !== undefined)
      for (let index = 0; index < extra.length; index += 2) this.text(extra[index]!, extra[index + 1]!);
    if (headers.tail !== "") this.#tail(headers.tail, headers.tailEnd);
    if (headers.last !== undefined) {
      const line = headers.last.line();
      const colon = line.indexOf(58);
      this.field(line, 0, colon, colon + 2, line.length - 2, false);
    }
  }

  /** Finished lines of HTTP/1, taken apart again. */
  #tail(tail: string, tailEnd: string): void {
    let start = 0;
    for (;;) {
      const colon = tail.indexOf(":", start);
      const end = tail.indexOf("\r\n", colon);
      const name = tail.slice(start, colon);
      if (end < 0) {
        this.text(name, tail.slice(colon + 2) + tailEnd);
        return;
      }
      this.text(name, tail.slice(colon + 2, end));
      start = end + 2;
    }
  }

  /** One field. `secret`: it must not enter any table. */
  field(
    source: Uint8Array,
    nameStart: number,
    nameEnd: number,
    valueStart: number,
    valueEnd: number,
    secret: boolean,
  ): void {
    const nameLength = nameEnd - nameStart;
    const valueLength = valueEnd - valueStart;
    // Names and values take at most four times their length with Huffman, which is then not used.
    reserve(nameLength + valueLength + 24);
    const place = this.#field++;
    if (!secret && place < guesses) {
      const guessed = this.#guessed[place]!;
      if (guessed > 0 && this.#repeats(guessed, source, nameStart, nameLength, valueStart, valueLength)) return;
    }
    const nameHash = hashOf(source, nameStart, nameEnd);
    if (secret || valueLength > maxIndexed) {
      const name = nameOf(nameHash, source, nameStart, nameLength);
      const first = secret || name?.treatment === Treatment.never ? 0x10 : 0;
      literal(first, 0x0f, name, source, nameStart, nameEnd, valueStart, valueEnd);
      return;
    }
    let hash = nameHash;
    for (let position = valueStart; position < valueEnd; position++) {
      hash = (Math.imul(hash, 33) + source[position]!) | 0;
    }
    const bucket = (hash ^ (hash >>> 15)) & (hashes - 1);
    const number = this.#newest[bucket]!;
    // What must not be in the table is not found there.
    if (number > 0 && this.#repeats(number, source, nameStart, nameLength, valueStart, valueLength)) {
      if (place < guesses) this.#guessed[place] = number;
      return;
    }
    const name = nameOf(nameHash, source, nameStart, nameLength);
    if (name !== undefined && name.treatment !== Treatment.indexed) {
      const first = name.treatment === Treatment.never ? 0x10 : 0;
      literal(first, 0x0f, name, source, nameStart, nameEnd, valueStart, valueEnd);
      return;
    }
    const size = nameLength + valueLength + fieldOverhead;
    if (this.#seen[bucket] !== hash || size > this.#limit) {
      this.#seen[bucket] = hash;
      literal(0, 0x0f, name, source, nameStart, nameEnd, valueStart, valueEnd);
      return;
    }
    literal(0x40, 0x3f, name, source, nameStart, nameEnd, valueStart, valueEnd);
    this.#insert(source, nameStart, nameLength, valueStart, valueLength, size);
    this.#newest[bucket] = this.#inserted;
  }

  /** Sends an entry by its number, if it is still there and this field. */
  #repeats(
    number: number,
    source: Uint8Array,
    nameStart: number,
    nameLength: number,
    valueStart: number,
    valueLength: number,
  ): boolean {
    const back = this.#inserted - number;
    if (back >= this.#count) return false;
    const sent = this.#table[(number - 1) & (places - 1)]!;
    if (!isSame(sent, source, nameStart, nameLength, valueStart, valueLength)) return false;
    integer(0x80, 0x7f, staticFields.length + 1 + back);
    return true;
  }

  #insert(
    source: Uint8Array,
    nameStart: number,
    nameLength: number,
    valueStart: number,
    valueLength: number,
    size: number,
  ): void {
    this.#evict(size);
    const bytes = new Uint8Array(nameLength + valueLength);
    lower(source, nameStart, nameLength, bytes, 0);
    for (let offset = 0; offset < valueLength; offset++) bytes[nameLength + offset] = source[valueStart + offset]!;
    this.#table[this.#inserted & (places - 1)] = { bytes, nameLength };
    this.#inserted++;
    this.#count++;
    this.#bytes += size;
  }

  #evict(size: number): void {
    while (this.#count > 0 && this.#bytes + size > this.#limit) {
      const place = (this.#inserted - this.#count) & (places - 1);
      this.#bytes -= this.#table[place]!.bytes.length + fieldOverhead;
      this.#table[place] = undefined;
      this.#count--;
    }
  }
}

function isSame(
  sent: Sent,
  source: Uint8Array,
  nameStart: number,
  nameLength: number,
  valueStart: number,
  valueLength: number,
): boolean {
  const { bytes } = sent;
  if (sent.nameLength !== nameLength || bytes.length !== nameLength + valueLength) return false;
  for (let offset = 0; offset < valueLength; offset++)
    if (bytes[nameLength + offset] !== source[valueStart + offset]) return false;
  for (let offset = 0; offset < nameLength; offset++) {
    const code = source[nameStart + offset]!;
    if (bytes[offset] !== (code >= 65 && code <= 90 ? code + 32 : code)) return false;
  }
  return true;
}

function reserve(length: number): void {
  if (at + length <= out.length) return;
  const next = Buffer.allocUnsafeSlow(2 * (at + length));
  out.copy(next, 0, 0, at);
  out = next;
}

/** An integer behind the bits of `first` (RFC 7541 §5.1). */
function integer(first: number, mask: number, value: number): void {
  if (value < mask) {
    out[at++] = first | value;
    return;
  }
  out[at++] = first | mask;
  let rest = value - mask;
  while (rest >= 128) {
    out[at++] = (rest & 127) | 128;
    rest >>>= 7;
  }
  out[at++] = rest;
}

function literal(
  first: number,
  mask: number,
  name: Name | undefined,
  source: Uint8Array,
  nameStart: number,
  nameEnd: number,
  valueStart: number,
  valueEnd: number,
): void {
  if (name !== undefined && name.index > 0) integer(first, mask, name.index);
  else {
    out[at++] = first;
    const length = nameEnd - nameStart;
    integer(0, 0x7f, length);
    lower(source, nameStart, length, out, at);
    at += length;
  }
  const length = valueEnd - valueStart;
  const encoded = huffmanLength(source, valueStart, valueEnd);
  if (encoded < length) {
    integer(0x80, 0x7f, encoded);
    at = huffmanEncode(source, valueStart, valueEnd, out, at);
    return;
  }
  integer(0, 0x7f, length);
  for (let offset = 0; offset < length; offset++) out[at + offset] = source[valueStart + offset]!;
  at += length;
}

function lower(source: Uint8Array, start: number, length: number, target: Uint8Array, to: number): void {
  for (let offset = 0; offset < length; offset++) {
    const code = source[start + offset]!;
    target[to + offset] = code >= 65 && code <= 90 ? code + 32 : code;
  }
}

/** What belongs to a connection of HTTP/1 and must not travel in HTTP/2 (RFC 9113 §8.2.2), which has `trailer` all the same. */
export const connectionKinds: readonly number[] = [
  ...hopByHopKinds.filter((kind) => kind !== Kind.trailer),
  Kind.http2Settings,
];
