// Frames out of bytes as they come (RFC 9113 §4, §6): the checks that need no more than the frame itself (lengths, stream
// numbers, padding, the order of header blocks), and header blocks put together again. DATA is passed on as it arrives, without
// waiting for the end of the frame; nothing is copied but what the end of a read has cut in two.

import { defaultFrameSize, ErrorCode, Flag, FrameType, frameHeader } from "./frame.ts";

/** Who takes the frames. */
export interface FrameSink {
  /** No more frames are wanted. */
  readonly closed: boolean;
  /** A frame's header was read: at the first one, it must be SETTINGS. False stops reading. */
  frameBegins(type: number, flags: number): boolean;
  /**
   * A frame of DATA with its whole length, padding included, which flow control counts, and that of its content. False: skip
   * what follows of it.
   */
  dataBegins(id: number, length: number, content: number, last: boolean): boolean;
  /** A part of its content; `last` with END_STREAM. */
  data(id: number, bytes: Buffer, start: number, end: number, last: boolean): void;
  /** A whole field block. */
  headers(id: number, bytes: Buffer, start: number, end: number, endStream: boolean, dependsOnItself: boolean): void;
  priority(id: number, dependsOnItself: boolean): void;
  reset(id: number, code: number): void;
  settings(bytes: Buffer, start: number, end: number): void;
  settingsAcknowledged(): void;
  ping(bytes: Buffer, start: number, acknowledges: boolean): void;
  goaway(last: number, code: number): void;
  windowUpdate(id: number, increment: number): void;
  /** The frame cannot be accepted: an error of the connection, or with `id` of a stream. */
  frameError(code: number, what: string, id?: number): void;
}

/** Largest encoded field block, and most frames that it may come in (CVE-2024-27316 and its like). */
const maxBlock = 128 * 1024;
const maxContinuations = 32;

export class FrameReader {
  readonly #sink: FrameSink;
  /** Bytes before the first frame that must be these. */
  #expected: Buffer | undefined;
  #expectedAt = 0;
  /** What a read has cut off. */
  #rest: Buffer | undefined;
  /** In the middle of a frame of DATA: its stream, what is left of its content and of its padding, and its flag. */
  #dataId = 0;
  #dataLeft = 0;
  #padLeft = 0;
  #dataLast = false;
  #dataWanted = false;
  /** In the middle of a field block: its stream, or 0. */
  #blockId = 0;
  #block: Buffer[] = [];
  #blockBytes = 0;
  #blockEnds = false;
  #blockDependsOnItself = false;

  /** `expected`: what a server's peer must send before anything else. */
  constructor(sink: FrameSink, expected: Buffer | undefined) {
    this.#sink = sink;
    this.#expected = expected;
  }

  /** A frame or field block has begun and is not complete. */
  get inside(): boolean {
    return this.#rest !== undefined || this.#blockId !== 0 || this.#expected !== undefined;
  }

