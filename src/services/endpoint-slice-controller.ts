// Writes the EndpointSlices that Services should have: a derived collection of the writes that are due, and a worker that does
// them. It remembers nothing that the store does not know, but for one thing: what it has just written and not yet seen come
// back, because a plan made from older slices would write it again.

import { type EndpointSlice, EndpointSlices, type Service } from "../api/kinds.ts";
import { objectName } from "../api/object.ts";
import { isStatusReason } from "../api/status-error.ts";
import { backoff } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Collection, Fetch } from "../collections/collection.ts";
import { type Derived, derive } from "../collections/derive.ts";
import type { Store } from "../store/store.ts";
import { podLabelKey, selects } from "./endpoint-pod.ts";
import { hintOutcomes, type ReconcileInput, reconcile, type SliceChanges } from "./endpoint-slices.ts";
import type { ServiceInputs } from "./inputs.ts";
import { serviceOfSlice } from "./objects.ts";
import { wantsTopologyHints } from "./topology-hints.ts";

/** The writes that are due for one Service. */
export interface SlicePlan extends SliceChanges {
  readonly service: string;
}

/** What the slices of one Service are made from. */
function reconcileInput(inputs: ServiceInputs, service: Service, fetch: Fetch): ReconcileInput {
  const { slicesByService, podsByLabel, nodes, topologyNodes } = inputs;
  const selector = service.spec?.selector ?? {};
  const [first] = Object.entries(selector);
  const namespace = service.metadata.namespace ?? "default";
  const pods = first
    ? fetch.where(podsByLabel, podLabelKey(namespace, first[0], first[1])).filter((pod) => selects(selector, pod))
    : [];
  return {
    service,
    pods,
    nodes: (name) => fetch.one(nodes, name),
    existing: fetch.where(slicesByService, objectName(service)),
    ...(wantsTopologyHints(service) ? { topology: fetch.all(topologyNodes) } : {}),
  };
}

/** Plans by Service; a Service whose slices are right has none. */
export function slicePlans(inputs: ServiceInputs): Derived<SlicePlan> {
  return derive(
    inputs.services,
    (service, fetch) => {
      const changes = reconcile(reconcileInput(inputs, service, fetch));
      if (!changes || changes.create.length + changes.update.length + changes.delete.length === 0) return undefined;
      return { service: objectName(service), ...changes };
    },
    { name: "endpointslice plans", key: (plan) => plan.service },
  );
}

/** What came of a Service's wish for topology hints, in words for people. */
export interface HintReport {
  readonly service: string;
  readonly family: string;
  readonly enabled: boolean;
  readonly message: string;
}

export function hintReports(inputs: ServiceInputs): Derived<HintReport> {
  return derive(
    inputs.services,
    (service, fetch) => {
      if (!wantsTopologyHints(service)) return [];
      const outcomes = hintOutcomes(reconcileInput(inputs, service, fetch)) ?? {};
      return Object.entries(outcomes).map(([family, outcome]) => {
        const words = outcome.zones ? "Topology Aware Hints has been enabled" : outcome.disabled;
        return {
          ...{ service: objectName(service), family, enabled: outcome.zones !== undefined },
          message: `${words}, addressType: ${family}`,
        };
      });
    },
    { name: "topology hint reports", key: (report) => `${report.service} ${report.family}` },
  );
}

/** kube-controller-manager's maxRetries. */
const maxRetries = 15;
const parallel = 5;

