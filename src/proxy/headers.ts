// The fields of one message, as the codecs and filters share them: the bytes that came, with the places of names and values in
// them, so that what nobody asks for never becomes a string, and changes beside it. Reused from message to message. Field
// semantics are RFC 9110 §5; parsing is `http1/fields.ts`.

import { uuidLength, writeUuid } from "./uuid.ts";
import type { Outlet } from "./wire.ts";

/**
 * What the proxy itself does with a field, found out while parsing. `other` travels as it is. The numbers index small tables
 * (`HeaderBlock.at`, drop tables) and bits, so they are dense.
 */
export const Kind = {
  other: 0,
  dropped: 1,
  host: 2,
  connection: 3,
  contentLength: 4,
  transferEncoding: 5,
  keepAlive: 6,
  proxyConnection: 7,
  te: 8,
  trailer: 9,
  upgrade: 10,
  expect: 11,
  forwardedFor: 12,
  forwardedProto: 13,
  forwardedHost: 14,
  requestId: 15,
  http2Settings: 16,
  date: 17,
  cookie: 18,
  forwarded: 19,
  forwardedClientCert: 20,
} as const;
export const kindCount = 21;

/** A table of the kinds that a serialisation leaves out. */
export function kindSet(...kinds: readonly number[]): Uint8Array {
  const table = new Uint8Array(kindCount);
  table[Kind.dropped] = 1;
  for (const kind of kinds) table[kind] = 1;
  return table;
}

/** Fields that speak of one connection of HTTP/1 (RFC 9110 §7.6.1), as kinds and as names. */
export const hopByHopKinds: readonly number[] = [
  Kind.connection,
  Kind.keepAlive,
  Kind.proxyConnection,
  Kind.transferEncoding,
  Kind.upgrade,
  Kind.te,
  Kind.trailer,
];
export const hopByHopNames: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
  "te",
  "trailer",
]);

const width = 4;
const noBytes = Buffer.alloc(0);

/** A line that is made when the head is sent. */
export interface FinishedLine {
  /** With its name in lower case and its CRLF; valid until the next line is asked for. */
  line(): Buffer;
}

export class HeaderBlock {
  /** What the spans point into. */
  source: Buffer = noBytes;
  count = 0;
  /** Four numbers a field: start and end of its name, start and end of its value. A field's line ends where the next begins. */
  spans = new Int32Array(16 * width);
  kinds = new Uint8Array(16);
  /** Where the last line ends. */
  end = 0;
  /** The first field of each kind; only where `mask` says that there is one. */
  readonly #at = new Int16Array(kindCount);
  /** One bit for each kind that is there. */
  mask = 0;
  /** One bit for each of the first 31 fields, and one for those behind, that must not enter a compression table (RFC 7541 §7.1.3). */
  sensitive = 0;
  /** Fields that were put behind the others: names in lower case and values in turn. */
  extra: string[] | undefined = undefined;
  /**
   * Finished lines behind all others: what the proxy itself adds when nothing can change it any more. The value of the last line
   * is a fresh request id.
   */
  tail = "";
  #id: Buffer | undefined = undefined;
  /** One more of those. */
  last: FinishedLine | undefined = undefined;

  clear(): void {
    this.count = 0;
    this.mask = 0;
    this.sensitive = 0;
    this.extra = undefined;
    this.tail = "";
    this.last = undefined;
  }

  /** Puts finished lines behind all others, the last of which gets a fresh request id as its value. */
  finishWithId(lines: string): void {
    this.tail = lines;
    this.#id ??= Buffer.alloc(uuidLength);
    writeUuid(this.#id);
  }

  /** The request id behind `tail`; empty when there is none. */
  get tailEnd(): string {
    return this.tail === "" ? "" : this.#id!.latin1Slice(0, uuidLength);
  }

  /** The same as bytes; only where there is a `tail`. */
  get id(): Buffer {
    return this.#id!;
  }

  /** Lets go of the bytes, so that an idle connection does not keep them. */
  release(): void {
    this.clear();
    this.source = noBytes;
  }

  /** Called by parsers. */
  push(nameStart: number, nameEnd: number, valueStart: number, valueEnd: number, kind: number): void {
    const index = this.count++;
    if (index === this.kinds.length) this.#grow();
    const at = index * width;
    this.spans[at] = nameStart;
    this.spans[at + 1] = nameEnd;
    this.spans[at + 2] = valueStart;
    this.spans[at + 3] = valueEnd;
    this.kinds[index] = kind;
    if (kind !== Kind.other && (this.mask & (1 << kind)) === 0) {
      this.mask |= 1 << kind;
      this.#at[kind] = index;
    }
  }

  /** The first field of a kind, or -1. */
  at(kind: number): number {
    return (this.mask & (1 << kind)) === 0 ? -1 : this.#at[kind]!;
  }

  #grow(): void {
    const spans = new Int32Array(this.spans.length * 2);
    spans.set(this.spans);
    this.spans = spans;
    const kinds = new Uint8Array(this.kinds.length * 2);
    kinds.set(this.kinds);
    this.kinds = kinds;
  }

  name(index: number): string {
    return this.source.latin1Slice(this.spans[index * width]!, this.spans[index * width + 1]!);
  }

  value(index: number): string {
    return this.source.latin1Slice(this.spans[index * width + 2]!, this.spans[index * width + 3]!);
  }

