// Frames taken from a socket in small pieces, so that a large delivery does not hold up what else the process serves: some
// milliseconds of work at a time, the rest in later turns of the event loop, in order. While too much waits the socket is not read.

import { FrameDecoder } from "./frame.ts";

export interface FrameEvents {
  /** The next message, in order. */
  take(message: unknown): void;
  /** `take` threw, or what came is no frame. Nothing is taken any more. */
  failed(error: unknown): void;
  /** What could be taken in this turn was. */
  after?(): void;
}

/** Milliseconds of taking up in one turn. */
const slice = 1;
/** Bytes taken up before the time is looked at. */
const pieceBytes = 8 * 1024;
/** Bytes that may wait to be taken up; then the peer waits. */
const mostWaiting = 4 * 1024 * 1024;

export class FrameIntake {
  readonly #socket: { pause(): void; resume(): void };
  readonly #events: FrameEvents;
  readonly #decoder = new FrameDecoder();
  #waiting: Uint8Array[] = [];
  #bytes = 0;
  #paused = false;
  #scheduled = false;
  #ended = false;

  constructor(socket: { pause(): void; resume(): void }, events: FrameEvents) {
    this.#socket = socket;
    this.#events = events;
  }

  /** What the socket delivered; it may be reused afterwards. */
  push(chunk: Uint8Array): void {
    if (this.#ended) return;
    const copy = new Uint8Array(chunk);
    for (let at = 0; at < copy.length; at += pieceBytes) this.#waiting.push(copy.subarray(at, at + pieceBytes));
    this.#bytes += copy.length;
    if (!this.#paused && this.#bytes > mostWaiting) {
      this.#paused = true;
      this.#socket.pause();
    }
    if (!this.#scheduled) this.#work();
  }

  /** Nothing is taken any more. */
  end(): void {
    this.#ended = true;
    this.#waiting = [];
  }

  #work(): void {
    this.#scheduled = false;
    const end = performance.now() + slice;
    let at = 0;
    try {
      while (at < this.#waiting.length) {
        const piece = this.#waiting[at++]!;
        this.#bytes -= piece.length;
        for (const message of this.#decoder.push(piece)) {
          if (this.#ended) return;
          this.#events.take(message);
        }
        if (performance.now() >= end) break;
      }
    } catch (error) {
      this.end();
      this.#events.failed(error);
      return;
    }
    this.#waiting = this.#waiting.slice(at);
    this.#events.after?.();
    if (this.#paused && this.#bytes < mostWaiting / 2) {
      this.#paused = false;
      this.#socket.resume();
    }
    if (this.#waiting.length === 0 || this.#ended) return;
    this.#scheduled = true;
    setImmediate(() => this.#work());
  }
}
