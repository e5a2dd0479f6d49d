// What active health checks make of one endpoint: a number of results in a row changes its state (Envoy HealthCheck thresholds).
// The first result counts at once, so that a new endpoint is known quickly.

export class HealthState {
  healthy: boolean;
  readonly #unhealthyThreshold: number;
  readonly #healthyThreshold: number;
  #known = false;
  #row = 0;

  /** An endpoint that was not checked yet is taken as healthy: its readiness is known from elsewhere. */
  constructor(unhealthyThreshold: number, healthyThreshold: number, healthy = true) {
    this.#unhealthyThreshold = unhealthyThreshold;
    this.#healthyThreshold = healthyThreshold;
    this.healthy = healthy;
  }

  /** True: the state changed. */
  result(good: boolean): boolean {
    if (good === this.healthy) {
      this.#row = 0;
      this.#known = true;
      return false;
    }
    this.#row++;
    const enough = good ? this.#healthyThreshold : this.#unhealthyThreshold;
    if (this.#known && this.#row < enough) return false;
    this.#known = true;
    this.#row = 0;
    this.healthy = good;
    return true;
  }
}
