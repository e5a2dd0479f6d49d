// Frames on a byte stream: a 4-byte big-endian length, then that many bytes of JSON in UTF-8. Both ends of the local
// protocol (`wire.ts`) use it. It knows nothing of sockets: bytes in, messages out, and the other way round.

import { maxFrameBytes } from "./wire.ts";

const headerBytes = 4;
const encoder = new TextEncoder();
// `fatal`: a frame that is not UTF-8 is an error, not a frame with replacement characters.
const decoder = new TextDecoder("utf-8", { fatal: true });

/** One message as a frame. Throws a RangeError when it is larger than `limit` bytes. */
export function encodeFrame(message: unknown, limit: number = maxFrameBytes): Uint8Array {
  return encodeFrameText(JSON.stringify(message), limit);
}

/** As {@link encodeFrame}, for a message that is JSON already. */
export function encodeFrameText(text: string, limit: number = maxFrameBytes): Uint8Array {
  const body = encoder.encode(text);
  if (body.length > limit) throw new RangeError(`a frame of ${body.length} bytes is larger than ${limit}`);
  const frame = new Uint8Array(headerBytes + body.length);
  new DataView(frame.buffer).setUint32(0, body.length);
  frame.set(body, headerBytes);
  return frame;
}

/** Puts frames together again from the pieces a socket delivers. After an error it is of no more use: close the stream. */
export class FrameDecoder {
  readonly #limit: number;
  readonly #header = new Uint8Array(headerBytes);
  #headerFilled = 0;
  #body: Uint8Array | undefined;
  #bodyFilled = 0;

  constructor(limit: number = maxFrameBytes) {
    this.#limit = limit;
  }

  /**
   * The messages that `chunk` completes, in order. The chunk may be reused afterwards. Throws an Error when the stream
   * announces a frame above the limit, or when a frame is no JSON.
   */
  push(chunk: Uint8Array): unknown[] {
    const messages: unknown[] = [];
    let at = 0;
    for (;;) {
      if (!this.#body) {
        const take = Math.min(headerBytes - this.#headerFilled, chunk.length - at);
        this.#header.set(chunk.subarray(at, at + take), this.#headerFilled);
        this.#headerFilled += take;
        at += take;
        if (this.#headerFilled < headerBytes) return messages;
        const length = new DataView(this.#header.buffer).getUint32(0);
        if (length > this.#limit)
          throw new Error(`the peer announces a frame of ${length} bytes, above ${this.#limit}`);
        this.#body = new Uint8Array(length);
        this.#bodyFilled = 0;
      }
      const take = Math.min(this.#body.length - this.#bodyFilled, chunk.length - at);
      this.#body.set(chunk.subarray(at, at + take), this.#bodyFilled);
      this.#bodyFilled += take;
      at += take;
      if (this.#bodyFilled < this.#body.length) return messages;
      messages.push(JSON.parse(decoder.decode(this.#body)));
      this.#body = undefined;
      this.#headerFilled = 0;
    }
  }

  /** Whether the stream may end here: no half frame is held. */
  get idle(): boolean {
    return !this.#body && this.#headerFilled === 0;
  }
}
