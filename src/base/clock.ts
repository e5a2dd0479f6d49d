// Time as a dependency. Code that waits or stamps takes a Clock, so that its tests run on a fake one and never sleep.

import type { Disposable } from "./disposal.ts";

export interface Clock {
  /** Wall-clock time, milliseconds since the Unix epoch. */
  now(): number;
  /** Runs `then` once after `milliseconds`. */
  after(milliseconds: number, then: () => void): Disposable;
  /** Runs `then` every `milliseconds` until disposed. */
  every(milliseconds: number, then: () => void): Disposable;
}

/** The machine's clock. Its timers do not keep the process alive. */
export const systemClock: Clock = {
  now: () => Date.now(),
  after(milliseconds, then) {
    const timer = setTimeout(then, milliseconds);
    timer.unref();
    return { dispose: () => clearTimeout(timer) };
  },
  every(milliseconds, then) {
    const timer = setInterval(then, milliseconds);
    timer.unref();
    return { dispose: () => clearInterval(timer) };
  },
};

interface Pending {
  at: number;
  order: number;
  every?: number;
  then: () => void;
}

/** A clock that moves only when told to; for tests. */
export class FakeClock implements Clock {
  #now: number;
  #order = 0;
  readonly #pending = new Set<Pending>();

  constructor(now = Date.UTC(2026, 0, 1)) {
    this.#now = now;
  }

  now(): number {
    return this.#now;
  }

  after(milliseconds: number, then: () => void): Disposable {
    return this.#add({ at: this.#now + milliseconds, order: this.#order++, then });
  }

  every(milliseconds: number, then: () => void): Disposable {
    return this.#add({ at: this.#now + milliseconds, order: this.#order++, every: milliseconds, then });
  }

  /** Moves time forward and runs, in order of their time, all that becomes due. */
  advance(milliseconds: number): void {
    const end = this.#now + milliseconds;
    for (;;) {
      let next: Pending | undefined;
      for (const one of this.#pending) {
        if (one.at > end) continue;
        if (!next || one.at < next.at || (one.at === next.at && one.order < next.order)) next = one;
      }
      if (!next) break;
      this.#now = next.at;
      if (next.every === undefined) this.#pending.delete(next);
      else next.at += Math.max(1, next.every);
      next.then();
    }
    this.#now = end;
  }

  #add(pending: Pending): Disposable {
    this.#pending.add(pending);
    return { dispose: () => this.#pending.delete(pending) };
  }
}
