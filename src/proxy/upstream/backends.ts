// All backends of a proxy, by name: those that are known and those that a route table has named before. What one does is
// `backend.ts`; here is only what they share, the look at all of them each second included.

import type { BackendName } from "../../model/model.ts";
import type { Deadlines } from "../deadlines.ts";
import type { UpstreamTimeouts } from "../http1/upstream.ts";
import { beginTurn, endTurn } from "../wire.ts";
import { BackendRuntime, type Surroundings } from "./backend.ts";
import { CheckGate } from "./health-checks.ts";
import { WarmGate } from "./warming.ts";

/** Names without a backend that are kept: route tables may hold them. */
const maxUnknown = 1_000;
const sweepMilliseconds = 1_000;

export const defaultUpstreamTimeouts: UpstreamTimeouts = { idle: 300_000 };

export class Backends {
  readonly #byName = new Map<BackendName, BackendRuntime>();
  readonly #deadlines: Deadlines;
  readonly #timeouts: UpstreamTimeouts;
  readonly #surroundings: Surroundings;
  /** Since the configuration has changed. */
  #referred: (() => ReadonlySet<BackendName>) | undefined = undefined;

  constructor(
    deadlines: Deadlines,
    clock: { every(milliseconds: number, then: () => void): unknown },
    timeouts: UpstreamTimeouts = defaultUpstreamTimeouts,
    surroundings: Surroundings = {},
  ) {
    this.#deadlines = deadlines;
    this.#timeouts = timeouts;
    this.#surroundings = { checkGate: new CheckGate(), warmGate: new WarmGate(), ...surroundings };
    clock.every(sweepMilliseconds, () => this.#sweep());
  }

  /** The backend of a name, known or not yet. */
  get(name: BackendName): BackendRuntime {
    let backend = this.#byName.get(name);
    if (!backend) {
      backend = new BackendRuntime(name, this.#deadlines, this.#timeouts, this.#surroundings);
      this.#byName.set(name, backend);
    }
    return backend;
  }

  /** The configuration has changed; `referred` says to what it refers now. */
  settled(referred: () => ReadonlySet<BackendName>): void {
    this.#referred = referred;
    this.#prune(referred);
  }

  /** Whom to keep warm: looked up only where someone is to be, and once however often the configuration has changed. */
  #refer(): void {
    const referred = this.#referred;
    if (!referred) return;
    const warm = [...this.#byName.values()].filter(({ warming }) => warming !== undefined);
    if (warm.length === 0) return;
    this.#referred = undefined;
    const names = referred();
    for (const backend of warm) backend.isReferred = names.has(backend.name);
  }

  /** Lets go of backends that are neither known nor referred to nor busy, once there are many. */
  #prune(referred: () => ReadonlySet<BackendName>): void {
    let unknown = 0;
    for (const backend of this.#byName.values()) if (!backend.known) unknown++;
    if (unknown <= maxUnknown) return;
    const keep = referred();
    for (const [name, backend] of this.#byName) {
      if (!backend.known && backend.connections === 0 && !keep.has(name)) this.#byName.delete(name);
    }
  }

  all(): Iterable<BackendRuntime> {
    return this.#byName.values();
  }

  #sweep(): void {
    beginTurn();
    this.#refer();
    for (const backend of this.#byName.values()) backend.sweep();
    endTurn();
  }
}
