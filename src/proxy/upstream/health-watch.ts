// A backend's passive health while it is in use: takes what became of requests, hands it to outlier detection, failure accrual and
// response-time averages, and looks again when their times are over. Says that the choice of endpoints is out of date; how one
// is made is `endpoint-choice.ts`. The rules are in `outlier-detection.ts`, `failure-accrual.ts` and `peak-ewma.ts`.

import type { Logger } from "../../base/log.ts";
import type { Backend } from "../../model/model.ts";
import type { StatusRange } from "../../model/upstream-policies.ts";
import { Deadline, type Deadlines } from "../deadlines.ts";
import type { EndpointHealth } from "./endpoint-health.ts";
import { type EjectionCause, OutlierDetection, type OutlierHost } from "./outlier-detection.ts";

/** An endpoint whose health is watched. */
export interface Watched {
  readonly address: string;
  readonly port: number;
  readonly health: EndpointHealth;
}

export type LocalFailure = "connectFailure" | "timeout";
export type UnhealthyCause = EjectionCause | "failureAccrual" | "healthCheck";

/** Weights of endpoints that warm up are computed anew so often in their window, within these bounds in milliseconds. */
const warmSteps = 50;
const warmShortest = 50;
const warmLongest = 1_000;

export class HealthWatch extends Deadline {
  /** How often endpoints were taken out, by cause. */
  readonly ejections = new Map<UnhealthyCause, number>();
  readonly #backend: string;
  readonly #deadlines: Deadlines;
  readonly #log: Logger | undefined;
  readonly #changed: () => void;
  #config: Backend;
  #hosts = new Map<OutlierHost, Watched>();
  #hostSet: ReadonlySet<OutlierHost> = new Set();
  #outlier: OutlierDetection | undefined = undefined;
  #nextInterval = Number.POSITIVE_INFINITY;

  /** `changed` is called when other endpoints may take requests than before. */
  constructor(config: Backend, deadlines: Deadlines, log: Logger | undefined, changed: () => void) {
    super();
    this.#config = config;
    this.#backend = config.name;
    this.#deadlines = deadlines;
    this.#log = log;
    this.#changed = changed;
    this.#startDetection();
  }

  /** Whether a backend asks for anything that has to be watched. */
  static isNeeded({ outlierDetection, failureAccrual, healthCheck, balance }: Backend): boolean {
    const slowStart = "slowStart" in balance && balance.slowStart !== undefined;
    return Boolean(outlierDetection || failureAccrual || healthCheck) || balance.kind === "peakEwma" || slowStart;
  }

  /** Ejections that the bound on them did not let happen. */
  get overflows(): number {
    return this.#outlier?.overflows ?? 0;
  }

