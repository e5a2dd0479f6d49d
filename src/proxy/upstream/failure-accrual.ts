// Linkerd's circuit breaker for one endpoint: shut after so many failures in a row, or at too low a success rate, for a pause that doubles and is jittered;
// then exactly one request is let through, whose success opens it and whose failure shuts it for longer
// (linkerd2-proxy, http/breaker/consecutive_failures.rs and unified.rs).

import type { FailureAccrual } from "../../model/upstream-policies.ts";
import { SlidingSum } from "./sliding-sum.ts";

export class Breaker {
  readonly #config: FailureAccrual;
  readonly #random: () => number;
  #failures = 0;
  /** How often it was shut since the last success. */
  #shut = 0;
  #until = 0;
  #probing = false;
  /** Answers of the window, and the good ones among them; only where a success rate is asked for. */
  readonly #total: SlidingSum | undefined;
  readonly #good: SlidingSum | undefined;

  constructor(config: FailureAccrual, random: () => number = Math.random) {
    this.#config = config;
    const { successRate } = config;
    if (successRate) {
      this.#total = new SlidingSum(successRate.window);
      this.#good = new SlidingSum(successRate.window);
    }
    this.#random = random;
  }

  /** Whether the endpoint may be asked at `now` (milliseconds). */
  admits(now: number): boolean {
    return this.#shut === 0 || (!this.#probing && now >= this.#until);
  }

  /** A request was given to it. */
  taken(): void {
    if (this.#shut > 0) this.#probing = true;
  }

  /** A request given to it ended without saying anything of its health (the client left). */
  abandoned(): void {
    this.#probing = false;
  }

  succeeded(now: number): void {
    this.#total?.add(1, now);
    this.#good?.add(1, now);
    this.#failures = 0;
    this.#shut = 0;
    this.#probing = false;
  }

  /** True: it has just been shut. */
  failed(now: number): boolean {
    if (this.#shut > 0) {
      // Late failures of requests from before it was shut say nothing new.
      if (!this.#probing) return false;
    } else {
      this.#total?.add(1, now);
      if (++this.#failures < this.#config.maxFailures && !this.#tooFewGood(now)) return false;
    }
    this.#failures = 0;
    // Who comes back is not shut for what was before.
    this.#total?.clear();
    this.#good?.clear();
    this.#probing = false;
    const { minPenalty, maxPenalty, jitterRatio } = this.#config;
    const pause = Math.min(maxPenalty, minPenalty * 2 ** Math.min(this.#shut, 30));
    this.#shut++;
    this.#until = now + pause * (1 + this.#random() * jitterRatio);
    return true;
  }

  #tooFewGood(now: number): boolean {
    const { successRate } = this.#config;
    if (!successRate) return false;
    const total = this.#total!.sum(now);
    return total >= successRate.minimumRequests && 100 * this.#good!.sum(now) < successRate.percent * total;
  }

  /** When it may be asked again; undefined while it is open. */
  get shutUntil(): number | undefined {
    return this.#shut === 0 ? undefined : this.#until;
  }
}
