// What was read from a connection of HTTP/1 and is not used yet, and a body that is taken out of it, by its length or in chunks
// (RFC 9112 §6, §7). Of a body that ends with its connection there is nothing to know here.

import type { HeaderBlock } from "../headers.ts";
import { Chunk, ChunkedDecoder } from "./chunked.ts";

/** Bytes that came, from `at` on. */
export class Unread {
  bytes: Buffer | undefined = undefined;
  at = 0;

  get length(): number {
    return this.bytes === undefined ? 0 : this.bytes.length - this.at;
  }

  add(bytes: Buffer): void {
    if (this.bytes === undefined) this.bytes = bytes;
    else this.bytes = Buffer.concat([this.at > 0 ? this.bytes.subarray(this.at) : this.bytes, bytes]);
    this.at = 0;
  }

  /** Everything before `at` is used. */
  use(at: number): void {
    if (this.bytes === undefined) return;
    if (at < this.bytes.length) this.at = at;
    else this.bytes = undefined;
  }

  drop(): void {
    this.bytes = undefined;
  }
}

/** What becomes of a body: more of it is wanted; it is held back; nobody asks for it any more; it has come whole; it is none. */
export const Body = { more: 0, held: 1, gone: 2, whole: 3, malformed: 4 } as const;

export interface BodyTaker {
  /** Takes the bytes from `start` to `end`. Returns `Body.more`, `held` or `gone`. */
  bodyPiece(bytes: Buffer, start: number, end: number): number;
}

export class BodyReader {
  /** Bytes that are still to come, where that is known; chunked bodies have none. */
  #remaining = 0;
  #chunked: ChunkedDecoder | undefined = undefined;
  /** Of one in chunks that has come whole. */
  trailers: HeaderBlock | undefined = undefined;

  /** `length` in bytes, at least 1; negative: it comes in chunks. */
  begin(length: number): void {
    this.#remaining = Math.max(0, length);
    this.trailers = undefined;
    if (length > 0) return;
    this.#chunked ??= new ChunkedDecoder();
    this.#chunked.reset();
  }

  /** Hands over what there is of it, as long as that is wanted. Returns one of `Body`. */
  read(unread: Unread, taker: BodyTaker): number {
    const bytes = unread.bytes!;
    const { at } = unread;
    if (this.#remaining > 0) {
      const end = Math.min(at + this.#remaining, bytes.length);
      unread.use(end);
      this.#remaining -= end - at;
      const taken = taker.bodyPiece(bytes, at, end);
      return this.#remaining === 0 && taken !== Body.gone ? Body.whole : taken;
    }
    const chunked = this.#chunked!;
    let position = at;
    for (;;) {
      const event = chunked.next(bytes, position);
      position = chunked.position;
      unread.use(position);
      if (event === Chunk.data) {
        const taken = taker.bodyPiece(bytes, chunked.start, chunked.stop);
        if (taken !== Body.more) return taken;
      } else if (event === Chunk.end) {
        this.trailers = chunked.trailers;
        return Body.whole;
      } else return event === Chunk.malformed ? Body.malformed : Body.more;
    }
  }

  /** Passes over what is still to come, if all of it is there (true). It is over then, but has not come whole, to whoever reads it just now. */
  skip(unread: Unread): boolean {
    if (this.#remaining === 0 || unread.length < this.#remaining) return false;
    unread.use(unread.at + this.#remaining);
    return true;
  }
}
