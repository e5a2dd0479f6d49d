// Writes the Endpoints objects of Services with a selector, and takes them away with their Service. Few read them, so
// changes are gathered for a moment and never stand in the way of the slices' writes.

import { CoreEndpoints, type Endpoints, type Service } from "../api/kinds.ts";
import { objectName, splitName } from "../api/object.ts";
import { isStatusReason } from "../api/status-error.ts";
import { backoff } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Collection } from "../collections/collection.ts";
import { type Derived, derive } from "../collections/derive.ts";
import type { Store } from "../store/store.ts";
import { podLabelKey, selects } from "./endpoint-pod.ts";
import { endpointsController, endpointsFor, endpointsManagedByLabel, sameEndpoints } from "./endpoints.ts";
import type { ServiceInputs } from "./inputs.ts";

/** How long changes are gathered, in milliseconds (kube-controller-manager --endpoint-updates-batch-period, 0 there). */
const gatherFor = 100;

/** One per Service that the controller writes for. */
function wantedEndpoints(inputs: ServiceInputs): Derived<Endpoints> {
  return derive(
    inputs.services,
    (service: Service, fetch) => {
      const selector = service.spec?.selector ?? {};
      const [first] = Object.entries(selector);
      const namespace = service.metadata.namespace ?? "default";
      const pods = first
        ? fetch
            .where(inputs.podsByLabel, podLabelKey(namespace, first[0], first[1]))
            .filter((pod) => selects(selector, pod))
        : [];
      return endpointsFor(service, pods);
    },
    { name: "endpoints", key: objectName },
  );
}

export interface EndpointsControllerOptions {
  readonly inputs: ServiceInputs;
  readonly endpoints: Collection<Endpoints>;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
}

export function startEndpointsController(options: EndpointsControllerOptions): Disposable {
  const { inputs, endpoints, store, clock, log } = options;
  const wanted = wantedEndpoints(inputs);
  const due = new Set<string>();
  const attempts = new Map<string, number>();
  /** Services that were deleted while we looked. */
  const lost = new Set<string>();
  const isOurs = (object: Endpoints) => object.metadata.labels?.[endpointsManagedByLabel] === endpointsController;
  const timers = new Set<Disposable>();
  let gathering = false;
  let writing = false;
  let disposed = false;

  function later(milliseconds: number, then: () => void): void {
    const timer = clock.after(milliseconds, () => {
      timers.delete(timer);
      then();
    });
    timers.add(timer);
  }

  function changed(key: string): void {
    due.add(key);
    if (gathering || writing || disposed) return;
    gathering = true;
    later(gatherFor, () => {
      gathering = false;
      void writeAll();
    });
  }

  async function writeAll(): Promise<void> {
    if (writing) return;
    writing = true;
    for (const key of due) {
      if (disposed) break;
      due.delete(key);
      try {
        await write(key);
        attempts.delete(key);
      } catch (error) {
        const attempt = attempts.get(key) ?? 0;
        attempts.set(key, attempt + 1);
        const expected = isStatusReason(error, "Conflict") || isStatusReason(error, "AlreadyExists");
        if (!expected) log.warn("Endpoints were not written; trying again", { service: key, error: messageOf(error) });
        later(backoff(attempt, { initial: expected ? 20 : 1_000, max: 1_000_000 }), () => changed(key));
      }
    }
    writing = false;
  }

  async function write(key: string): Promise<void> {
    const { namespace, name } = splitName(key);
    const at = { resource: CoreEndpoints, name, ...(namespace ? { namespace } : {}) };
    const object = wanted.get(key);
    const now = (await store.get(at)) as Endpoints | undefined;
    if (object) {
      if (!now) await store.create(CoreEndpoints, object);
      else if (!sameEndpoints(now, object)) {
        const { resourceVersion, uid, annotations } = now.metadata;
        const { "endpoints.kubernetes.io/over-capacity": _, ...kept } = annotations ?? {};
        const metadata = {
          ...object.metadata,
          ...(resourceVersion ? { resourceVersion } : {}),
          ...(uid ? { uid } : {}),
          annotations: { ...kept, ...object.metadata.annotations },
        };
        await store.update(CoreEndpoints, { ...object, metadata });
      }
    } else if (now && (isOurs(now) || (lost.has(key) && !inputs.services.has(key)))) {
      // With its Service an object goes whoever wrote it.
      await store.delete(at).catch((error) => {
        if (!isStatusReason(error, "NotFound")) throw error;
      });
    }
    lost.delete(key);
  }

  const subscriptions = [
    wanted.subscribe(
      (batch) => {
        for (const { key } of batch) changed(key);
      },
      { replay: true },
    ),
    inputs.services.subscribe((batch) => {
      for (const { key, after } of batch) {
        if (after) lost.delete(key);
        else {
          lost.add(key);
          changed(key);
        }
      }
    }),
    // What somebody else changed or removed is put right; what was left behind by a Service that is gone, too.
    endpoints.subscribe(
      (batch) => {
        for (const { key, after } of batch) {
          const object = wanted.get(key);
          const right = object ? after && sameEndpoints(after, object) : !after || !isOurs(after);
          if (!right) changed(key);
        }
      },
      { replay: true },
    ),
  ];
  return {
    dispose() {
      disposed = true;
      for (const one of [...subscriptions, ...timers]) one.dispose();
      wanted.dispose();
    },
  };
}
