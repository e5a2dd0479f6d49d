// Requests that wait for a connection because all that a backend may have are in use, the longest waiting first. Most can be served
// by any endpoint; those of a session, or whose hash says which, only by one.

import type { Reason } from "../reason.ts";
import type { Waiter } from "./pool.ts";
import type { Selection } from "./selection.ts";

export interface Waiting {
  readonly waiter: Waiter;
  readonly selection: Selection | undefined;
  /** Not every connection that becomes free can serve it. */
  readonly particular: boolean;
}

export class WaitingLine {
  #line: Waiting[] = [];
  #particular = 0;

  get length(): number {
    return this.#line.length;
  }

  get first(): Waiting | undefined {
    return this.#line[0];
  }

  push(waiting: Waiting): void {
    this.#line.push(waiting);
    if (waiting.particular) this.#particular++;
  }

  shift(): Waiting | undefined {
    return this.#remove(0);
  }

  /** The first that any connection can serve, or for which `serves` holds. */
  takeFor(serves: (waiting: Waiting) => boolean): Waiting | undefined {
    if (this.#particular === 0) return this.shift();
    return this.#remove(this.#line.findIndex((waiting) => !waiting.particular || serves(waiting)));
  }

  forget(waiter: Waiter): void {
    this.#remove(this.#line.findIndex((one) => one.waiter === waiter));
  }

  #remove(index: number): Waiting | undefined {
    if (index < 0) return undefined;
    const one = index === 0 ? this.#line.shift() : this.#line.splice(index, 1)[0];
    if (one?.particular) this.#particular--;
    return one;
  }

  /** Nobody waits any more. */
  fail(reason: Reason): void {
    const line = this.#line;
    this.#line = [];
    this.#particular = 0;
    for (const { waiter } of line) waiter.notConnected(reason, undefined);
  }
}
