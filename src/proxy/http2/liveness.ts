// Whether the peer of an HTTP/2 connection is still there, and does what every peer must: it is asked by PING when nothing was
// heard of it while streams are open, and it has to acknowledge our SETTINGS in time (RFC 9113 §6.5.3). Times are milliseconds.

import { turn } from "../wire.ts";

/** A peer of which nothing was heard for this long while streams are open is asked whether it is there. */
const quietLimit = 30_000;
/** How long it may then say nothing. */
const pingLimit = 20_000;
/** How long it may take to acknowledge our settings: as long as a quiet peer may be away. */
export const settingsLimit = quietLimit + pingLimit;

export class Liveness {
  readonly #began = turn.now;
  #heard = turn.now;
  #asked = false;
  #settled = false;

  /** Bytes have come. */
  heard(): void {
    this.#heard = turn.now;
    this.#asked = false;
  }

  /** Our settings were acknowledged. */
  settled(): void {
    this.#settled = true;
  }

  /** What is to be done now: `ask` is to be done by a PING, at once. */
  check(hasStreams: boolean): "gone" | "unsettled" | "ask" | undefined {
    const quiet = turn.now - this.#heard;
    if (hasStreams) {
      if (this.#asked && quiet > quietLimit + pingLimit) return "gone";
      if (!this.#asked && quiet >= quietLimit) {
        this.#asked = true;
        return "ask";
      }
    }
    return !this.#settled && turn.now - this.#began >= settingsLimit ? "unsettled" : undefined;
  }
}