  push(chunk: Buffer): void {
    let bytes = chunk;
    let at = 0;
    if (this.#expected !== undefined) {
      const expected = this.#expected;
      while (at < bytes.length && this.#expectedAt < expected.length) {
        if (bytes[at++] !== expected[this.#expectedAt++]) {
          this.#sink.frameError(ErrorCode.protocolError, "the connection does not begin with the preface of HTTP/2");
          return;
        }
      }
      if (this.#expectedAt < expected.length) return;
      this.#expected = undefined;
    }
    if (this.#rest !== undefined) {
      bytes = Buffer.concat([this.#rest, bytes]);
      this.#rest = undefined;
    }
    const sink = this.#sink;
    while (at < bytes.length && !sink.closed) {
      if (this.#dataLeft > 0 || this.#padLeft > 0) {
        at = this.#goOnWithData(bytes, at);
        continue;
      }
      const left = bytes.length - at;
      if (left < frameHeader) break;
      const length = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
      if (length > defaultFrameSize) {
        sink.frameError(ErrorCode.frameSizeError, "a frame is larger than SETTINGS_MAX_FRAME_SIZE");
        return;
      }
      const type = bytes[at + 3]!;
      if (type === FrameType.data) {
        // The padding's length stands before the content.
        if (left < frameHeader + 1 && (bytes[at + 4]! & Flag.padded) !== 0 && length > 0) break;
        at = this.#beginData(bytes, at, length);
        if (at < 0) return;
        continue;
      }
      if (left < frameHeader + length) break;
      this.#frame(bytes, at, type, length);
      at += frameHeader + length;
    }
    if (at < bytes.length && !sink.closed) this.#rest = bytes.subarray(at);
  }

  /** Returns where to go on, or -1. */
  #beginData(bytes: Buffer, at: number, length: number): number {
    const sink = this.#sink;
    const flags = bytes[at + 4]!;
    const id = streamId(bytes, at + 5);
    if (!this.#begins(FrameType.data, flags, id)) return -1;
    if (id === 0) {
      sink.frameError(ErrorCode.protocolError, "DATA on stream 0");
      return -1;
    }
    let start = at + frameHeader;
    let padding = 0;
    if ((flags & Flag.padded) !== 0) {
      padding = length > 0 ? bytes[start]! : 0;
      if (padding >= length) {
        sink.frameError(
          length > 0 ? ErrorCode.protocolError : ErrorCode.frameSizeError,
          "padding is as long as its frame",
        );
        return -1;
      }
      start++;
    }
    this.#dataId = id;
    this.#dataLast = (flags & Flag.endStream) !== 0;
    this.#dataLeft = length - padding - ((flags & Flag.padded) !== 0 ? 1 : 0);
    this.#padLeft = padding;
    this.#dataWanted = sink.dataBegins(id, length, this.#dataLeft, this.#dataLast);
    if (this.#dataLeft === 0) this.#passData(bytes, start, start);
    return start;
  }

  #goOnWithData(bytes: Buffer, at: number): number {
    const take = Math.min(this.#dataLeft, bytes.length - at);
    if (take > 0) {
      this.#dataLeft -= take;
      this.#passData(bytes, at, at + take);
      return at + take;
    }
    const skip = Math.min(this.#padLeft, bytes.length - at);
    this.#padLeft -= skip;
    return at + skip;
  }

  #passData(bytes: Buffer, start: number, end: number): void {
    if (this.#dataWanted) this.#sink.data(this.#dataId, bytes, start, end, this.#dataLast && this.#dataLeft === 0);
  }

  #begins(type: number, flags: number, id: number): boolean {
    if (this.#blockId !== 0 && (type !== FrameType.continuation || id !== this.#blockId)) {
      this.#sink.frameError(ErrorCode.protocolError, "a field block is interrupted by another frame");
      return false;
    }
    return this.#sink.frameBegins(type, flags);
  }

  #frame(bytes: Buffer, at: number, type: number, length: number): void {
    const sink = this.#sink;
    const flags = bytes[at + 4]!;
    const id = streamId(bytes, at + 5);
    if (!this.#begins(type, flags, id)) return;
    const start = at + frameHeader;
    const end = start + length;
    switch (type) {
      case FrameType.headers:
        if (id === 0) sink.frameError(ErrorCode.protocolError, "HEADERS on stream 0");
        else this.#headers(bytes, start, end, flags, id);
        break;
      case FrameType.continuation:
        if (this.#blockId === 0) sink.frameError(ErrorCode.protocolError, "CONTINUATION without HEADERS");
        else this.#addToBlock(bytes, start, end, (flags & Flag.endHeaders) !== 0);
        break;
      case FrameType.priority:
        if (id === 0) sink.frameError(ErrorCode.protocolError, "PRIORITY on stream 0");
        else if (length !== 5) sink.frameError(ErrorCode.frameSizeError, "PRIORITY has another length than 5", id);
        else sink.priority(id, streamId(bytes, start) === id);
        break;
      case FrameType.rstStream:
        if (id === 0) sink.frameError(ErrorCode.protocolError, "RST_STREAM on stream 0");
        else if (length !== 4) sink.frameError(ErrorCode.frameSizeError, "RST_STREAM has another length than 4");
        else sink.reset(id, bytes.readUInt32BE(start));
        break;
      case FrameType.settings:
        if (id !== 0) sink.frameError(ErrorCode.protocolError, "SETTINGS on a stream");
        else if ((flags & Flag.ack) !== 0) {
          if (length !== 0) sink.frameError(ErrorCode.frameSizeError, "an acknowledgement of SETTINGS with content");
          else sink.settingsAcknowledged();
        } else if (length % 6 !== 0) sink.frameError(ErrorCode.frameSizeError, "SETTINGS are no multiple of 6 long");
        else sink.settings(bytes, start, end);
        break;
      case FrameType.pushPromise:
        sink.frameError(ErrorCode.protocolError, "PUSH_PROMISE, which nobody asked for");
        break;
      case FrameType.ping:
        if (id !== 0) sink.frameError(ErrorCode.protocolError, "PING on a stream");
        else if (length !== 8) sink.frameError(ErrorCode.frameSizeError, "PING has another length than 8");
        else sink.ping(bytes, start, (flags & Flag.ack) !== 0);
        break;
      case FrameType.goaway:
        if (id !== 0) sink.frameError(ErrorCode.protocolError, "GOAWAY on a stream");
        else if (length < 8) sink.frameError(ErrorCode.frameSizeError, "GOAWAY is shorter than 8");
        else sink.goaway(streamId(bytes, start), bytes.readUInt32BE(start + 4));
        break;
      case FrameType.windowUpdate: {
        if (length !== 4) {
          sink.frameError(ErrorCode.frameSizeError, "WINDOW_UPDATE has another length than 4");
          break;
        }
        const increment = streamId(bytes, start);
        if (increment > 0) sink.windowUpdate(id, increment);
        else if (id === 0) sink.frameError(ErrorCode.protocolError, "WINDOW_UPDATE of 0");
        else sink.frameError(ErrorCode.protocolError, "WINDOW_UPDATE of 0", id);
        break;
      }
      default:
      // Unknown types are ignored (RFC 9113 §4.1).
    }
  }

  #headers(bytes: Buffer, from: number, to: number, flags: number, id: number): void {
    let start = from;
    let end = to;
    if ((flags & Flag.padded) !== 0) {
      if (start === end) {
        this.#sink.frameError(ErrorCode.frameSizeError, "HEADERS without its padding's length");
        return;
      }
      end -= bytes[start]!;
      start++;
    }
    let dependsOnItself = false;
    if ((flags & Flag.priority) !== 0) {
      if (end - start >= 5) dependsOnItself = streamId(bytes, start) === id;
      start += 5;
    }
    if (start > end) {
      this.#sink.frameError(ErrorCode.protocolError, "padding or priority does not fit into HEADERS");
      return;
    }
    const endStream = (flags & Flag.endStream) !== 0;
    if ((flags & Flag.endHeaders) !== 0) {
      this.#sink.headers(id, bytes, start, end, endStream, dependsOnItself);
      return;
    }
    this.#blockId = id;
    this.#blockEnds = endStream;
    this.#blockDependsOnItself = dependsOnItself;
    this.#block = [];
    this.#blockBytes = 0;
    this.#addToBlock(bytes, start, end, false);
  }

  #addToBlock(bytes: Buffer, start: number, end: number, last: boolean): void {
    this.#blockBytes += end - start;
    if (this.#blockBytes > maxBlock || this.#block.length > maxContinuations) {
      this.#sink.frameError(ErrorCode.enhanceYourCalm, "a field block without end");
      return;
    }
    // A copy: the piece may be a few bytes of a large read.
    this.#block.push(Buffer.from(bytes.subarray(start, end)));
    if (!last) return;
    const block = Buffer.concat(this.#block);
    const id = this.#blockId;
    this.#block = [];
    this.#blockId = 0;
    this.#sink.headers(id, block, 0, block.length, this.#blockEnds, this.#blockDependsOnItself);
  }
}

/** 31 bits; the first is reserved. */
function streamId(bytes: Buffer, at: number): number {
  return ((bytes[at]! & 0x7f) << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}
