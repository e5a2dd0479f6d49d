// How many retries a backend bears: a bound that keeps retries from making an overload worse. Envoy counts what is under way
// (RetryBudget of its CircuitBreakers), Linkerd what was sent in the last seconds (RFC-less; ServiceProfile.retryBudget); a plain
// number (`limits.retries`) is Envoy's older bound. Who asks counts what it was given back with `done`.

import type { RetryBudget } from "../../model/upstream-policies.ts";

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

/** Parts of the window: deposits leave a tenth of `ttl` late at most. */
const parts = 10;

class Ratio implements Budget {
  readonly #ratio: number;
  readonly #reserve: number;
  readonly #part: number;
  /** Balances of the parts of the window, the newest at `#at`. Withdrawals may make one negative. */
  readonly #balances = new Float64Array(parts);
  #at = 0;

  constructor(ratio: number, minPerSecond: number, ttl: number) {
    this.#ratio = ratio;
    this.#reserve = (minPerSecond * ttl) / 1000;
    this.#part = Math.max(1, ttl / parts);
  }

  request(now: number): void {
    this.#advance(now);
    this.#balances[this.#at % parts]! += this.#ratio;
  }

  retry(_active: number, now: number): boolean {
    this.#advance(now);
    let balance = this.#reserve;
    for (let part = 0; part < parts; part++) balance += this.#balances[part]!;
    // Sums of a ratio such as 0.2 are a little off.
    if (balance < 1 - 1e-9) return false;
    this.#balances[this.#at % parts]! -= 1;
    return true;
  }

  done(): void {}

  #advance(now: number): void {
    const at = Math.floor(now / this.#part);
    if (at <= this.#at) return;
    if (at - this.#at >= parts) this.#balances.fill(0);
    else for (let part = this.#at + 1; part <= at; part++) this.#balances[part % parts] = 0;
    this.#at = at;
  }
}
