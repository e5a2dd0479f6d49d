// A connected byte stream as the codecs use it, and the outgoing side that they share: parts written in one turn of the event
// loop are joined into one system call, what the kernel does not take waits in a bounded backlog, and the writer is told to
// wait. Bun's sockets are a `Wire` as they are; TLS ones are adapted in `listener/tls.ts`.

import { Deadline } from "./deadlines.ts";

export interface Wire {
  /** How many bytes were taken; less than given: wait for the drain event. */
  write(data: Uint8Array, offset: number, length: number): number;
  pause(): void;
  resume(): void;
  /** Closes after what was taken has been sent. */
  end(): void;
  /** Closes at once; the peer sees a reset. */
  terminate(): void;
}

/** Parts up to this size are copied together; larger ones are handed to the kernel where they are. */
const joinBytes = 16 * 1024;
const scratch = Buffer.allocUnsafeSlow(128 * 1024);

let dirty: Outlet[] = [];
let spare: Outlet[] = [];
let inTurn = false;

/** Runs a socket event: all that it writes, on whatever connection, goes out at its end. */
export function beginTurn(): void {
  inTurn = true;
}

export function endTurn(): void {
  inTurn = false;
  flushDirty();
}

/** Sends what was written outside of socket events (timers, configuration). */
export function flushDirty(): void {
  while (dirty.length > 0) {
    const now = dirty;
    dirty = spare;
    for (let index = 0; index < now.length; index++) now[index]!.flush();
    now.length = 0;
    spare = now;
  }
}

/** The outgoing side of a connection. A connection is its own idle deadline. */
export abstract class Outlet extends Deadline {
  wire: Wire;
  /** No more events come and writes go nowhere. */
  closed = false;
  readonly #parts: (string | Uint8Array)[] = [];
  #backlog: Uint8Array[] = [];
  #backlogBytes = 0;
  #endAfter = false;

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

  /** Text is Latin-1. The part is sent at the end of the turn. */
  put(part: string | Uint8Array): void {
    if (this.closed) return;
    if (this.#parts.push(part) === 1) {
      if (dirty.push(this) === 1 && !inTurn) queueMicrotask(flushDirty);
    }
  }

  /** Closes the connection when all that was put has been sent. */
  endAfterFlush(): void {
    if (this.closed) return;
    this.#endAfter = true;
    if (this.#parts.length === 0 && this.#backlogBytes === 0) this.wire.end();
  }

  flush(): void {
    const parts = this.#parts;
    if (parts.length === 0) return;
    if (this.closed) {
      parts.length = 0;
      return;
    }
    let filled = 0;
    for (let index = 0; index < parts.length; index++) {
      let part = parts[index]!;
      if (typeof part === "string") {
        if (part.length <= scratch.length - filled) {
          filled += scratch.latin1Write(part, filled);
          continue;
        }
        part = Buffer.from(part, "latin1");
      }
      if (part.length <= joinBytes && part.length <= scratch.length - filled) {
        scratch.set(part, filled);
        filled += part.length;
        continue;
      }
      if (filled > 0) this.#send(scratch, filled, true);
      filled = 0;
      this.#send(part, part.length, false);
    }
    parts.length = 0;
    if (filled > 0) this.#send(scratch, filled, true);
    if (this.#endAfter && this.#backlogBytes === 0) this.wire.end();
  }

  #send(bytes: Uint8Array, length: number, borrowed: boolean): void {
    let taken = 0;
    if (this.#backlogBytes === 0) {
      taken = this.wire.write(bytes, 0, length);
      if (taken >= length) return;
      if (taken < 0) taken = 0;
    }
    const rest = bytes.subarray(taken, length);
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
    if (this.#endAfter) this.wire.end();
    else this.drained();
  }

  /** Drops what waits. */
  protected discard(): void {
    this.closed = true;
    this.#parts.length = 0;
    this.#backlog = [];
    this.#backlogBytes = 0;
  }
}
