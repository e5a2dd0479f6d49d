// How many retries a backend bears: a bound that keeps retries from making an overload worse. Envoy counts what is under way
// (RetryBudget of its CircuitBreakers), Linkerd what was sent in the last seconds (RFC-less; ServiceProfile.retryBudget); a plain
// number (`limits.retries`) is Envoy's older bound. Who asks counts what it was given back with `done`.

import type { RetryBudget } from "../../model/upstream-policies.ts";
import { SlidingSum } from "./sliding-sum.ts";

export interface Budget {
  /** A request that is no retry begins. */
  request(now: number): void;
  /** Whether a retry may begin now; true counts it. `active` are the backend's requests under way, retries included. */
  retry(active: number, now: number): boolean;
  /** A retry that was allowed is over. */
  done(): void;
}

/** The budget of a backend: `limit` retries under way (absent: no bound), or what `config` says instead. */
export function retryBudget(config: RetryBudget | undefined, limit: number | undefined): Budget {
  if (config?.kind === "ratio") return new Ratio(config.ratio, config.minPerSecond, config.ttl);
  if (config?.kind === "concurrent") {
    return new Concurrent((active) => Math.max(config.minimum, Math.floor((active * config.percent) / 100)));
  }
  return new Concurrent(() => limit ?? Number.POSITIVE_INFINITY);
}

class Concurrent implements Budget {
  readonly #most: (active: number) => number;
  #retries = 0;

  constructor(most: (active: number) => number) {
    this.#most = most;
  }

  request(): void {}

  retry(active: number): boolean {
    if (this.#retries >= this.#most(active)) return false;
    this.#retries++;
    return true;
  }

  done(): void {
    this.#retries--;
  }
}

class Ratio implements Budget {
  readonly #ratio: number;
  readonly #reserve: number;
  /** Of the window; withdrawals may make it negative. */
  readonly #balance: SlidingSum;

  constructor(ratio: number, minPerSecond: number, ttl: number) {
    this.#ratio = ratio;
    this.#reserve = (minPerSecond * ttl) / 1000;
    this.#balance = new SlidingSum(ttl);
  }

  request(now: number): void {
    this.#balance.add(this.#ratio, now);
  }

  retry(_active: number, now: number): boolean {
    // Sums of a ratio such as 0.2 are a little off.
    if (this.#reserve + this.#balance.sum(now) < 1 - 1e-9) return false;
    this.#balance.add(-1, now);
    return true;
  }

  done(): void {}
}
