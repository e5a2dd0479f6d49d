// What a proxy knows of one endpoint's health and speed: passive (outlier detection, failure accrual), active (health checks), the
// average of its response times, and since when it is there. Only holds and combines; the rules are in the files beside.

import type { Backend } from "../../model/model.ts";
import { Breaker } from "./failure-accrual.ts";
import { HealthState } from "./health-state.ts";
import type { UnhealthyCause } from "./health-watch.ts";
import { outlierHost } from "./outlier-detection.ts";
import { PeakEwma } from "./peak-ewma.ts";
import { slowStartFactor } from "./slow-start.ts";

export class EndpointHealth {
  outlier = outlierHost();
  breaker: Breaker | undefined;
  active: HealthState | undefined;
  cost: PeakEwma | undefined;
  /** Milliseconds; when it was first there, or came back to health: slow start counts from here. */
  since: number;
  /** For people: why it takes no requests at the moment. */
  outBecause: UnhealthyCause | undefined = undefined;

  constructor(now: number) {
    this.since = now;
  }

  /** Takes up what the backend asks for; what was learned under the same policy is kept. */
  configure(config: Backend, before: Backend | undefined, now: number): void {
    const { failureAccrual, healthCheck, balance } = config;
    if (before && !same(config.outlierDetection, before.outlierDetection)) this.outlier = outlierHost();
    if (!failureAccrual) this.breaker = undefined;
    else if (!this.breaker || !same(failureAccrual, before?.failureAccrual)) this.breaker = new Breaker(failureAccrual);
    if (!healthCheck) this.active = undefined;
    else if (!this.active || !same(healthCheck, before?.healthCheck)) {
      const healthy = this.active?.healthy ?? true;
      this.active = new HealthState(healthCheck.unhealthyThreshold, healthCheck.healthyThreshold, healthy);
    }
    if (balance.kind !== "peakEwma") this.cost = undefined;
    else if (!this.cost || !same(balance, before?.balance))
      this.cost = new PeakEwma(now, balance.decay, balance.startAt);
    if (this.healthy(now)) this.outBecause = undefined;
  }

  /** Whether it may be asked at `now`. */
  healthy(now: number): boolean {
    return !this.outlier.ejected && this.active?.healthy !== false && this.breaker?.admits(now) !== false;
  }

  /** The part of its weight that it gets while it warms up. */
  warmth(balance: Backend["balance"], now: number): number {
    const slowStart = "slowStart" in balance ? balance.slowStart : undefined;
    return slowStart ? slowStartFactor(slowStart, now - this.since) : 1;
  }
}

/** Whether two parts of a configuration say the same. */
export function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
