// What the proxy refuses so that it stays alive: above its memory bound, further connections and requests; above the most requests
// at a time, further requests. Refused as early as can be, before anything is kept of them. What has begun goes on, and the admin
// socket answers to the end.

import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";

export interface OverloadLimits {
  /** Client connections. */
  readonly connections: number;
  /** Requests under way, those that wait for a backend included. */
  readonly requests: number;
  /** Bytes of resident memory; 0: no bound. */
  readonly memory: number;
}

/** Resident memory and what makes it less, replaced in tests. */
export interface Memory {
  resident(): number;
  collect(): void;
}

const interval = 250;
/** Below this part of the bound, all is well again: so that it does not change back and forth. */
const calm = 0.9;
/** Milliseconds between collections: one may take as long as many requests. */
const collectInterval = 5_000;

/** The process' own. */
export const ownMemory: Memory = {
  resident: () => process.memoryUsage.rss(),
  collect: () => Bun.gc(true),
};

export class Overload {
  readonly limits: OverloadLimits;
  /** Requests under way. */
  active = 0;
  /** Requests that were refused. */
  refused = 0;
  /** Above the memory bound. */
  short = false;
  readonly #connections: { most: number };
  readonly #memory: Memory;
  readonly #clock: Clock;
  readonly #log: Logger;
  #collectedAt = Number.NEGATIVE_INFINITY;

  /** `connections.most` is set to what may be open at the moment. */
  constructor(
    limits: OverloadLimits,
    connections: { most: number },
    clock: Clock,
    log: Logger,
    memory: Memory = ownMemory,
  ) {
    this.limits = limits;
    this.#connections = connections;
    this.#memory = memory;
    this.#clock = clock;
    this.#log = log;
    connections.most = limits.connections;
    if (limits.memory > 0) clock.every(interval, () => this.#look());
  }

  /** A request begins. False: it is to be refused, and is not counted. */
  enter(): boolean {
    if (this.short || this.active >= this.limits.requests) {
      this.refused++;
      return false;
    }
    this.active++;
    return true;
  }

  leave(): void {
    this.active--;
  }

  #look(): void {
    const { memory } = this.limits;
    const resident = this.#memory.resident();
    if (resident >= memory) this.#become(true, resident);
    else if (resident < memory * calm) this.#become(false, resident);
    if (!this.short) return;
    const now = this.#clock.now();
    if (now - this.#collectedAt < collectInterval) return;
    this.#collectedAt = now;
    this.#memory.collect();
  }

  #become(short: boolean, resident: number): void {
    if (short === this.short) return;
    this.short = short;
    this.#connections.most = short ? 0 : this.limits.connections;
    const fields = { resident, bound: this.limits.memory };
    if (short) this.#log.warn("memory is short: connections and requests are refused", fields);
    else this.#log.info("memory suffices again", fields);
  }
}

/** Four fifths of what the machine or the control group has, in bytes. */
export function usualMemory(): number {
  return Math.floor(process.constrainedMemory() * 0.8);
}
