// The controllers that write for Services: their slices and Endpoints, mirrored slices, load-balancer addresses, and Events.

import { CoreEndpoints, type Endpoints } from "../api/kinds.ts";
import type { Clock } from "../base/clock.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Collection } from "../collections/collection.ts";
import { fromStore } from "../collections/from-store.ts";
import { repairAddresses } from "../services/address-repair.ts";
import { mirrorPlans } from "../services/endpoint-mirroring.ts";
import { startEndpointSliceController, startSliceWriter } from "../services/endpoint-slice-controller.ts";
import { startEndpointsController } from "../services/endpoints-controller.ts";
import { eventRecorder } from "../services/events.ts";
import { startLoadBalancerStatus } from "../services/load-balancer.ts";
import { startServiceCidrController } from "../services/service-cidr-controller.ts";
import { startServiceEvents } from "../services/service-events.ts";
import type { Store } from "../store/store.ts";
import type { StackObjects } from "./objects.ts";
import type { Pipeline } from "./pipeline.ts";

export interface ServiceControllersOptions {
  readonly objects: StackObjects;
  readonly pipeline: Pick<Pipeline, "inputs" | "addresses" | "addressFailures">;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
}

export function startServiceControllers(options: ServiceControllersOptions): Disposable {
  const { objects, pipeline, store, clock, log } = options;
  const { inputs, addresses, addressFailures } = pipeline;
  const objectsOfUsers = fromStore(store, CoreEndpoints);
  const endpoints = objectsOfUsers as Collection<Endpoints>;
  const common = { store, clock, log };
  const recorder = (component: string) => eventRecorder({ component, ...common });
  repairAddresses(store, recorder("ipallocator-repair-controller"))
    .then(({ create, remove }) => {
      if (create.length + remove.length > 0)
        log.warn("addresses of Services were repaired", { made: create.length, given_back: remove.length });
    })
    .catch((error) => log.error("addresses of Services were not looked through", { error: messageOf(error) }));
  return disposeAll([
    objectsOfUsers,
    startEndpointSliceController({ inputs, ...common }),
    startLoadBalancerStatus({ services: objects.services, allocations: addresses, ...common }),
    startEndpointsController({ inputs, endpoints, ...common }),
    startSliceWriter({ plans: mirrorPlans(inputs, endpoints), slices: inputs.slicesByService.of, ...common }),
    startServiceEvents({ inputs, addressFailures, recorder }),
    startServiceCidrController(common),
  ]);
}
