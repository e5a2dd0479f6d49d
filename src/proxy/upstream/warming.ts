// Connections that are made before requests need them (Envoy: preconnect policy; here also a fixed number to each endpoint, as
// services with few requests need it). A backend has one of these only where it asks for it. It only adds: what has been idle for too
// long is closed as ever, and replaced with the next look, so that no kept connection is an old one.

import type { Warm } from "../../model/upstream-policies.ts";

/** Connections that are being made ahead at once, of all backends. */
const maxAtOnce = 64;
/** An endpoint that took no connection is asked again after a pause that doubles, in milliseconds. */
const firstPause = 1_000;
const longestPause = 30_000;

/** Lets so many be made at once. One for all backends. */
export class WarmGate {
  #running = 0;

  /** True: `leave` must follow. */
  enter(): boolean {
    if (this.#running >= maxAtOnce) return false;
    this.#running++;
    return true;
  }

  leave(): void {
    this.#running--;
  }
}

/** An endpoint's pool, as far as it is kept warm. */
export interface WarmedPool {
  /** Connections, those being made included; and how many of them its requests need. */
  readonly connections: number;
  readonly needed: number;
  /** `then` is told whether there is a new one. */
  connectAhead(then: (made: boolean) => void): void;
}

export interface WarmedBackend<P extends WarmedPool> {
  readonly isFull: boolean;
  /** Those that take requests. */
  warmed(now: number): Iterable<P>;
}

/** Connections that an endpoint should have when its requests need so many. */
export function wantedConnections({ connections = 0, ratio = 0 }: Warm, needed: number): number {
  return Math.max(connections, Math.ceil(ratio * needed));
}

interface Cold {
  until: number;
  pause: number;
}

export class Warming<P extends WarmedPool> {
  readonly #warm: Warm;
  readonly #backend: WarmedBackend<P>;
  readonly #gate: WarmGate;
  readonly #now: () => number;
  /** Endpoints that took no connection. */
  readonly #cold = new WeakMap<P, Cold>();
  /** The gate was shut: who comes out of it looks again. */
  #short = false;
  #over = false;

  constructor(warm: Warm, backend: WarmedBackend<P>, gate: WarmGate, now: () => number) {
    this.#warm = warm;
    this.#backend = backend;
    this.#gate = gate;
    this.#now = now;
  }

  /** To be called now and then. */
  look(): void {
    this.#short = false;
    for (const pool of this.#backend.warmed(this.#now())) this.fill(pool);
  }

  /** Makes what one endpoint is short of. */
  fill(pool: P): void {
    const cold = this.#cold.get(pool);
    if (cold && this.#now() < cold.until) return;
    while (pool.connections < wantedConnections(this.#warm, pool.needed) && !this.#backend.isFull) {
      if (!this.#gate.enter()) {
        this.#short = true;
        return;
      }
      pool.connectAhead((made) => this.#made(pool, made));
      // Whether it has come back, one connection tells.
      if (cold) return;
    }
  }

  #made(pool: P, made: boolean): void {
    this.#gate.leave();
    const now = this.#now();
    const cold = this.#cold.get(pool);
    if (made) this.#cold.delete(pool);
    else if (!cold || now >= cold.until) {
      const pause = cold ? Math.min(longestPause, 2 * cold.pause) : firstPause;
      this.#cold.set(pool, { until: now + pause, pause });
    }
    if (this.#over) return;
    if (this.#short || (made && cold)) this.look();
  }

  /** No more are made. */
  dispose(): void {
    this.#over = true;
  }
}
