// The outgoing side of an HTTP/2 connection. Frames of all its streams gather in one buffer and leave together, after all socket
// events that the event loop had at hand: the answers of many backends to one client then cost one system call and one TLS
// record. What the kernel does not take waits here, and nobody adds DATA to it meanwhile.

import type { UpstreamValues } from "../telemetry/kept-values.ts";
import { turn, type Wire } from "../wire.ts";
import { Flag, FrameType, frameHeader } from "./frame.ts";

const bufferBytes = 32 * 1024;
/** More than this is sent at once, without waiting for the turn's end. */
const flushBytes = 128 * 1024;
/** A peer that lets this much of our control frames wait is cut off. */
const maxBacklog = 1024 * 1024;
/** Where bodies gather. */
const largeBytes = flushBytes + 32 * 1024;
/** Buffers of either size that are kept for the next connection that writes. */
const maxSpare = 16;
const maxLargeSpare = 4;
const spare: Buffer[] = [];
const largeSpare: Buffer[] = [];

function takeBuffer(length: number): Buffer {
  if (length <= bufferBytes) return spare.pop() ?? Buffer.allocUnsafeSlow(bufferBytes);
  if (length <= largeBytes) return largeSpare.pop() ?? Buffer.allocUnsafeSlow(largeBytes);
  return Buffer.allocUnsafeSlow(2 * length);
}

function giveBuffer(buffer: Buffer): void {
  if (buffer.length === bufferBytes && spare.length < maxSpare) spare.push(buffer);
  else if (buffer.length === largeBytes && largeSpare.length < maxLargeSpare) largeSpare.push(buffer);
}

let dirty: FrameOutput[] = [];
let scheduled = false;

/** Sends what all connections have gathered. */
export function flushFrames(): void {
  scheduled = false;
  while (dirty.length > 0) {
    const outputs = dirty;
    dirty = [];
    for (let index = 0; index < outputs.length; index++) {
      try {
        outputs[index]!.flush();
      } catch {
        // A socket that breaks in its write closes by itself, and must not cost the others theirs.
        outputs[index]!.wire.terminate();
      }
    }
  }
}

function flushSoon(): void {
  turn.now = turn.source();
  flushFrames();
}

export class FrameOutput {
  readonly wire: Wire;
  /** Of one to a backend: what lines of logs keep of it. */
  told: UpstreamValues | undefined = undefined;
  closed = false;
  /** How often the buffer was sent: a place in it is only good while this stays. */
  generation = 0;
  #buffer: Buffer | undefined;
  #filled = 0;
  #dirty = false;
  /** Taken from the buffer and not yet taken by the kernel. */
  #backlog: Buffer[] = [];
  #backlogBytes = 0;
  #endAfter = false;

  constructor(wire: Wire) {
    this.wire = wire;
  }

  /** The peer or the kernel does not keep up: no DATA now. */
  get blocked(): boolean {
    return this.#backlogBytes > 0;
  }

  /** Bytes that wait for the peer are more than it may let wait. */
  get overflows(): boolean {
    return this.#backlogBytes > 0 && this.#backlogBytes + this.#filled > maxBacklog;
  }