export interface SliceWriterOptions {
  /** By Service. */
  readonly plans: Derived<SlicePlan>;
  readonly slices: Collection<EndpointSlice>;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface SliceController extends Disposable {
  readonly plans: Derived<SlicePlan>;
  /** Whether nothing is due and nothing is under way. */
  idle(): boolean;
}

export interface SliceControllerOptions extends Pick<SliceWriterOptions, "store" | "clock" | "log"> {
  readonly inputs: ServiceInputs;
}

export function startEndpointSliceController({ inputs, ...options }: SliceControllerOptions): SliceController {
  return startSliceWriter({ ...options, plans: slicePlans(inputs), slices: inputs.slicesByService.of });
}

/** Carries plans out as they come; ends them with itself. */
export function startSliceWriter(options: SliceWriterOptions): SliceController {
  const { plans, slices, store, clock, log } = options;
  const queue = new Set<string>();
  const running = new Set<string>();
  const failures = new Map<string, number>();
  const timers = new Map<string, Disposable>();
  const awaited = new Awaited(clock, (service) => {
    queue.add(service);
    pump();
  });
  let disposed = false;

  function pump(): void {
    for (const service of queue) {
      if (disposed || running.size >= parallel) return;
      if (running.has(service) || awaited.has(service)) continue;
      queue.delete(service);
      const plan = plans.get(service);
      if (!plan) continue;
      running.add(service);
      void run(service, plan);
    }
  }

  async function run(service: string, plan: SlicePlan): Promise<void> {
    try {
      await write(plan);
      failures.delete(service);
    } catch (error) {
      retry(service, error);
    } finally {
      running.delete(service);
      pump();
    }
  }

  async function write(plan: SlicePlan): Promise<void> {
    const { service } = plan;
    for (const slice of plan.create)
      awaited.written(service, await store.create(EndpointSlices, slice), (key) => slices.get(key));
    for (const slice of plan.update)
      awaited.written(service, await store.update(EndpointSlices, slice), (key) => slices.get(key));
    for (const slice of plan.delete) {
      const { namespace, name, resourceVersion, uid } = slice.metadata;
      try {
        await store.delete(
          { resource: EndpointSlices, name, ...(namespace ? { namespace } : {}) },
          { preconditions: { ...(resourceVersion ? { resourceVersion } : {}), ...(uid ? { uid } : {}) } },
        );
      } catch (error) {
        if (!isStatusReason(error, "NotFound")) throw error;
      }
    }
  }

  function retry(service: string, error: unknown): void {
    const attempt = failures.get(service) ?? 0;
    // Somebody else wrote first, or the Service's namespace is going: the next state of the collections says what to do.
    const conflict = isStatusReason(error, "Conflict") || isStatusReason(error, "NotFound");
    if (attempt >= maxRetries) {
      log.error("EndpointSlices were not written; giving up until the Service changes", {
        service,
        error: messageOf(error),
      });
      failures.delete(service);
      return;
    }
    failures.set(service, attempt + 1);
    const wait = backoff(attempt, conflict ? { initial: 20, max: 5_000 } : { initial: 1_000, max: 1_000_000 });
    if (!conflict)
      log.warn("EndpointSlices were not written; trying again", { service, error: messageOf(error), wait });
    timers.get(service)?.dispose();
    timers.set(
      service,
      clock.after(wait, () => {
        timers.delete(service);
        queue.add(service);
        pump();
      }),
    );
  }

  const subscriptions = [
    slices.subscribe((batch) => {
      for (const { key, before, after } of batch) {
        const service = serviceOfSlice((after ?? before)!);
        if (service !== undefined && awaited.seen(service, key, after) && plans.has(service)) queue.add(service);
      }
      pump();
    }),
    plans.subscribe(
      (batch) => {
        for (const { key, after } of batch) if (after) queue.add(key);
        pump();
      },
      { replay: true },
    ),
  ];

  return {
    plans,
    idle: () => plans.size === 0 && running.size === 0,
    dispose() {
      disposed = true;
      for (const one of subscriptions) one.dispose();
      for (const one of timers.values()) one.dispose();
      plans.dispose();
    },
  };
}

/** Milliseconds after which a write is no longer waited for: its slice was deleted before it was ever seen. */
const longestWait = 10_000;

/** Writes that have not come back yet, by Service and slice. */
class Awaited {
  readonly #versions = new Map<string, Map<string, string>>();
  readonly #clock: Clock;
  readonly #giveUp: (service: string) => void;

  constructor(clock: Clock, giveUp: (service: string) => void) {
    this.#clock = clock;
    this.#giveUp = giveUp;
  }

  has(service: string): boolean {
    return this.#versions.has(service);
  }

  written(service: string, slice: EndpointSlice, current: (key: string) => EndpointSlice | undefined): void {
    const key = objectName(slice);
    const version = slice.metadata.resourceVersion ?? "0";
    if (reached(current(key), version)) return;
    const versions = this.#versions.get(service) ?? new Map<string, string>();
    versions.set(key, version);
    this.#versions.set(service, versions);
    this.#clock.after(longestWait, () => {
      if (versions.get(key) !== version || this.#versions.get(service) !== versions) return;
      this.#versions.delete(service);
      this.#giveUp(service);
    });
  }

  /** Takes note of a slice's new state; true when nothing more is awaited for the Service. */
  seen(service: string, key: string, slice: EndpointSlice | undefined): boolean {
    const versions = this.#versions.get(service);
    if (!versions) return false;
    const version = versions.get(key);
    if (version !== undefined && (slice === undefined || reached(slice, version))) versions.delete(key);
    if (versions.size > 0) return false;
    this.#versions.delete(service);
    return true;
  }
}

function reached(slice: EndpointSlice | undefined, version: string): boolean {
  return slice?.metadata.resourceVersion !== undefined && BigInt(slice.metadata.resourceVersion) >= BigInt(version);
}
