// A connected byte stream as the codecs use it, and the outgoing side that they share. What is written in one turn of the event
// loop is joined in one buffer and leaves in one system call; what the kernel does not take waits in a backlog, and the writer
// is told to wait. Bun's sockets are a `Wire` as they are; TLS ones are adapted in `listener/stream.ts`.

import { Deadline } from "./deadlines.ts";
import type { UpstreamValues } from "./telemetry/kept-values.ts";

export interface Wire {
  /** How many bytes were taken; less than given: wait for the drain event. */
  write(data: Uint8Array, offset: number, length: number): number;
  /** Takes all of these bytes or (false) none, which are its own until `done`; only where `write` would have to copy them. */
  give?(bytes: Uint8Array, done?: () => void): boolean;
  pause(): void;
  resume(): void;
  /** Closes after what was taken has been sent. */
  end(): void;
  /** Sends no more after that, and still reads; absent where that cannot be. */
  shutdown?(): void;
  /** Closes at once; the peer sees a reset. */
  terminate(): void;
  /** Its address here; undefined when it is closed, or not known. */
  readonly localAddress?: string | undefined;
  readonly localPort?: number | undefined;
  /** Its file descriptor, where it has one. */
  readonly fd?: number;
}

/** Larger pieces are handed to the kernel where they are instead of being copied together. */
const joinBytes = 16 * 1024;
/** Up to here a loop costs less than the call that copies. */
const shortBytes = 16;
/** The buffer in which one connection at a time gathers what it sends: that of `owner`. */
const scratch = Buffer.allocUnsafeSlow(128 * 1024);
let filled = 0;
let owner: Outlet | undefined;

/**
 * The turn of the event loop: `now` is taken once at its beginning, in milliseconds with fractions, from where only
 * differences matter. `source` is replaced in tests.
 */
export const turn = { now: performance.now(), source: (): number => performance.now(), running: false };

/** Runs a socket event: all that it writes, on whatever connection, goes out at its end. */
export function beginTurn(): void {
  turn.running = true;
  turn.now = turn.source();
}

export function endTurn(): void {
  turn.running = false;
  if (owner !== undefined) flushWritten();
}

/** What comes of a timer or a promise is a turn of its own, if none is under way. */
export function inTurn(run: () => void): void {
  if (turn.running) {
    run();
    return;
  }
  beginTurn();
  run();
  endTurn();
}

/** Sends what was written outside of socket events (timers, configuration). */
export function flushWritten(): void {
  owner?.flush();
}

/** The outgoing side of a connection. A connection is its own deadline. */
export abstract class Outlet extends Deadline {
  readonly wire: Wire;
  /** Of one to a backend: what lines of logs keep of it. */
  told: UpstreamValues | undefined = undefined;
  /** No more events come and writes go nowhere. */
  closed = false;
  #backlog: Uint8Array[] = [];
  #backlogBytes = 0;
  #endAfter: "no" | "both" | "half" = "no";

  constructor(wire: Wire) {
    super();
    this.wire = wire;
  }

  /** Called when a backlog has gone out. */
  protected abstract drained(): void;

  /** Bytes that wait for the peer. */
  get queued(): number {
    return this.#backlogBytes;
  }

  /** Makes this the connection that the buffer gathers for, with room for `length` bytes. */
  #open(length: number): void {
    if (owner === this) {
      if (filled + length > scratch.length) this.flush();
    } else {
      owner?.flush();
      if (!turn.running) queueMicrotask(flushWritten);
    }
    owner = this;
  }

  /** Latin-1 text, sent at the end of the turn. */
  text(text: string): void {
    if (this.closed) return;
    if (text.length > joinBytes) {
      this.bytes(Buffer.from(text, "latin1"), 0, text.length);
      return;
    }
    const { length } = text;
    this.#open(length);
    if (length > shortBytes) filled += scratch.latin1Write(text, filled);
    else {
      const at = filled;
      for (let index = 0; index < length; index++) scratch[at + index] = text.charCodeAt(index);
      filled = at + length;
    }
  }

  /** The bytes from `start` to `end`, sent at the end of the turn, or at once when they are many. The buffer is ours from now on. */
  bytes(chunk: Buffer, start: number, end: number): void {
    if (this.closed) return;
    const length = end - start;
    if (length <= joinBytes) {
      this.#open(length);
      if (length > shortBytes) chunk.copy(scratch, filled, start, end);
      else for (let index = 0; index < length; index++) scratch[filled + index] = chunk[start + index]!;
      filled += length;
      return;
    }
    // So that the writer learns at once whether the peer keeps up.
    this.#open(0);
    this.flush();
    this.#send(chunk, start, length, false);
  }

  /** Closes the connection when all that was written has been sent; `half`: only our side of it, where the wire can. */
  endAfterFlush(half = false): void {
    if (this.closed) return;
    this.#endAfter = half ? "half" : "both";
    if (owner === this) this.flush();
    else if (this.#backlogBytes === 0) this.#endWire();
  }

  #endWire(): void {
    if (this.#endAfter === "half" && this.wire.shutdown) this.wire.shutdown();
    else this.wire.end();
  }

  flush(): void {
    if (owner !== this) return;
    const length = filled;
    owner = undefined;
    filled = 0;
    if (this.closed) return;
    if (length > 0) this.#send(scratch, 0, length, true);
    if (this.#endAfter !== "no" && this.#backlogBytes === 0) this.#endWire();
  }

  #send(bytes: Buffer, start: number, length: number, borrowed: boolean): void {
    let taken = 0;
    if (this.#backlogBytes === 0) {
      if (!borrowed && this.wire.give?.(bytes.subarray(start, start + length))) return;
      taken = this.wire.write(bytes, start, length);
      if (taken >= length) return;
      if (taken < 0) taken = 0;
    }
    const rest = bytes.subarray(start + taken, start + length);
    this.#backlog.push(borrowed ? new Uint8Array(rest) : rest);
    this.#backlogBytes += rest.length;
  }

  /** To be called on the socket's drain event. */
  onDrain(): void {
    if (this.#backlogBytes === 0 || this.closed) return;
    const backlog = this.#backlog;
    let index = 0;
    while (index < backlog.length) {
      const bytes = backlog[index]!;
      const taken = Math.max(0, this.wire.write(bytes, 0, bytes.length));
      this.#backlogBytes -= taken;
      if (taken < bytes.length) {
        backlog[index] = bytes.subarray(taken);
        break;
      }
      index++;
    }
    this.#backlog = index === 0 ? backlog : backlog.slice(index);
    if (this.#backlogBytes > 0) return;
    if (this.#endAfter !== "no") this.#endWire();
    else this.drained();
  }

  /** Drops what waits. */
  protected discard(): void {
    this.closed = true;
    if (owner === this) {
      owner = undefined;
      filled = 0;
    }
    this.#backlog = [];
    this.#backlogBytes = 0;
  }
}
