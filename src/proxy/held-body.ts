// What came of a request's body while its filters wait: held until the request passes, given to the handler that asks to read it, or
// thrown away. What it may grow to is bounded; beyond that its sender is held back. Not a stage: those come behind the filters.

import type { BodySink } from "./exchange.ts";
import type { HeaderBlock } from "./headers.ts";

/** Bytes that are kept while filters wait, unless one asks for more. */
const maxHeld = 64 * 1024;

interface Reading {
  readonly bytes: number;
  readonly then: (chunks: readonly Buffer[], whole: boolean) => void;
}

const noChunks: Buffer[] = [];

export class HeldBody {
  #chunks: Buffer[] = noChunks;
  #bytes = 0;
  #ended = false;
  #trailers: HeaderBlock | undefined = undefined;
  #reading: Reading | undefined = undefined;
  /** The sender was told to wait. */
  #holding = false;

  /** False: no more until it is drained, or read. */
  push(chunk: Buffer, start: number, end: number): boolean {
    if (this.#chunks === noChunks) this.#chunks = [];
    this.#chunks.push(chunk.subarray(start, end));
    this.#bytes += end - start;
    if (this.#reading && this.#bytes > this.#reading.bytes) this.#read(false);
    if (this.#bytes < (this.#reading ? Math.max(maxHeld, this.#reading.bytes + 1) : maxHeld)) return true;
    this.#holding = true;
    return false;
  }

  end(trailers: HeaderBlock | undefined): void {
    this.#ended = true;
    this.#trailers = trailers;
    if (this.#reading) this.#read(true);
  }

  /** Calls `then` once with up to `bytes` of it. True: not yet, more is needed. `none`: there is no body. */
  read(bytes: number, none: boolean, then: Reading["then"]): boolean {
    this.#reading = { bytes, then };
    if (this.#ended || none) this.#read(true);
    else if (this.#bytes > bytes) this.#read(false);
    else return true;
    return false;
  }

  /** Whether its sender was told to wait, which is over now. */
  release(): boolean {
    const holding = this.#holding;
    this.#holding = false;
    return holding;
  }

  #read(whole: boolean): void {
    const reading = this.#reading!;
    this.#reading = undefined;
    reading.then(this.#chunks, whole);
  }

  /** Hands it on, until `over` says that nobody wants it any more. True: the sender, which was told to wait, may go on. */
  passTo(sink: BodySink, over: () => boolean): boolean {
    const chunks = this.#chunks;
    this.#forget();
    let goOn = true;
    for (const chunk of chunks) {
      if (over()) return false;
      goOn = sink.write(chunk, 0, chunk.length);
    }
    if (over()) return false;
    const waits = this.release();
    if (!this.#ended) return waits && goOn;
    sink.end(this.#trailers);
    return false;
  }

  /** Nobody wants it. */
  drop(): void {
    this.#reading = undefined;
    this.#forget();
  }

  #forget(): void {
    this.#chunks = noChunks;
    this.#bytes = 0;
  }
}
