// Values of lines that are the same for all requests of a connection, as they stand in a line: addresses, server names, the backend.
// Written once they are copied, which costs a fifth of writing them. Each connection, to a client or to a backend, has its own.

import type { Wire } from "../wire.ts";
import type { Place } from "./access-record.ts";

/** Longer ones are written anew each time, so that a connection keeps little. Bytes. */
const mostKept = 512;

export class KeptValues {
  readonly #bytes: (Uint8Array | undefined)[] = [];
  #lines: object | undefined = undefined;
  #first: unknown = undefined;
  #second: unknown = undefined;
  #third: unknown = undefined;

  /**
   * Says what they follow from besides the connection, and whose `lines` they are for: what was kept for anything else is forgotten.
   */
  of(lines: object, first: unknown, second: unknown, third: unknown): void {
    if (this.#lines === lines && this.#first === first && this.#second === second && this.#third === third) return;
    this.#bytes.length = 0;
    this.#lines = lines;
    this.#first = first;
    this.#second = second;
    this.#third = third;
  }

  at(place: number): Uint8Array | undefined {
    return this.#bytes[place];
  }

  keep(place: number, line: Uint8Array, start: number, end: number): void {
    if (end - start > mostKept) return;
    while (this.#bytes.length < place) this.#bytes.push(undefined);
    // A Buffer's own `slice` copies nothing, and the line's bytes are the next line's.
    this.#bytes[place] = new Uint8Array(line.subarray(start, end));
  }
}

/** Of a connection to a backend. */
export class UpstreamValues extends KeptValues {
  /** From where it is connected to; undefined when that is not known. Asking is a system call. */
  readonly local: Place | undefined;

  constructor({ localAddress, localPort }: Wire) {
    super();
    this.local =
      localAddress === undefined || localPort === undefined ? undefined : { address: localAddress, port: localPort };
  }
}
