// How much of something a peer may do that costs us more than it: a bucket of tokens that refills with time. When it is empty the
// peer is told to calm down (ENHANCE_YOUR_CALM). What is counted against which, and why so many, is in one table here.

import { turn } from "../wire.ts";

export class Allowance {
  readonly #burst: number;
  readonly #perSecond: number;
  #left: number;
  #at = turn.now;

  constructor({ burst, perSecond }: { readonly burst: number; readonly perSecond: number }) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#left = burst;
  }

  /** False: this was one too many. */
  take(): boolean {
    if (this.#left >= 1) {
      this.#left--;
      return true;
    }
    // Time is only looked at when the bucket seems to be empty.
    const elapsed = Math.max(0, turn.now - this.#at);
    this.#left = Math.min(this.#burst, (elapsed / 1000) * this.#perSecond);
    this.#at = turn.now;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}

export const allowances = {
  /**
   * Streams that end before their answer by the client's doing: its RST_STREAM (CVE-2023-44487), its errors that make us send one
   * (CVE-2025-8671), and those above the limit. Numbers of nghttp2, which answered the attack with them.
   */
  broken: { burst: 1000, perSecond: 33 },
  /** PING and SETTINGS, each of which we must answer (CVE-2019-9512, -9515). A gRPC client measures bandwidth with PING. */
  answered: { burst: 1000, perSecond: 100 },
  /** Frames that carry nothing: empty DATA and HEADERS without END_STREAM (CVE-2019-9518), PRIORITY, unknown types. */
  empty: { burst: 2000, perSecond: 200 },
  /** WINDOW_UPDATE beyond ten for each DATA that was sent. */
  windows: { burst: 2000, perSecond: 1000 },
} as const;
