// Which addresses and ports are this process's own ends of what it relays: a client that speaks from one of them is the proxy itself, and
// what it sends would go round in circles (a backend that is its listener, or one listener by way of another). Loops between several
// workers end where one meets itself. A relay with its client's address (original source) has no end here: that
// client may speak from the same port.

import { unmapped } from "../../base/ip.ts";

/** One of the proxy's own, until it is let go of. */
export type OwnEnd = string;

export class OwnEnds {
  readonly #ends = new Set<OwnEnd>();

  /** Of a socket towards an endpoint, once it is connected. */
  add(address: string, port: number): OwnEnd {
    const end = `${unmapped(address)} ${port}`;
    this.#ends.add(end);
    return end;
  }

  delete(end: OwnEnd | undefined): void {
    if (end !== undefined) this.#ends.delete(end);
  }

  /** Whether a client is one of them. */
  has(address: string, port: number): boolean {
    return this.#ends.size > 0 && this.#ends.has(`${unmapped(address)} ${port}`);
  }
}
