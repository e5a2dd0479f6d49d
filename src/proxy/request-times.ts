// The times that end one request, or its try, or the pause before the next: which is due, and when to look again. They share one
// place in the wheel. `forwarding.ts` has one of these only where a rule, a caller or a retry sets a time.

import { Deadline, type Deadlines } from "./deadlines.ts";
import { turn } from "./wire.ts";

/** What is due, the most final first. */
export type DueTime =
  | "request_timeout"
  | "response_timeout"
  | "stream_timeout"
  | "upstream_idle"
  | "try_timeout"
  | "again";

/** Whose times they are. */
export interface TimedRequest {
  timedOut(reason: Exclude<DueTime, "again">): void;
  /** The pause is over. */
  tryAgain(): void;
}

export class RequestTimes extends Deadline {
  /** By the wheel's clock, in milliseconds; infinity: none. */
  request = Number.POSITIVE_INFINITY;
  /** Of the answer, since the request has gone out whole. */
  response = Number.POSITIVE_INFINITY;
  /** For the request and all that comes of it, tunnels too. */
  stream = Number.POSITIVE_INFINITY;
  try = Number.POSITIVE_INFINITY;
  again = Number.POSITIVE_INFINITY;
  readonly #owner: TimedRequest;
  readonly #deadlines: Deadlines;
  /** When something last went either way, by `turn.now`. */
  #active: number;
  readonly #idle: number;

  /** `idle` milliseconds without anything either way; 0: no such time. */
  constructor(owner: TimedRequest, deadlines: Deadlines, idle: number, active: number) {
    super();
    this.#owner = owner;
    this.#deadlines = deadlines;
    this.#idle = idle > 0 ? idle : Number.POSITIVE_INFINITY;
    this.#active = active;
  }

  moved(at: number): void {
    this.#active = at;
  }

  /** The next try is still to begin. */
  get isPausing(): boolean {
    return this.again < Number.POSITIVE_INFINITY;
  }

  endAt(time: "request" | "response" | "stream" | "try" | "again", at: number): void {
    this[time] = at;
    this.arm();
  }

  arm(): void {
    const left = this.left(this.#deadlines.now(), turn.now);
    if (left < Number.POSITIVE_INFINITY) this.#deadlines.arm(this, left);
  }

  disarm(): void {
    if (this.wheel) this.#deadlines.disarm(this);
  }

  expired(): void {
    const due = this.whatIsDue(this.#deadlines.now(), turn.now);
    if (due !== undefined && due !== "again") {
      this.#owner.timedOut(due);
      return;
    }
    if (due === "again") this.again = Number.POSITIVE_INFINITY;
    this.arm();
    if (due === "again") this.#owner.tryAgain();
  }

  whatIsDue(now: number, at: number): DueTime | undefined {
    if (now >= this.request) return "request_timeout";
    if (now >= this.response) return "response_timeout";
    if (now >= this.stream) return "stream_timeout";
    if (at - this.#active >= this.#idle) return "upstream_idle";
    if (now >= this.try) return "try_timeout";
    return now >= this.again ? "again" : undefined;
  }

  /** Milliseconds until something is due; infinity when nothing will be. */
  left(now: number, at: number): number {
    const next = Math.min(this.request, this.response, this.stream, this.try, this.again) - now;
    return Math.max(0, Math.min(next, this.#active + this.#idle - at));
  }
}
