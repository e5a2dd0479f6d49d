// Where the TTLs stand in a DNS message, and how long it may be kept (RFC 1035, RFC 2308 section 5). It reads lengths and
// numbers only, and no record's meaning but that of SOA and OPT.

export interface Ttls {
  /** Offsets of the TTL fields in the message, of all records but OPT. */
  readonly offsets: readonly number[];
  /** Seconds; undefined without records. */
  readonly shortest: number | undefined;
  /** The `minimum` of the SOA in it, in seconds: how long a denial may be kept. */
  readonly minimum: number | undefined;
  /** Where the OPT record begins, when it is the last one. */
  readonly finalOpt: number | undefined;
}

/** Undefined for a message that does not parse. */
export function readTtls(bytes: Uint8Array): Ttls | undefined {
  if (bytes.length < 12) return undefined;
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const offsets: number[] = [];
  let shortest: number | undefined;
  let minimum: number | undefined;
  let finalOpt: number | undefined;
  let at = 12;
  for (let n = view.readUInt16BE(4); n > 0; n--) {
    const end = nameEnd(view, at);
    if (end === undefined) return undefined;
    at = end + 4;
  }
  const records = view.readUInt16BE(6) + view.readUInt16BE(8) + view.readUInt16BE(10);
  for (let n = 0; n < records; n++) {
    const begin = at;
    const end = nameEnd(view, at);
    if (end === undefined || end + 10 > view.length) return undefined;
    const type = view.readUInt16BE(end);
    at = end + 10 + view.readUInt16BE(end + 8);
    if (at > view.length) return undefined;
    if (type === 41) {
      finalOpt = n === records - 1 && at === view.length ? begin : undefined;
      continue;
    }
    offsets.push(end + 4);
    const ttl = view.readUInt32BE(end + 4);
    shortest = Math.min(shortest ?? ttl, ttl);
    // Two names and five numbers, the last of which it is.
    if (type === 6 && at - end - 10 >= 22) minimum = view.readUInt32BE(at - 4);
  }
  return { offsets, shortest, minimum, finalOpt };
}

/** The message without its OPT record, which is a matter between two neighbours and not of the answer. */
export function withoutOpt(bytes: Uint8Array, { finalOpt }: Ttls): Uint8Array {
  if (finalOpt === undefined) return bytes;
  const out = Buffer.from(bytes.subarray(0, finalOpt));
  out.writeUInt16BE(out.readUInt16BE(10) - 1, 10);
  return out;
}

function nameEnd(view: Buffer, start: number): number | undefined {
  let at = start;
  for (;;) {
    const length = view[at];
    if (length === undefined) return undefined;
    if (length >= 0xc0) return at + 2;
    at += length + 1;
    if (length === 0) return at;
  }
}
