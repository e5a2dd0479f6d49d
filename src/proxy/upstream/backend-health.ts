// What a backend does about the health of its endpoints, as long as it is in use: watches what becomes of requests (`health-watch.ts`)
// and checks (`health-checks.ts`), each only where a policy asks for it. What is known of one endpoint is `endpoint-health.ts`.

import type { Logger } from "../../base/log.ts";
import type { Backend } from "../../model/model.ts";
import { same } from "./endpoint-health.ts";
import { type CheckedBackend, CheckGate, HealthChecks } from "./health-checks.ts";
import { HealthWatch } from "./health-watch.ts";
import type { EndpointPool } from "./pool.ts";

export interface HealthSurroundings {
  readonly log?: Logger;
  readonly checkGate?: CheckGate;
}

export class BackendHealth {
  /** Undefined when no policy asks for one. */
  watch: HealthWatch | undefined = undefined;
  #checks: HealthChecks | undefined = undefined;
  readonly #backend: CheckedBackend;
  readonly #surroundings: HealthSurroundings;
  readonly #changed: () => void;

  /** `changed` is called when other endpoints may take requests than before. */
  constructor(backend: CheckedBackend, surroundings: HealthSurroundings, changed: () => void) {
    this.#backend = backend;
    this.#surroundings = surroundings;
    this.#changed = changed;
  }

  configure(config: Backend | undefined, before: Backend | undefined, pools: () => Iterable<EndpointPool>): void {
    if (!config || !HealthWatch.isNeeded(config)) {
      this.watch?.dispose();
      this.watch = undefined;
      this.#check(undefined, before, pools);
      return;
    }
    if (this.watch) this.watch.configure(config);
    else this.watch = new HealthWatch(config, this.#backend.deadlines, this.#surroundings.log, this.#changed);
    this.watch.setEndpoints(pools());
    this.#check(config, before, pools);
  }

  /** Checks go on as before where nothing of theirs has changed. */
  #check(config: Backend | undefined, before: Backend | undefined, pools: () => Iterable<EndpointPool>): void {
    const healthCheck = config?.healthCheck;
    const way = (backend: Backend) => [backend.healthCheck, wayOf(backend)];
    if (config && before && this.#checks && same(way(config), way(before))) return;
    this.#checks?.dispose();
    this.#checks = undefined;
    if (!healthCheck) return;
    const gate = this.#surroundings.checkGate ?? new CheckGate();
    this.#checks = new HealthChecks(healthCheck, this.#backend, gate, (pool, problem) =>
      this.watch?.checked(pool as EndpointPool, problem),
    );
    this.#checks.setEndpoints(pools());
  }

  setEndpoints(pools: () => Iterable<EndpointPool>): void {
    this.watch?.setEndpoints(pools());
    this.#checks?.setEndpoints(pools());
  }
}

/** What connections of a backend depend on. */
export function wayOf({ protocol, useClientProtocol, tls, proxyProtocol, originalSource }: Backend): unknown {
  return [protocol, useClientProtocol, tls, proxyProtocol, originalSource];
}
