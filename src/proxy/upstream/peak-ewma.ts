// An endpoint's cost as Linkerd and Finagle estimate it: an exponentially weighted moving average of response times that jumps
// to a peak at once and comes down slowly, times the requests under way. An endpoint that nobody asks gets cheaper with time, so
// that it is tried again (Linkerd: decay 10 s, first estimate 30 ms).

export const defaultDecay = 10_000;
export const defaultStart = 30;

export class PeakEwma {
  readonly #decay: number;
  #estimate: number;
  #updated: number;

  /** Milliseconds. */
  constructor(now: number, decay = defaultDecay, start = defaultStart) {
    this.#decay = decay;
    this.#estimate = start;
    this.#updated = now;
  }

  /** A response took so many milliseconds. */
  observe(milliseconds: number, now: number): void {
    const kept = this.#kept(now);
    this.#estimate = milliseconds > this.#estimate ? milliseconds : this.#estimate * kept + milliseconds * (1 - kept);
    this.#updated = now;
  }

  /** What one request more would cost. */
  load(active: number, now: number): number {
    return this.#estimate * this.#kept(now) * (active + 1);
  }

  #kept(now: number): number {
    return Math.exp(-Math.max(0, now - this.#updated) / this.#decay);
  }
}
