// What kube-proxy's metrics tell of its rules, measured while the rules sink works: durations, timestamps, changes seen and
// waiting, and how long after a change of a pod its rules were written (kubernetes/community sig-scalability,
// network_programming_latency.md). Only numbers; their text is `health/metrics.ts`'.

import type { Batch } from "../collections/collection.ts";
import type { ServicePort, TableEndpoint } from "../services/service-table.ts";

/** A Prometheus histogram: `bounds` are upper bounds, `counts` how many values each bucket has (the last is the rest). */
export class Histogram {
  readonly bounds: readonly number[];
  readonly counts: number[];
  sum = 0;
  count = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Array<number>(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    const at = this.bounds.findIndex((bound) => value <= bound);
    this.counts[at < 0 ? this.bounds.length : at]!++;
    this.sum += value;
    this.count++;
  }
}

/** Buckets of pkg/proxy/metrics/metrics.go, in seconds: 1 ms doubled 15 times. */
const syncBounds = Array.from({ length: 15 }, (_, at) => 0.001 * 2 ** at);
/** 0.25 and 0.5; each second to a minute; each 5 s to two; each 30 s to five. */
const programmingBounds = [
  ...[0.25, 0.5],
  ...Array.from({ length: 59 }, (_, at) => at + 1),
  ...Array.from({ length: 12 }, (_, at) => 60 + 5 * at),
  ...Array.from({ length: 7 }, (_, at) => 120 + 30 * at),
];

export class RulesMeasures {
  readonly sync = new Histogram(syncBounds);
  readonly fullSync = new Histogram(syncBounds);
  readonly partialSync = new Histogram(syncBounds);
  readonly programming = new Histogram(programmingBounds);
  /** Milliseconds since the epoch; undefined before the first. */
  lastQueued: number | undefined;
  lastApplied: number | undefined;
  serviceChanges = 0;
  endpointChanges = 0;
  fullFailures = 0;
  partialFailures = 0;
  conntrackDeleted = 0;
  readonly conntrack = new Histogram(syncBounds);
  readonly #started: number;
  readonly #pendingServices = new Set<string>();
  readonly #pendingEndpoints = new Set<string>();
  /** When the endpoints of a Service changed that wait for their rules. */
  #triggers: number[] = [];
  #waitingSince: number | undefined;
  #writingSince: number | undefined;
  #putBack: (() => void) | undefined;

  constructor(now: number) {
    // The notes are in whole seconds.
    this.#started = Math.floor(now / 1000) * 1000;
  }

  /** When the oldest change came that is not in the kernel yet; undefined when all are. */
  get pendingSince(): number | undefined {
    return this.#writingSince ?? this.#waitingSince;
  }

  get pendingServices(): number {
    return this.#pendingServices.size;
  }

  get pendingEndpoints(): number {
    return this.#pendingEndpoints.size;
  }

  /** Takes note of changed rows. `changedAt` is when a row's endpoints changed at their source, RFC 3339. */
  queued(batch: Batch<ServicePort>, now: number, changedAt?: (row: ServicePort) => string | undefined): void {
    if (batch.length === 0) return;
    this.lastQueued = now;
    this.#waitingSince ??= now;
    const services = new Set<string>();
    const endpoints = new Set<string>();
    for (const { before, after } of batch) {
      const row = (after ?? before)!;
      const name = `${row.namespace}/${row.service}`;
      const moved = !sameEndpoints(before, after);
      if (moved && !endpoints.has(name)) {
        endpoints.add(name);
        const time = after && changedAt ? Date.parse(changedAt(after) ?? "") : Number.NaN;
        // What happened before we were there says nothing of how fast we are.
        if (time >= this.#started) this.#triggers.push(time);
      }
      if (!moved || !before || !after) services.add(name);
    }
    this.serviceChanges += services.size;
    this.endpointChanges += endpoints.size;
    for (const name of services) this.#pendingServices.add(name);
    for (const name of endpoints) this.#pendingEndpoints.add(name);
  }

  /** What waits now is about to be written; the answer tells that it was. Changes that come meanwhile wait on. */
  begin(): (now: number) => void {
    const services = [...this.#pendingServices];
    const endpoints = [...this.#pendingEndpoints];
    const triggers = this.#triggers;
    this.#pendingServices.clear();
    this.#pendingEndpoints.clear();
    this.#triggers = [];
    this.#writingSince = this.#waitingSince;
    this.#waitingSince = undefined;
    this.#putBack = () => {
      for (const name of services) this.#pendingServices.add(name);
      for (const name of endpoints) this.#pendingEndpoints.add(name);
      this.#triggers.push(...triggers);
      this.#waitingSince = this.#writingSince ?? this.#waitingSince;
      this.#writingSince = undefined;
    };
    return (now) => {
      this.#putBack = undefined;
      this.#writingSince = undefined;
      this.lastApplied = now;
      for (const time of triggers) this.programming.observe(Math.max(0, now - time) / 1000);
    };
  }

  /** What was about to be written was refused: it waits again. */
  refused(whole: boolean): void {
    this.#putBack?.();
    this.#putBack = undefined;
    if (whole) this.fullFailures++;
    else this.partialFailures++;
  }

  /** A transaction took so long, in seconds; `whole` when it began from what the kernel has, not from what we know. */
  took(seconds: number, whole: boolean): void {
    this.sync.observe(seconds);
    (whole ? this.fullSync : this.partialSync).observe(seconds);
  }
}

function sameEndpoints(before: ServicePort | undefined, after: ServicePort | undefined): boolean {
  const same = (a: readonly TableEndpoint[] | undefined, b: readonly TableEndpoint[] | undefined) =>
    (a?.length ?? 0) === (b?.length ?? 0) &&
    (a ?? []).every((one, at) => one.address === b![at]!.address && one.port === b![at]!.port);
  return (
    same(before?.clusterEndpoints, after?.clusterEndpoints) &&
    same(before?.localEndpoints, after?.localEndpoints) &&
    (before?.localReady ?? 0) === (after?.localReady ?? 0)
  );
}
