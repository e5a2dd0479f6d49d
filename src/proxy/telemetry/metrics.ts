// Counters and latencies of requests by route and backend, at a bounded cost: a series is a place in typed arrays, found when a
// route table is compiled, so that a request adds integers and looks nothing up. Not the exposition: that is `prometheus.ts`.

import { type Reason, reasons } from "../reason.ts";
import { grown, Sizes } from "./sizes.ts";

/** Upper bounds of the latency histogram, in milliseconds. The last bucket is open. */
export const bounds: readonly number[] = [
  0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000,
];
/** 1xx to 5xx, and 0 for requests that got no answer. */
export const statusClasses = 6;

/** Most series; further ones are counted together as `other`. */
const maxSeries = 20_000;

export interface Series {
  readonly route: string;
  readonly backend: string;
}

export class Metrics {
  readonly series: Series[] = [];
  readonly #index = new Map<string, number>();
  #counts = new Float64Array(64 * statusClasses);
  #buckets = new Float64Array(64 * (bounds.length + 1));
  #sums = new Float64Array(64);
  readonly requestBytes = new Sizes();
  readonly responseBytes = new Sizes();
  /** By series and response flag; only requests that went wrong have one. */
  readonly #flags = new Map<number, Map<string, number>>();
  readonly reasons = new Map<Reason, number>();
  retries = 0;

  /** The place of a series; the same for the same labels, across changes of configuration. */
  slot(route: string, backend: string): number {
    const key = `${route}\0${backend}`;
    const known = this.#index.get(key);
    if (known !== undefined) return known;
    if (this.series.length >= maxSeries && route !== "other") return this.slot("other", "");
    const slot = this.series.push({ route, backend }) - 1;
    this.#index.set(key, slot);
    this.requestBytes.reserve(slot);
    this.responseBytes.reserve(slot);
    if (slot >= this.#sums.length) {
      this.#counts = grown(this.#counts);
      this.#buckets = grown(this.#buckets);
      this.#sums = grown(this.#sums);
    }
    return slot;
  }

  /** One request is over. `status` is 0 when no answer was sent; the sizes are those of the bodies. */
  record(slot: number, status: number, milliseconds: number, requestBytes = 0, responseBytes = 0): void {
    this.#counts[slot * statusClasses + ((status / 100) | 0)]! += 1;
    let bucket = 0;
    while (bucket < bounds.length && milliseconds > bounds[bucket]!) bucket++;
    this.#buckets[slot * (bounds.length + 1) + bucket]! += 1;
    this.#sums[slot]! += milliseconds;
    this.requestBytes.record(slot, requestBytes);
    this.responseBytes.record(slot, responseBytes);
  }

  /** A request ended for a reason of the proxy's own; without a slot, before it was known for what it is. */
  ended(reason: Reason, slot?: number): void {
    this.reasons.set(reason, (this.reasons.get(reason) ?? 0) + 1);
    const { flag } = reasons[reason];
    if (slot !== undefined && flag !== "-") this.flagged(slot, flag);
  }

  /** A request has a response flag; it may have several, each of which is told of once. */
  flagged(slot: number, flag: string): void {
    const flags = this.#flags.get(slot) ?? new Map<string, number>();
    this.#flags.set(slot, flags);
    flags.set(flag, (flags.get(flag) ?? 0) + 1);
  }

  /** How often requests of a series ended with each response flag. */
  flags(slot: number): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#flags.get(slot) ?? []);
  }

  count(slot: number, statusClass: number): number {
    return this.#counts[slot * statusClasses + statusClass]!;
  }

  bucket(slot: number, bucket: number): number {
    return this.#buckets[slot * (bounds.length + 1) + bucket]!;
  }

  sum(slot: number): number {
    return this.#sums[slot]!;
  }
}
