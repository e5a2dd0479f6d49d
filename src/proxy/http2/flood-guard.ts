// What a peer may make us do for nothing, counted by kind; the limits and where they come from are in `allowance.ts`.

import { Allowance, allowances } from "./allowance.ts";

/** WINDOW_UPDATE frames that one DATA frame of ours explains, and how many may be saved up. */
const windowsPerData = 10;
const maxCredit = 100_000;

export class FloodGuard {
  readonly #broken = new Allowance(allowances.broken);
  readonly #answered = new Allowance(allowances.answered);
  readonly #empty = new Allowance(allowances.empty);
  readonly #windows = new Allowance(allowances.windows);
  #credit = 0;

  /** Each of these: false when it was one too many. A stream that the peer broke. */
  broken(): boolean {
    return this.#broken.take();
  }

  /** A frame that has to be answered. */
  answered(): boolean {
    return this.#answered.take();
  }

  /** A frame that carries nothing. */
  empty(): boolean {
    return this.#empty.take();
  }

  windowUpdate(): boolean {
    if (this.#credit === 0) return this.#windows.take();
    this.#credit--;
    return true;
  }

  /** We have sent DATA, which the peer will answer with WINDOW_UPDATE. */
  sentData(): void {
    this.#credit = Math.min(this.#credit + windowsPerData, maxCredit);
  }
}
