// The chunked transfer coding (RFC 9112 §7.1), decoded piece by piece without copying. Strict: sizes are hexadecimal digits
// only, every line ends in CRLF, extensions are skipped within a bound, trailers are parsed as fields are.

import { HeaderBlock, Kind } from "../headers.ts";
import { classes, more, parseFields } from "./fields.ts";

/** What `next` found. */
export const Chunk = { more: 0, data: 1, end: 2, malformed: 3 } as const;
export type ChunkEvent = (typeof Chunk)[keyof typeof Chunk];

/** Longest extensions of one chunk, and longest trailer section, in bytes. */
const maxExtension = 1024;
const maxTrailers = 8 * 1024;

const State = {
  size: 0,
  extension: 1,
  sizeLf: 2,
  data: 3,
  dataCr: 4,
  dataLf: 5,
  trailers: 6,
  done: 7,
  space: 8,
} as const;

export class ChunkedDecoder {
  /** After `data`: where the piece lies in the input. */
  start = 0;
  stop = 0;
  /** Where the next call goes on. */
  position = 0;
  /** After `end`: the trailers, when there were any. Framing and routing fields among them are dropped. */
  trailers: HeaderBlock | undefined = undefined;
  #state: number = State.size;
  #size = 0;
  #digits = 0;
  #extension = 0;
  /** A trailer section that came in pieces. */
  #held: Buffer | undefined = undefined;

  reset(): void {
    this.#state = State.size;
    this.#size = 0;
    this.#digits = 0;
    this.#extension = 0;
    this.#held = undefined;
    this.trailers = undefined;
  }

  /** Looks at `bytes` from `at`. After `more` all of it is used up; after `data` and `end` call again from `position`. */
  next(bytes: Buffer, at: number): ChunkEvent {
    const end = bytes.length;
    let position = at;
    while (position < end) {
      switch (this.#state) {
        case State.size: {
          const digit = hexDigit(bytes[position]!);
          if (digit >= 0) {
            // 2^44 bytes in one chunk are enough for everybody and far from where numbers lose digits.
            if (++this.#digits > 11) return Chunk.malformed;
            this.#size = this.#size * 16 + digit;
            position++;
            break;
          }
          if (this.#digits === 0) return Chunk.malformed;
          if (bytes[position] === 13) this.#state = State.sizeLf;
          else if (bytes[position] === 59) this.#state = State.extension;
          else if (bytes[position] === 32 || bytes[position] === 9) this.#state = State.space;
          else return Chunk.malformed;
          this.#extension = 0;
          position++;
          break;
        }
        case State.space: {
          // White space may stand before an extension or at the end of the line, and nothing else behind it.
          const code = bytes[position]!;
          if (code === 13) this.#state = State.sizeLf;
          else if (code === 59) this.#state = State.extension;
          else if ((code !== 32 && code !== 9) || ++this.#extension > maxExtension) return Chunk.malformed;
          position++;
          break;
        }
        case State.extension: {
          const code = bytes[position]!;
          if (code === 13) this.#state = State.sizeLf;
          else if ((classes[code]! & 2) === 0 || ++this.#extension > maxExtension) return Chunk.malformed;
          position++;
          break;
        }
        case State.sizeLf:
          if (bytes[position] !== 10) return Chunk.malformed;
          position++;
          this.#state = this.#size === 0 ? State.trailers : State.data;
          break;
        case State.data: {
          const take = Math.min(this.#size, end - position);
          this.start = position;
          this.stop = position + take;
          this.position = this.stop;
          this.#size -= take;
          if (this.#size === 0) this.#state = State.dataCr;
          return Chunk.data;
        }
        case State.dataCr:
          if (bytes[position] !== 13) return Chunk.malformed;
          position++;
          this.#state = State.dataLf;
          break;
        case State.dataLf:
          if (bytes[position] !== 10) return Chunk.malformed;
          position++;
          this.#digits = 0;
          this.#state = State.size;
          break;
        case State.trailers:
          return this.#trailers(bytes, position);
        default:
          this.position = position;
          return Chunk.end;
      }
    }
    this.position = position;
    return Chunk.more;
  }

  #trailers(bytes: Buffer, at: number): ChunkEvent {
    // The usual case: an empty line and nothing else.
    if (!this.#held && bytes[at] === 13 && bytes[at + 1] === 10) {
      this.position = at + 2;
      this.#state = State.done;
      return Chunk.end;
    }
    const before = this.#held?.length ?? 0;
    const all = this.#held ? Buffer.concat([this.#held, bytes.subarray(at)]) : bytes.subarray(at);
    const block = new HeaderBlock();
    const after = parseFields(all, 0, all.length, block);
    if (after === more) {
      if (all.length > maxTrailers) return Chunk.malformed;
      this.#held = Buffer.from(all);
      this.position = bytes.length;
      return Chunk.more;
    }
    if (after < 0) return Chunk.malformed;
    let kept = 0;
    for (let index = 0; index < block.count; index++) {
      if (block.kinds[index] === Kind.other) kept++;
      else block.kinds[index] = Kind.dropped;
    }
    // An empty trailer section is none: HAProxy ends a connection of HTTP/2 that brings one.
    if (kept > 0) this.trailers = block;
    this.#held = undefined;
    this.position = at + after - before;
    this.#state = State.done;
    return Chunk.end;
  }
}

function hexDigit(code: number): number {
  if (code >= 48 && code <= 57) return code - 48;
  if (code >= 97 && code <= 102) return code - 87;
  if (code >= 65 && code <= 70) return code - 55;
  return -1;
}
