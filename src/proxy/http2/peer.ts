// The other end of an HTTP/2 connection for tests: it writes frames, right or wrong, and reads what comes back. Not a
// client: it has no opinion of what it is told to say.

import { HeaderBlock } from "../headers.ts";
import type { Wire } from "../wire.ts";
import { Flag, FrameType, frameHeader, preface } from "./frame.ts";
import { HpackDecoder } from "./hpack/decoder.ts";
import { HpackEncoder } from "./hpack/encoder.ts";
import { FieldSection } from "./hpack/section.ts";

export interface SeenFrame {
  readonly type: number;
  readonly flags: number;
  readonly id: number;
  readonly payload: Buffer;
}

/** A frame's bytes. */
export function frame(type: number, flags: number, id: number, payload: Uint8Array | string = ""): Buffer {
  const content = Buffer.from(payload as string);
  const head = Buffer.alloc(frameHeader);
  head.writeUIntBE(content.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, content]);
}

export function number(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** SETTINGS with pairs of name and value. */
export function settings(...pairs: readonly (readonly [number, number])[]): Buffer {
  const payload = Buffer.alloc(pairs.length * 6);
  pairs.forEach(([name, value], index) => {
    payload.writeUInt16BE(name, index * 6);
    payload.writeUInt32BE(value, index * 6 + 2);
  });
  return frame(FrameType.settings, 0, 0, payload);
}

export const settingsAck = frame(FrameType.settings, Flag.ack, 0);

/** The socket of the connection under test, and what it sent, frame by frame. */
export class Peer implements Wire {
  readonly frames: SeenFrame[] = [];
  /** Bytes that the kernel takes before it is full. */
  room = Number.POSITIVE_INFINITY;
  state: "open" | "ended" | "terminated" = "open";
  readonly #encoder = new HpackEncoder();
  readonly #decoder = new HpackDecoder();
  #bytes = Buffer.alloc(0);
  #expected: Buffer;
  #continued: Buffer = Buffer.alloc(0);
  /** Decoded heads in the order they came. */
  readonly heads: { id: number; fields: [string, string][]; end: boolean }[] = [];

  /** `server`: the connection under test is a client, and sends the preface first. */
  constructor(server = false) {
    this.#expected = server ? preface : Buffer.alloc(0);
  }

  write(data: Uint8Array, offset: number, length: number): number {
    const taken = Math.min(length, this.room);
    this.room -= taken;
    this.#bytes = Buffer.concat([this.#bytes, data.subarray(offset, offset + taken)]);
    this.#read();
    return taken;
  }

  #read(): void {
    if (this.#expected.length > 0 && this.#bytes.length >= this.#expected.length) {
      if (!this.#bytes.subarray(0, this.#expected.length).equals(this.#expected)) throw new Error("no preface");
      this.#bytes = this.#bytes.subarray(this.#expected.length);
      this.#expected = Buffer.alloc(0);
    }
    while (this.#bytes.length >= frameHeader) {
      const length = this.#bytes.readUIntBE(0, 3);
      if (this.#bytes.length < frameHeader + length) return;
      const seen = {
        type: this.#bytes[3]!,
        flags: this.#bytes[4]!,
        id: this.#bytes.readUInt32BE(5),
        payload: Buffer.from(this.#bytes.subarray(frameHeader, frameHeader + length)),
      };
      this.#bytes = this.#bytes.subarray(frameHeader + length);
      this.frames.push(seen);
      if (seen.type === FrameType.headers || seen.type === FrameType.continuation) this.#head(seen);
    }
  }

  #head({ id, flags, payload }: SeenFrame): void {
    this.#continued = Buffer.concat([this.#continued, payload]);
    if ((flags & Flag.endHeaders) === 0) return;
    const section = new FieldSection();
    section.begin(new HeaderBlock());
    const problem = this.#decoder.decode(this.#continued, 0, this.#continued.length, section);
    if (problem !== undefined) throw new Error(problem);
    section.finish();
    this.#continued = Buffer.alloc(0);
    const fields = section.headers.entries();
    for (const name of ["protocol", "path", "authority", "scheme", "method", "status"] as const) {
      const value = name === "path" && section.query !== undefined ? `${section.path}?${section.query}` : section[name];
      if (value !== "") fields.unshift([`:${name}`, value]);
    }
    this.heads.push({ id, fields, end: (flags & Flag.endStream) !== 0 });
  }

  pause(): void {}
  resume(): void {}
  end(): void {
    if (this.state === "open") this.state = "ended";
  }
  terminate(): void {
    this.state = "terminated";
  }

  /** A field block. */
  block(fields: Readonly<Record<string, string>> | readonly (readonly [string, string])[]): Buffer {
    this.#encoder.begin();
    const list = Array.isArray(fields) ? fields : Object.entries(fields);
    for (const [name, value] of list) this.#encoder.text(name, value);
    return Buffer.from(this.#encoder.block.subarray(0, this.#encoder.length));
  }

  headers(id: number, fields: Parameters<Peer["block"]>[0], endStream = true): Buffer {
    return frame(FrameType.headers, Flag.endHeaders | (endStream ? Flag.endStream : 0), id, this.block(fields));
  }

  /** Frames of one type that were seen. */
  of(type: number, id?: number): SeenFrame[] {
    return this.frames.filter((one) => one.type === type && (id === undefined || one.id === id));
  }

  /** The error of the GOAWAY that was seen last; undefined when there was none. */
  get goaway(): number | undefined {
    return this.of(FrameType.goaway).at(-1)?.payload.readUInt32BE(4);
  }

  /** The error with which a stream was reset. */
  reset(id: number): number | undefined {
    return this.of(FrameType.rstStream, id).at(-1)?.payload.readUInt32BE(0);
  }

  /** DATA of a stream as text. */
  text(id: number): string {
    return Buffer.concat(this.of(FrameType.data, id).map(({ payload }) => payload)).toString("latin1");
  }
}
