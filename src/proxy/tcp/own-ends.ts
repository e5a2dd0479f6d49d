// Which ends are this process's own of what it relays: a client that speaks from one of them, to where that leads, is the proxy itself, and
// what it sends would go round in circles (a backend that is its listener, or one listener by way of another). Loops between several
// workers end where one meets itself. Not known are a relay with its client's address (original source), and loops
// by way of an address that somebody translates without telling (DNAT to a port that is not a transparent listener's).

import { unmapped } from "../../base/ip.ts";
import type { Destination } from "../listener/original-destination.ts";

/** One of the proxy's own, until it is let go of. */
export interface OwnEnd {
  readonly here: string;
  /** Where it leads; of a socket of datagrams it does not matter, because nobody else has its port. */
  readonly there: string | undefined;
}

const place = (address: string, port: number) => `${unmapped(address)} ${port}`;

export class OwnEnds {
  /** By the end here: one port may lead to several places. */
  readonly #ends = new Map<string, OwnEnd[]>();

  /** Of a socket towards an endpoint, once it is connected. */
  add(address: string, port: number, there?: Destination): OwnEnd {
    const end = { here: place(address, port), there: there && place(there.address, there.port) };
    const others = this.#ends.get(end.here);
    if (others) others.push(end);
    else this.#ends.set(end.here, [end]);
    return end;
  }

  delete(end: OwnEnd | undefined): void {
    const ends = end && this.#ends.get(end.here);
    const index = ends ? ends.indexOf(end) : -1;
    if (!ends || index < 0) return;
    ends.splice(index, 1);
    if (ends.length === 0) this.#ends.delete(end.here);
  }

  /** Whether a client is one of them. Where it wanted to go is only asked when it may be. */
  has(address: string, port: number, wanted?: () => Destination): boolean {
    const ends = this.#ends.size > 0 ? this.#ends.get(place(address, port)) : undefined;
    if (!ends) return false;
    const destination = wanted?.();
    const wish = destination && place(destination.address, destination.port);
    return ends.some(({ there }) => there === undefined || wish === undefined || there === wish);
  }
}
