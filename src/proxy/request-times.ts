// The times that end one request, or its try, or the pause before the next: which is due, and when to look again. Pure numbers;
// `forwarding.ts` has one only where a rule, a caller or a retry sets a time, and puts it into the wheel.

/** What is due, the most final first. */
export type DueTime = "request_timeout" | "upstream_idle" | "try_timeout" | "again";

export class RequestTimes {
  /** By the wheel's clock, in milliseconds; infinity: none. */
  request = Number.POSITIVE_INFINITY;
  try = Number.POSITIVE_INFINITY;
  again = Number.POSITIVE_INFINITY;
  /** When something last went either way, by `turn.now`. */
  #active: number;
  readonly #idle: number;

  /** `idle` milliseconds without anything either way; 0: no such time. */
  constructor(idle: number, active: number) {
    this.#idle = idle > 0 ? idle : Number.POSITIVE_INFINITY;
    this.#active = active;
  }

  moved(at: number): void {
    this.#active = at;
  }

  /** When the try must be over. */
  get end(): number {
    return Math.min(this.request, this.try);
  }

  due(now: number, at: number): DueTime | undefined {
    if (now >= this.request) return "request_timeout";
    if (at - this.#active >= this.#idle) return "upstream_idle";
    if (now >= this.try) return "try_timeout";
    return now >= this.again ? "again" : undefined;
  }

  /** Milliseconds until something is due; infinity when nothing will be. */
  left(now: number, at: number): number {
    const next = Math.min(this.request, this.try, this.again) - now;
    return Math.max(0, Math.min(next, this.#active + this.#idle - at));
  }
}
