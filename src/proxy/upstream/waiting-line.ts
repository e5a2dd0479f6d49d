// Requests that wait for a connection because all that a backend may have are in use, the longest waiting first. Most can be served
// by any endpoint; those of a session, or whose hash says which, only by one.

import type { Reason } from "../reason.ts";
import type { Waiter } from "./pool.ts";
import type { Selection } from "./selection.ts";

export interface Waiting {
  readonly waiter: Waiter;
  readonly selection: Selection | undefined;
  /** Only one endpoint may serve it. */
  readonly bound: boolean;
}

export class WaitingLine {
  #line: Waiting[] = [];
  #bound = 0;

  get length(): number {
    return this.#line.length;
  }

  get first(): Waiting | undefined {
    return this.#line[0];
  }

  push(waiting: Waiting): void {
    this.#line.push(waiting);
    if (waiting.bound) this.#bound++;
  }

  shift(): Waiting | undefined {
    return this.#remove(0);
  }

  /** The first that is not bound, or for which `serves` holds. */
  takeFor(serves: (selection: Selection | undefined) => boolean): Waiting | undefined {
    if (this.#bound === 0) return this.shift();
    return this.#remove(this.#line.findIndex(({ bound, selection }) => !bound || serves(selection)));
  }

  forget(waiter: Waiter): void {
    this.#remove(this.#line.findIndex((one) => one.waiter === waiter));
  }

  #remove(index: number): Waiting | undefined {
    if (index < 0) return undefined;
    const one = index === 0 ? this.#line.shift() : this.#line.splice(index, 1)[0];
    if (one?.bound) this.#bound--;
    return one;
  }

  /** Nobody waits any more. */
  fail(reason: Reason): void {
    const line = this.#line;
    this.#line = [];
    this.#bound = 0;
    for (const { waiter } of line) waiter.notConnected(reason, undefined);
  }
}
