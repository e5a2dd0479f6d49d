// What one field section (RFC 9113 §8.1: a head or trailers) decodes to: fields as the lines that HTTP/1 would send, in a
// `HeaderBlock`, and pseudo-header fields beside them. Lines lie in an arena that many sections share, so that a head costs no
// allocation of its own. Limits are counted here; what the fields mean is `../head.ts`.

import { HeaderBlock, Kind } from "../../headers.ts";
import { type Entry, fieldOverhead, Pseudo } from "./static-table.ts";

/** Largest field section, as SETTINGS_MAX_HEADER_LIST_SIZE counts. What is larger is refused (431). */
export const maxListBytes = 64 * 1024;
/** A section that decodes to more than this is an attack on our memory, and ends the connection. */
const bombBytes = 4 * maxListBytes;
/** Most fields; browsers send each cookie as one. */
const maxSectionFields = 256;

const questionMark = 63;
/** From here on a call that copies costs less than a loop. */
const longLine = 32;

/** Small, because a stream that lives long keeps the whole of it. */
const arenaBytes = 8 * 1024;
let arena = Buffer.allocUnsafeSlow(arenaBytes);
let arenaAt = 0;

/** Reused from section to section of a connection: only its `headers` outlive the decoding. */
export class FieldSection {
  headers = new HeaderBlock();
  method = "";
  scheme = "";
  authority = "";
  /** Before the first `?`, and behind it; undefined when there is none. */
  path = "";
  query: string | undefined = undefined;
  protocol = "";
  status = "";
  /** Bits of {@link Pseudo} that were there. */
  pseudo = 0;
  /** A name or value that is not allowed, or a pseudo-header field that is repeated, unknown or behind a regular one. */
  malformed = false;
  tooLarge = false;
  bomb = false;
  #bytes = 0;
  #fields = 0;
  #cookies = 0;
  #start = 0;

  begin(headers: HeaderBlock): void {
    headers.clear();
    this.headers = headers;
    this.pseudo = 0;
    this.method = "";
    this.scheme = "";
    this.authority = "";
    this.path = "";
    this.query = undefined;
    this.protocol = "";
    this.status = "";
    this.malformed = false;
    this.tooLarge = false;
    this.bomb = false;
    this.#bytes = 0;
    this.#fields = 0;
    this.#cookies = 0;
    this.#start = arenaAt;
  }

  /** Ends the section: the block points into the arena. */
  finish(): void {
    this.headers.source = arena;
    this.headers.end = arenaAt;
    if (this.#cookies > 1) this.#joinCookies();
  }

  /** False: no more is kept. */
  #counts(size: number): boolean {
    this.#bytes += size;
    if (this.#bytes <= maxListBytes && ++this.#fields <= maxSectionFields) return true;
    this.tooLarge = true;
    if (this.#bytes > bombBytes) this.bomb = true;
    return false;
  }

  /**
   * Makes room for `length` bytes; returns where they go in {@link target}. Of a line that is being written, the first `begun`
   * bytes are kept.
   */
  reserve(length: number, begun = 0): number {
    if (arenaAt + length > arena.length) this.#move(length, begun);
    return arenaAt;
  }

  get target(): Buffer {
    return arena;
  }

  /** A new arena, where this section's lines come first. */
  #move(length: number, begun: number): void {
    const used = arenaAt - this.#start;
    const next = Buffer.allocUnsafeSlow(Math.max(arenaBytes, 2 * (used + length)));
    arena.copy(next, 0, this.#start, arenaAt + begun);
    const { spans, count } = this.headers;
    for (let index = 0; index < count * 4; index++) spans[index]! -= this.#start;
    this.#start = 0;
    arena = next;
    arenaAt = used;
  }

  /** A field of a table. */
  take(entry: Entry): void {
    if (!this.#counts(entry.size)) return;
    if (!entry.valid) this.malformed = true;
    if (entry.pseudo !== Pseudo.none) {
      this.#pseudo(entry.pseudo, entry.value);
      return;
    }
    const { line, nameLength } = entry;
    const length = line.length;
    const at = this.reserve(length);
    if (length < longLine) {
      const target = arena;
      for (let offset = 0; offset < length; offset++) target[at + offset] = line[offset]!;
    } else arena.set(line, at);
    arenaAt = at + length;
    if (entry.kind === Kind.cookie) this.#cookies++;
    this.headers.push(at, at + nameLength, at + nameLength + 2, at + length - 2, entry.kind);
  }

  /** A field whose line was written to `target` from `at` to `end`. */
  takeWritten(at: number, nameLength: number, end: number, kind: number, pseudo: number, valid: boolean): void {
    if (!this.#counts(end - at - 4 + fieldOverhead)) return;
    if (!valid) this.malformed = true;
    if (pseudo === Pseudo.path) {
      this.#target(at + nameLength + 2, end - 2);
      return;
    }
    if (pseudo !== Pseudo.none) {
      this.#pseudo(pseudo, arena.latin1Slice(at + nameLength + 2, end - 2));
      return;
    }
    arenaAt = end;
    if (kind === Kind.cookie) this.#cookies++;
    this.headers.push(at, at + nameLength, at + nameLength + 2, end - 2, kind);
  }

  /** `:path` in the arena: its parts are taken from the bytes, because strings of strings cost more. */
  #target(start: number, end: number): void {
    this.#saw(Pseudo.path);
    let mark = start;
    while (mark < end && arena[mark] !== questionMark) mark++;
    this.path = arena.latin1Slice(start, mark);
    this.query = mark < end ? arena.latin1Slice(mark + 1, end) : undefined;
  }

  #saw(pseudo: number): void {
    if ((this.pseudo & pseudo) !== 0 || this.headers.count > 0) this.malformed = true;
    this.pseudo |= pseudo;
  }

  #pseudo(pseudo: number, value: string): void {
    this.#saw(pseudo);
    switch (pseudo) {
      case Pseudo.method:
        this.method = value;
        break;
      case Pseudo.scheme:
        this.scheme = value;
        break;
      case Pseudo.authority:
        this.authority = value;
        break;
      case Pseudo.path: {
        const mark = value.indexOf("?");
        this.path = mark < 0 ? value : value.slice(0, mark);
        this.query = mark < 0 ? undefined : value.slice(mark + 1);
        break;
      }
      case Pseudo.protocol:
        this.protocol = value;
        break;
      case Pseudo.status:
        this.status = value;
        break;
      default:
        this.malformed = true;
    }
  }

  /** One Cookie field of several (RFC 9113 §8.2.3), behind the others. */
  #joinCookies(): void {
    const headers = this.headers;
    let length = 8 + 2;
    for (let index = 0; index < headers.count; index++) {
      if (headers.kinds[index] === Kind.cookie)
        length += headers.spans[index * 4 + 3]! - headers.spans[index * 4 + 2]! + 2;
    }
    const start = this.reserve(length);
    let at = start + arena.latin1Write("cookie: ", start);
    const { spans, kinds, count } = headers;
    for (let index = 0; index < count; index++) {
      if (kinds[index] !== Kind.cookie) continue;
      if (at > start + 8) at += arena.latin1Write("; ", at);
      at += arena.copy(arena, at, spans[index * 4 + 2]!, spans[index * 4 + 3]!);
      headers.drop(index);
    }
    const end = at;
    at += arena.latin1Write("\r\n", at);
    arenaAt = at;
    headers.source = arena;
    headers.end = at;
    headers.push(start, start + 6, start + 8, end, Kind.cookie);
  }
}
