// Where the connections (or UDP sessions) of a chain go: its backends by weight, chosen once for each.

import type { WeightedBackend } from "../../model/model.ts";
import type { Reason } from "../reason.ts";
import type { BackendRuntime } from "../upstream/backend.ts";
import type { Backends } from "../upstream/backends.ts";
import { WeightedChoice } from "../upstream/choice.ts";

export class Shares {
  readonly #to: readonly WeightedBackend[];
  readonly #backends: Backends;
  readonly #choice: WeightedChoice | undefined;

  constructor(to: readonly WeightedBackend[], backends: Backends) {
    this.#to = to;
    this.#backends = backends;
    const weights = to.map(({ weight }) => weight);
    this.#choice = weights.some((weight) => weight > 0) ? new WeightedChoice(weights) : undefined;
  }

  /** The backend for the next one, or why there is none. */
  next(): BackendRuntime | Reason {
    if (!this.#choice) return "no_weight";
    const { target } = this.#to[this.#choice.next()]!;
    // A reference that does not resolve: there is nobody to say so to.
    return "backend" in target ? this.#backends.get(target.backend) : "no_backend";
  }
}
