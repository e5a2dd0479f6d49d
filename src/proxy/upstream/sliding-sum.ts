// A sum over the last so many milliseconds, in ten parts: what was added leaves between nine tenths of the window and the whole of it
// later. The times are handed in, and never go back.

const parts = 10;

export class SlidingSum {
  readonly #part: number;
  /** Sums of the parts of the window, the newest at `#at`. */
  readonly #sums = new Float64Array(parts);
  #at = 0;

  /** `window` in milliseconds. */
  constructor(window: number) {
    this.#part = Math.max(1, window / parts);
  }

  add(value: number, now: number): void {
    this.#advance(now);
    this.#sums[this.#at % parts]! += value;
  }

  sum(now: number): number {
    this.#advance(now);
    let sum = 0;
    for (let part = 0; part < parts; part++) sum += this.#sums[part]!;
    return sum;
  }

  clear(): void {
    this.#sums.fill(0);
  }

  #advance(now: number): void {
    const at = Math.floor(now / this.#part);
    if (at <= this.#at) return;
    if (at - this.#at >= parts) this.#sums.fill(0);
    else for (let part = this.#at + 1; part <= at; part++) this.#sums[part % parts] = 0;
    this.#at = at;
  }
}