  /** The value of the first field of a kind. */
  valueOf(kind: number): string | undefined {
    const index = this.at(kind);
    return index < 0 ? undefined : this.value(index);
  }

  /** The value of a field by its name in lower case; several are joined with `,` in the order they came. */
  get(name: string): string | undefined {
    let found: string | undefined;
    for (let index = 0; index < this.count; index++) {
      if (this.kinds[index] !== Kind.dropped && this.named(index, name)) {
        found = found === undefined ? this.value(index) : `${found},${this.value(index)}`;
      }
    }
    const extra = this.extra;
    if (extra) {
      for (let index = 0; index < extra.length; index += 2) {
        if (extra[index] === name) found = found === undefined ? extra[index + 1]! : `${found},${extra[index + 1]}`;
      }
    }
    return found;
  }

  /** Whether the value of a field by its name in lower case, as {@link get} has it, is this one. No string is made. */
  is(name: string, wanted: string): boolean {
    let found = -1;
    for (let index = 0; index < this.count; index++) {
      if (this.kinds[index] === Kind.dropped || !this.named(index, name)) continue;
      if (found >= 0) return this.get(name) === wanted;
      found = index;
    }
    if (found < 0 || this.extra !== undefined) return this.get(name) === wanted;
    const { source, spans } = this;
    const start = spans[found * width + 2]!;
    const { length } = wanted;
    if (spans[found * width + 3]! - start !== length) return false;
    for (let offset = 0; offset < length; offset++)
      if (source[start + offset] !== wanted.charCodeAt(offset)) return false;
    return true;
  }

  /** Whether a field has this name, given in lower case. */
  named(index: number, name: string): boolean {
    const start = this.spans[index * width]!;
    const length = name.length;
    if (this.spans[index * width + 1]! - start !== length) return false;
    const source = this.source;
    for (let offset = 0; offset < length; offset++) {
      const code = source[start + offset]!;
      const wanted = name.charCodeAt(offset);
      if (code !== wanted && (code < 65 || code > 90 || code + 32 !== wanted)) return false;
    }
    return true;
  }

  /** Takes all fields of a name (lower case) away. */
  remove(name: string): void {
    for (let index = 0; index < this.count; index++) {
      if (this.kinds[index] !== Kind.dropped && this.named(index, name)) this.drop(index);
    }
    const extra = this.extra;
    if (!extra) return;
    for (let index = extra.length - 2; index >= 0; index -= 2) if (extra[index] === name) extra.splice(index, 2);
  }

  /** Takes one field away. */
  drop(index: number): void {
    const kind = this.kinds[index]!;
    this.kinds[index] = Kind.dropped;
    if (kind === Kind.other || this.#at[kind] !== index) return;
    const next = this.kinds.subarray(0, this.count).indexOf(kind);
    if (next < 0) this.mask &= ~(1 << kind);
    else this.#at[kind] = next;
  }

  /** Puts a field behind the others. The name is in lower case; the value has no CR, LF or NUL: callers have checked. */
  add(name: string, value: string): void {
    this.extra ??= [];
    this.extra.push(name, value);
  }

  /** Replaces all fields of a name by one. */
  set(name: string, value: string): void {
    this.remove(name);
    this.add(name, value);
  }

  /** Where in `tail` the value of a line begins that ends with CRLF; -1: there is none. The last line's value is `tailEnd`. */
  finished(name: string): number {
    const { tail } = this;
    for (let start = 0, end = tail.indexOf("\r\n"); end >= 0; start = end + 2, end = tail.indexOf("\r\n", start)) {
      if (tail.startsWith(name, start) && tail.charCodeAt(start + name.length) === 58) return start + name.length + 2;
    }
    return -1;
  }

  /** All fields, names in lower case, for those who need them one by one (logs, decisions, other codecs). */
  entries(): [string, string][] {
    const list: [string, string][] = [];
    for (let index = 0; index < this.count; index++) {
      if (this.kinds[index] !== Kind.dropped) list.push([this.name(index).toLowerCase(), this.value(index)]);
    }
    const extra = this.extra ?? [];
    for (let index = 0; index < extra.length; index += 2) list.push([extra[index]!, extra[index + 1]!]);
    return list;
  }

  /**
   * Writes the fields as HTTP/1 lines, each with its CRLF, but for the kinds that `drop` names. Runs of lines that stay are
   * copied whole.
   */
  write(to: Outlet, drop: Uint8Array): void {
    let run = -1;
    const { source, kinds, spans, count } = this;
    for (let index = 0; index < count; index++) {
      if (drop[kinds[index]!] === 0) {
        if (run < 0) run = spans[index * width]!;
      } else if (run >= 0) {
        to.bytes(source, run, spans[index * width]!);
        run = -1;
      }
    }
    if (run >= 0) to.bytes(source, run, this.end);
    const extra = this.extra;
    if (extra !== undefined) {
      for (let index = 0; index < extra.length; index += 2) to.text(`${extra[index]}: ${extra[index + 1]}\r\n`);
    }
    if (this.tail !== "") {
      to.text(this.tail);
      to.bytes(this.#id!, 0, uuidLength);
      to.text("\r\n");
    }
    if (this.last !== undefined) {
      const line = this.last.line();
      to.bytes(line, 0, line.length);
    }
  }
}
