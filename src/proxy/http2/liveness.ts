// Whether the peer of an HTTP/2 connection is still there, and does what every peer must: it is asked by PING when nothing was
// heard of it while streams are open, and it has to acknowledge our SETTINGS in time (RFC 9113 §6.5.3). Times are milliseconds.

import type { Http2Keepalive } from "../../model/upstream-policies.ts";
import { turn } from "../wire.ts";

/** A peer of which nothing was heard for this long while streams are open is asked whether it is there. */
const quietLimit = 30_000;
/** How long it may then say nothing. */
const pingLimit = 20_000;
/** How long it may take to acknowledge our settings: as long as a quiet peer may be away. */
export const settingsLimit = quietLimit + pingLimit;

const unasked: Http2Keepalive = { interval: quietLimit, timeout: pingLimit };

export class Liveness {
  readonly #began = turn.now;
  #heard = turn.now;
  /** Since when it has not answered; undefined: it is not asked. */
  #asked: number | undefined = undefined;
  #settled = false;

  /** Bytes have come. */
  heard(): void {
    this.#heard = turn.now;
    this.#asked = undefined;
  }

  /** Our settings were acknowledged. */
  settled(): void {
    this.#settled = true;
  }

  /** What is to be done now: `ask` is to be done by a PING, at once. With a policy peers are asked without streams, too. */
  check(hasStreams: boolean, policy: Http2Keepalive | undefined): "gone" | "unsettled" | "ask" | undefined {
    if (hasStreams || policy) {
      const { interval, timeout } = policy ?? unasked;
      if (this.#asked === undefined) {
        if (turn.now - this.#heard >= interval) {
          this.#asked = turn.now;
          return "ask";
        }
      } else if (turn.now - this.#asked >= timeout) return "gone";
    }
    return !this.#settled && turn.now - this.#began >= settingsLimit ? "unsettled" : undefined;
  }

  /** Milliseconds until a policy has something to be done. */
  left({ interval, timeout }: Http2Keepalive): number {
    return (this.#asked === undefined ? this.#heard + interval : this.#asked + timeout) - turn.now;
  }
}