  /** Room for `length` bytes; returns where they go in {@link buffer}. */
  #reserve(length: number): number {
    if (this.#filled + length > flushBytes && this.#filled > 0 && !this.blocked) this.flush();
    const buffer = this.#buffer;
    if (buffer === undefined) this.#buffer = takeBuffer(length);
    else if (this.#filled + length > buffer.length) {
      const larger = takeBuffer(this.#filled + length);
      buffer.copy(larger, 0, 0, this.#filled);
      giveBuffer(buffer);
      this.#buffer = larger;
    }
    if (!this.#dirty) {
      this.#dirty = true;
      dirty.push(this);
      if (!scheduled) {
        scheduled = true;
        setImmediate(flushSoon);
      }
    }
    const at = this.#filled;
    this.#filled = at + length;
    return at;
  }

  #header(type: number, flags: number, id: number, length: number): number {
    const at = this.#reserve(frameHeader + length);
    const buffer = this.#buffer!;
    buffer[at] = length >>> 16;
    buffer[at + 1] = length >>> 8;
    buffer[at + 2] = length;
    buffer[at + 3] = type;
    buffer[at + 4] = flags;
    buffer[at + 5] = id >>> 24;
    buffer[at + 6] = id >>> 16;
    buffer[at + 7] = id >>> 8;
    buffer[at + 8] = id;
    return at + frameHeader;
  }

  /** A frame with the bytes from `start` to `end`. Returns where it lies in the buffer, for {@link endStreamAt}. */
  frame(type: number, flags: number, id: number, bytes: Buffer, start: number, end: number): number {
    if (this.closed) return -1;
    const at = this.#header(type, flags, id, end - start);
    const buffer = this.#buffer!;
    const length = end - start;
    if (length < 24) for (let offset = 0; offset < length; offset++) buffer[at + offset] = bytes[start + offset]!;
    else bytes.copy(buffer, at, start, end);
    return at - frameHeader;
  }

  /** SETTINGS of these names and values. */
  settings(list: readonly (readonly [number, number])[]): void {
    const bytes = Buffer.alloc(list.length * 6);
    list.forEach(([name, value], index) => {
      bytes.writeUInt16BE(name, index * 6);
      bytes.writeUInt32BE(value, index * 6 + 2);
    });
    this.frame(FrameType.settings, 0, 0, bytes, 0, bytes.length);
  }

  /** GOAWAY; `what` is for whoever looks for the cause, in ASCII. */
  goaway(last: number, code: number, what = ""): void {
    const bytes = Buffer.alloc(8 + what.length);
    bytes.writeUInt32BE(last, 0);
    bytes.writeUInt32BE(code, 4);
    bytes.write(what, 8, "latin1");
    this.frame(FrameType.goaway, 0, 0, bytes, 0, bytes.length);
  }

  /** A frame of numbers of four bytes. */
  numbers(type: number, flags: number, id: number, first: number, second?: number): void {
    if (this.closed) return;
    const at = this.#header(type, flags, id, second === undefined ? 4 : 8);
    this.#buffer!.writeUInt32BE(first >>> 0, at);
    if (second !== undefined) this.#buffer!.writeUInt32BE(second >>> 0, at + 4);
  }

  raw(bytes: Buffer): void {
    if (this.closed) return;
    const at = this.#reserve(bytes.length);
    bytes.copy(this.#buffer!, at);
  }

  /** Makes the frame at a place of this generation the last of its stream. */
  endStreamAt(at: number): void {
    this.#buffer![at + 4]! |= Flag.endStream;
  }

  flush(): void {
    this.#dirty = false;
    const buffer = this.#buffer;
    if (buffer === undefined || this.closed) return;
    const length = this.#filled;
    this.#filled = 0;
    this.generation++;
    let taken = 0;
    if (this.#backlogBytes === 0) {
      const given = this.wire.give?.(buffer.subarray(0, length), () => giveBuffer(buffer)) === true;
      if (!given) taken = Math.max(0, this.wire.write(buffer, 0, length));
      if (given || taken >= length) {
        if (!given) giveBuffer(buffer);
        this.#buffer = undefined;
        if (this.#endAfter) this.wire.end();
        return;
      }
    }
    this.#buffer = undefined;
    this.#backlog.push(buffer.subarray(taken, length));
    this.#backlogBytes += length - taken;
  }

  /** To be called on the socket's drain event. True: everything has been taken. */
  drain(): boolean {
    if (this.closed) return false;
    let index = 0;
    for (; index < this.#backlog.length; index++) {
      const bytes = this.#backlog[index]!;
      const taken = Math.max(0, this.wire.write(bytes, 0, bytes.length));
      this.#backlogBytes -= taken;
      if (taken < bytes.length) {
        this.#backlog[index] = bytes.subarray(taken);
        break;
      }
    }
    this.#backlog.splice(0, index);
    if (this.#backlogBytes > 0) return false;
    this.flush();
    if (this.#endAfter && !this.blocked) this.wire.end();
    return !this.blocked;
  }

  /** Closes the connection when all that was written has been sent. */
  endAfterFlush(): void {
    if (this.closed || this.#endAfter) return;
    this.#endAfter = true;
    if (this.#filled > 0) this.flush();
    else if (!this.blocked) this.wire.end();
  }

  /** Drops what waits. */
  discard(): void {
    this.closed = true;
    this.#backlog = [];
    this.#backlogBytes = 0;
    this.#buffer = undefined;
    this.#filled = 0;
  }
}
