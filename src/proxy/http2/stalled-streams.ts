// The streams of a connection whose content waits for the peer's windows or for the kernel, and how they share what room there is.

import type { FrameOutput } from "./output.ts";
import type { Http2Stream } from "./stream.ts";

export class StalledStreams {
  readonly #output: FrameOutput;
  readonly #streams = new Set<Http2Stream>();
  #pumping = false;

  constructor(output: FrameOutput) {
    this.#output = output;
  }

  has(stream: Http2Stream): boolean {
    return this.#streams.has(stream);
  }

  add(stream: Http2Stream): void {
    this.#streams.add(stream);
  }

  delete(stream: Http2Stream): void {
    this.#streams.delete(stream);
  }

  clear(): void {
    this.#streams.clear();
  }

  /** Sends what waits, a frame of each stream in turn, as far as windows and the kernel permit, while the connection is open. */
  pump(connection: { readonly closed: boolean }): void {
    if (this.#pumping) return;
    this.#pumping = true;
    let moved = true;
    while (moved && this.#streams.size > 0 && !this.#output.blocked && !connection.closed) {
      moved = false;
      for (const stream of [...this.#streams]) if (stream.pump()) moved = true;
    }
    this.#pumping = false;
  }
}
