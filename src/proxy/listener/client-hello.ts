// What a TLS client says before anything is decided: the server name and the protocols of its ClientHello (RFC 8446 §4.1.2, RFC
// 6066 §3, RFC 7301), read from the first bytes of a connection without a handshake. That is how a connection is passed
// through by its name, and how plain text and TLS are told apart on one port. Never throws; lengths are checked against what is there.

export interface ClientHello {
  /** In lower case; undefined when the client sent none. */
  readonly serverName: string | undefined;
  /** ALPN, in the client's order. */
  readonly protocols: readonly string[];
}

/** `more`: not whole yet. `plain`: these bytes are no TLS. `malformed`: they are TLS and no ClientHello that can be read. */
export type ClientHelloResult = ClientHello | "more" | "plain" | "malformed";

/** A ClientHello larger than this is refused; real ones, also post-quantum ones, have a few KiB at most. */
const maxHello = 16 * 1024;
const handshakeRecord = 22;

/** Reads the ClientHello at the beginning of a connection. It may be spread over several records. */
export function readClientHello(bytes: Buffer): ClientHelloResult {
  if (bytes.length === 0) return "more";
  if (bytes[0] !== handshakeRecord) return "plain";
  if (bytes.length < 3) return "more";
  if (bytes[1] !== 3 || bytes[2]! > 4) return "malformed";
  let message: Buffer = Buffer.alloc(0);
  let at = 0;
  for (;;) {
    if (bytes.length < at + 5) return "more";
    if (bytes[at] !== handshakeRecord || bytes[at + 1] !== 3) return "malformed";
    const length = bytes.readUInt16BE(at + 3);
    if (length === 0 || length > 16_384) return "malformed";
    const part = bytes.subarray(at + 5, at + 5 + length);
    message = at === 0 ? part : Buffer.concat([message, part]);
    if (message.length >= 1 && message[0] !== 1) return "malformed";
    if (message.length >= 4) {
      const size = message.readUIntBE(1, 3);
      if (size > maxHello) return "malformed";
      if (message.length >= 4 + size) return parse(message.subarray(4, 4 + size));
    }
    if (part.length < length) return "more";
    at += 5 + length;
  }
}

/** Reads on through bytes; once beyond the end it stays `bad`. */
class Reader {
  bad = false;
  #at = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  /** A number of so many bytes. */
  number(size: 1 | 2): number {
    const start = this.#take(size);
    return this.bad ? 0 : this.#bytes.readUIntBE(start, size);
  }

  /** Bytes behind their length, which has so many bytes. */
  vector(size: 1 | 2): Buffer {
    const length = this.number(size);
    const start = this.#take(length);
    return this.bad ? Buffer.alloc(0) : this.#bytes.subarray(start, start + length);
  }

  skip(length: number): void {
    this.#take(length);
  }

  #take(length: number): number {
    const start = this.#at;
    if (length > this.left) this.bad = true;
    else this.#at += length;
    return start;
  }
}

function parse(hello: Buffer): ClientHello | "malformed" {
  const reader = new Reader(hello);
  // legacy_version, random, legacy_session_id, cipher_suites, legacy_compression_methods.
  reader.skip(2 + 32);
  reader.vector(1);
  reader.vector(2);
  reader.vector(1);
  if (reader.bad) return "malformed";
  let serverName: string | undefined;
  let protocols: readonly string[] = [];
  // A ClientHello of TLS 1.2 and older may end here.
  if (reader.left === 0) return { serverName, protocols };
  const extensions = new Reader(reader.vector(2));
  if (reader.bad || reader.left > 0) return "malformed";
  const seen = new Set<number>();
  while (extensions.left > 0) {
    const type = extensions.number(2);
    const body = extensions.vector(2);
    if (extensions.bad || seen.has(type)) return "malformed";
    seen.add(type);
    if (type === 0) {
      const name = readServerName(body);
      if (name === undefined) return "malformed";
      serverName = name;
    } else if (type === 16) {
      const list = readProtocols(body);
      if (!list) return "malformed";
      protocols = list;
    }
  }
  return { serverName, protocols };
}

function readServerName(body: Buffer): string | undefined {
  const reader = new Reader(body);
  const list = new Reader(reader.vector(2));
  const type = list.number(1);
  const name = list.vector(2);
  // One name of one type (host_name), and no bytes beyond.
  if (reader.bad || reader.left > 0 || list.bad || list.left > 0 || type !== 0) return undefined;
  const text = name.toString("latin1").toLowerCase();
  return /^[a-z0-9_]([a-z0-9_.-]{0,253}[a-z0-9_])?$/.test(text) ? text : undefined;
}

function readProtocols(body: Buffer): readonly string[] | undefined {
  const reader = new Reader(body);
  const list = new Reader(reader.vector(2));
  const protocols: string[] = [];
  while (list.left > 0) {
    const name = list.vector(1);
    if (list.bad || name.length === 0) return undefined;
    protocols.push(name.toString("latin1"));
  }
  return reader.bad || reader.left > 0 ? undefined : protocols;
}