  /** Endpoints have been configured for it already. A detector under another policy begins anew, as Envoy's does. */
  configure(config: Backend): void {
    const same = JSON.stringify(config.outlierDetection) === JSON.stringify(this.#config.outlierDetection);
    this.#config = config;
    if (!same) this.#startDetection();
    this.#arm();
  }

  #startDetection(): void {
    const { outlierDetection } = this.#config;
    this.#outlier = undefined;
    this.#nextInterval = Number.POSITIVE_INFINITY;
    if (!outlierDetection) return;
    this.#outlier = new OutlierDetection(outlierDetection, () => this.#hostSet, {
      ejected: (host, cause) => this.#out(this.#hosts.get(host)!, cause),
      returned: (host) => this.#back(this.#hosts.get(host)!),
    });
    this.#nextInterval = this.#deadlines.now() + outlierDetection.interval;
  }

  /** All endpoints there are now. */
  setEndpoints(endpoints: Iterable<Watched>): void {
    const before = this.#hosts;
    this.#hosts = new Map();
    for (const one of endpoints) this.#hosts.set(one.health.outlier, one);
    this.#hostSet = new Set(this.#hosts.keys());
    for (const host of before.keys()) if (!this.#hosts.has(host)) this.#outlier?.left(host);
    this.#arm();
  }

  // ------------------------------------------------------------------------------------------------ what is reported

  /** A request was given to the endpoint. One of the reports below follows. */
  taken({ health: { breaker } }: Watched): void {
    if (breaker?.shutUntil === undefined) return;
    // It is the one probe: nobody else may ask until it is over.
    breaker.taken();
    this.#changed();
  }

  /** The endpoint answered, `milliseconds` after it was asked. */
  answered(endpoint: Watched, code: number, milliseconds: number): void {
    const { health } = endpoint;
    const { failureStatuses } = this.#config;
    const status = failureStatuses === undefined ? code : asCounted(code, failureStatuses);
    const now = this.#deadlines.now();
    health.cost?.observe(milliseconds, now);
    this.#outlier?.report(health.outlier, { kind: "answer", status }, now);
    const { breaker } = health;
    if (!breaker) return;
    if (status >= 500) this.#failed(endpoint, now);
    else {
      const wasShut = breaker.shutUntil !== undefined;
      breaker.succeeded(now);
      if (wasShut) this.#back(endpoint);
    }
  }

  /** The endpoint gave no answer. */
  failed(endpoint: Watched, kind: LocalFailure, milliseconds: number): void {
    const now = this.#deadlines.now();
    // A refusal is quick, and must not look like a quick answer.
    if (kind === "timeout") endpoint.health.cost?.observe(milliseconds, now);
    this.#outlier?.report(endpoint.health.outlier, { kind }, now);
    if (endpoint.health.breaker) this.#failed(endpoint, now);
  }

  /** The request ended without saying anything of the endpoint. */
  abandoned({ health: { breaker } }: Watched): void {
    if (breaker?.shutUntil === undefined) return;
    breaker.abandoned();
    this.#changed();
  }

  #failed(endpoint: Watched, now: number): void {
    if (!endpoint.health.breaker!.failed(now)) return;
    this.#out(endpoint, "failureAccrual");
    this.#arm();
  }

  /** An active check has come to a result; `problem` is undefined when the endpoint is well. */
  checked(endpoint: Watched, problem: string | undefined): void {
    if (!endpoint.health.active?.result(problem === undefined)) return;
    if (problem === undefined) this.#back(endpoint);
    else this.#isOut(endpoint, "healthCheck", { problem });
  }

  // -------------------------------------------------------------------------------------------------------- out and in

  #out(endpoint: Watched, cause: EjectionCause | "failureAccrual"): void {
    const { health } = endpoint;
    const now = this.#deadlines.now();
    const until =
      cause === "failureAccrual" ? health.breaker!.shutUntil! : now + this.#outlier!.ejectionTime(health.outlier);
    this.#isOut(endpoint, cause, { milliseconds: Math.round(until - now) });
  }

  /** The endpoint takes no requests from now on. */
  #isOut(endpoint: Watched, cause: UnhealthyCause, more: Readonly<Record<string, unknown>>): void {
    endpoint.health.outBecause = cause;
    this.ejections.set(cause, (this.ejections.get(cause) ?? 0) + 1);
    this.#log?.warn("endpoint taken out", { ...this.#named(endpoint), cause, ...more });
    this.#changed();
  }

  /** The endpoint takes requests again, if nothing else speaks against it. */
  #back(endpoint: Watched): void {
    endpoint.health.outBecause = undefined;
    endpoint.health.since = this.#deadlines.now();
    this.#log?.info("endpoint back", this.#named(endpoint));
    this.#changed();
    this.#arm();
  }

  #named({ address, port }: Watched): Record<string, unknown> {
    return { backend: this.#backend, endpoint: `${address}:${port}` };
  }

  // ------------------------------------------------------------------------------------------------------------ times

  expired(): void {
    const now = this.#deadlines.now();
    if (now >= this.#nextInterval) {
      this.#nextInterval = now + this.#config.outlierDetection!.interval;
      this.#outlier!.interval(now);
    }
    // Pauses of breakers that are over, and endpoints that are warmer.
    if (this.#config.failureAccrual || this.#warmStep(now) !== undefined) this.#changed();
    this.#arm();
  }

  #arm(): void {
    const now = this.#deadlines.now();
    let next = this.#nextInterval;
    if (this.#config.failureAccrual) {
      for (const { health } of this.#hosts.values()) {
        const until = health.breaker?.shutUntil;
        if (until !== undefined && until > now && until < next) next = until;
      }
    }
    const step = this.#warmStep(now);
    if (step !== undefined) next = Math.min(next, now + step);
    if (next < Number.POSITIVE_INFINITY) this.#deadlines.arm(this, next - now);
    else if (this.wheel) this.#deadlines.disarm(this);
  }

  /** Milliseconds to the next look at weights; undefined when every endpoint is warm. */
  #warmStep(now: number): number | undefined {
    const { balance } = this.#config;
    const window = "slowStart" in balance ? balance.slowStart?.window : undefined;
    if (window === undefined) return undefined;
    const step = Math.min(warmLongest, Math.max(warmShortest, window / warmSteps));
    for (const { health } of this.#hosts.values()) if (now - health.since < window + step) return step;
    return undefined;
  }

  /** Nothing is watched any more. */
  dispose(): void {
    if (this.wheel) this.#deadlines.disarm(this);
    this.#outlier = undefined;
    this.#nextInterval = Number.POSITIVE_INFINITY;
  }
}

/** The status as the detectors see it, which take 500 and above for failures. A gateway's error that is listed stays one. */
function asCounted(status: number, failures: readonly StatusRange[]): number {
  const isFailure = failures.some(({ first, last }) => status >= first && status <= last);
  return isFailure ? Math.max(500, status) : Math.min(200, status);
}
