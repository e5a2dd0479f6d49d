// Passive health as Envoy's outlier detection does it: endpoints that answer badly are taken out for a while. Counters in a row,
// success rates over an interval, a bound on how many may be out at once, and pauses that grow with each ejection
// (research: Envoy, intro/arch_overview/upstream/outlier and source/common/upstream/outlier_detection_impl.cc). The times are
// handed in; who holds it asks for `interval` regularly.

import type { OutlierDetection as Config } from "../../model/upstream-policies.ts";

/** What happened with a request, as the detector counts it. */
export type OutlierEvent =
  | { readonly kind: "answer"; readonly status: number }
  | { readonly kind: "connectFailure" | "timeout" };

/** Why an endpoint was ejected. */
export type EjectionCause =
  | "consecutive5xx"
  | "consecutiveGatewayErrors"
  | "consecutiveLocalFailures"
  | "successRate"
  | "failurePercentage";

export interface OutlierHost {
  consecutive5xx: number;
  consecutiveGateway: number;
  consecutiveLocal: number;
  /** Of the interval. */
  successes: number;
  total: number;
  /** How long the next ejection is, in units of the base. */
  ejections: number;
  ejected: boolean;
  ejectedAt: number;
  /** Of the ejection that it is in, or was in last; milliseconds. */
  jitter: number;
}

export function outlierHost(): OutlierHost {
  return {
    consecutive5xx: 0,
    consecutiveGateway: 0,
    consecutiveLocal: 0,
    successes: 0,
    total: 0,
    ejections: 0,
    ejected: false,
    ejectedAt: 0,
    jitter: 0,
  };
}

export class OutlierDetection {
  readonly #config: Config;
  readonly #ejected: (host: OutlierHost, cause: EjectionCause) => void;
  readonly #random: () => number;
  readonly #returned: (host: OutlierHost) => void;
  readonly #hosts: () => Iterable<OutlierHost> & { readonly size: number };
  #active = 0;
  /** Ejections that the bound did not let happen. */
  overflows = 0;

  constructor(
    config: Config,
    hosts: () => Iterable<OutlierHost> & { readonly size: number },
    on: { ejected(host: OutlierHost, cause: EjectionCause): void; returned(host: OutlierHost): void },
    random: () => number = Math.random,
  ) {
    this.#random = random;
    this.#config = config;
    this.#hosts = hosts;
    this.#ejected = (host, cause) => on.ejected(host, cause);
    this.#returned = (host) => on.returned(host);
    for (const host of hosts()) if (host.ejected) this.#active++;
  }

  /** A host is no more. */
  left(host: OutlierHost): void {
    if (host.ejected) this.#active--;
  }

  report(host: OutlierHost, event: OutlierEvent, now: number): void {
    const { consecutiveLocalFailures } = this.#config;
    if (event.kind !== "answer" && consecutiveLocalFailures !== undefined) {
      host.consecutiveLocal++;
      this.#reached(host, host.consecutiveLocal, consecutiveLocalFailures, "consecutiveLocalFailures", now);
      return;
    }
    host.consecutiveLocal = 0;
    // Without a detector of their own, local failures are the answers that the client gets for them.
    const status = event.kind === "answer" ? event.status : event.kind === "timeout" ? 504 : 503;
    host.total++;
    if (status < 500) {
      host.successes++;
      host.consecutive5xx = 0;
      host.consecutiveGateway = 0;
      return;
    }
    if (status >= 502 && status <= 504) {
      host.consecutiveGateway++;
      const most = this.#config.consecutiveGatewayErrors;
      this.#reached(host, host.consecutiveGateway, most, "consecutiveGatewayErrors", now);
    } else host.consecutiveGateway = 0;
    host.consecutive5xx++;
    this.#reached(host, host.consecutive5xx, this.#config.consecutive5xx, "consecutive5xx", now);
  }

  #reached(host: OutlierHost, count: number, threshold: number, cause: EjectionCause, now: number): void {
    if (threshold > 0 && count === threshold) this.#eject(host, cause, now);
  }

  #eject(host: OutlierHost, cause: EjectionCause, now: number): void {
    if (cause === "consecutive5xx") host.consecutive5xx = 0;
    if (cause === "consecutiveGatewayErrors") host.consecutiveGateway = 0;
    if (cause === "consecutiveLocalFailures") host.consecutiveLocal = 0;
    if (host.ejected) return;
    const { maxEjectionPercent, alwaysEjectOne, baseEjection, maxEjection } = this.#config;
    const share = (100 * (this.#active + 1)) / this.#hosts().size;
    if (share > maxEjectionPercent && !(alwaysEjectOne && this.#active === 0)) {
      this.overflows++;
      return;
    }
    this.#active++;
    host.ejected = true;
    host.ejectedAt = now;
    host.jitter = this.#random() * (this.#config.ejectionJitter ?? 0);
    // No further than to the longest pause: what is above would have to be lived down for nothing.
    if (host.ejections * baseEjection < maxEjection + baseEjection) host.ejections++;
    this.#ejected(host, cause);
  }

  /** How long an ejection of this host lasts. */
  ejectionTime(host: OutlierHost): number {
    const { baseEjection, maxEjection } = this.#config;
    return Math.min(baseEjection * host.ejections, maxEjection) + host.jitter;
  }

  /** To be called each `config.interval`: lets hosts back in whose time is over, and looks at the rates of the interval. */
  interval(now: number): void {
    for (const host of this.#hosts()) {
      if (host.ejected) {
        if (now - host.ejectedAt < this.ejectionTime(host)) continue;
        host.ejected = false;
        this.#active--;
        host.consecutive5xx = 0;
        host.consecutiveGateway = 0;
        host.consecutiveLocal = 0;
        this.#returned(host);
      } else if (host.ejections > 0) host.ejections--;
    }
    this.#rates(now);
    for (const host of this.#hosts()) {
      host.successes = 0;
      host.total = 0;
    }
  }

  /** Endpoints that are out are not looked at, and do not move the mean (Envoy: processSuccessRateEjections). */
  #rates(now: number): void {
    const { successRate, failurePercentage } = this.#config;
    if (!successRate && !failurePercentage) return;
    const inside = [...this.#hosts()].filter(({ ejected }) => !ejected);
    const counted = (volume: number) => inside.filter(({ total }) => total >= volume);
    // Both are found before one of them ejects anybody.
    const rated = successRate ? counted(successRate.requestVolume) : [];
    const failing = failurePercentage ? counted(failurePercentage.requestVolume) : [];
    if (successRate && rated.length >= successRate.minimumHosts) {
      const rates = rated.map(rateOf);
      const least = successThreshold(rates, successRate.deviationFactor);
      rated.forEach((host, index) => {
        if (rates[index]! < least) this.#eject(host, "successRate", now);
      });
    }
    if (failurePercentage && failing.length >= failurePercentage.minimumHosts) {
      for (const host of failing)
        if (100 - rateOf(host) >= failurePercentage.threshold) this.#eject(host, "failurePercentage", now);
    }
  }
}

/** Per cent. */
function rateOf({ successes, total }: OutlierHost): number {
  return (100 * successes) / total;
}

/**
 * Below so many per cent an endpoint is out: the mean less `factor` standard deviations of all (the population's, so that of 50 and
 * four times 100 it is 90 - 1.9 x 20 = 52).
 */
export function successThreshold(rates: readonly number[], factor: number): number {
  const mean = rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
  const deviation = Math.sqrt(rates.reduce((sum, rate) => sum + (rate - mean) ** 2, 0) / rates.length);
  return mean - deviation * factor;
}
