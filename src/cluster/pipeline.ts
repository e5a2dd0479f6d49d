// From a store's objects to the routing model: every derivation between them, and nothing that has an effect outside of this
// process. `embedded.ts` hangs sinks on it; `explain-files.ts` asks it and throws it away.

import { type Disposable, disposeAll } from "../base/disposal.ts";
import type { Logger } from "../base/log.ts";
import type { Collection } from "../collections/collection.ts";
import { union } from "../collections/derive.ts";
import { type GatewayApi, gatewayApi } from "../dialects/gateway-api/translate.ts";
import type { ModelCollections } from "../distribution/resource-sets.ts";
import type { Model } from "../model/model.ts";
import type { ListenerState } from "../model/status-update.ts";
import { serviceBackends } from "../services/backends.ts";
import { type ServiceInputs, serviceInputs } from "../services/inputs.ts";
import {
  type AddressAllocation,
  type AddressFailure,
  gatewayWants,
  keepAllocations,
  serviceWants,
} from "../services/load-balancer.ts";
import { loadBalancerPool } from "../services/load-balancer-pool.ts";
import type { StackObjects } from "./objects.ts";

export interface Pipeline extends Disposable {
  readonly inputs: ServiceInputs;
  /** Load-balancer addresses by owner. */
  readonly addresses: Collection<AddressAllocation>;
  /** Who could not be given an address, and why. */
  readonly addressFailures: Collection<AddressFailure>;
  readonly gatewayApi: GatewayApi;
  readonly model: ModelCollections;
}

export interface PipelineOptions {
  readonly objects: StackObjects;
  /** Ranges of load-balancer addresses, one of each family, the primary one first. */
  readonly loadBalancers: readonly string[];
  readonly listenerStates: Collection<ListenerState>;
  readonly log: Logger;
}

export function startPipeline({ objects, loadBalancers, listenerStates, log }: PipelineOptions): Pipeline {
  const inputs = serviceInputs(objects);
  const { backends, endpoints } = serviceBackends(inputs);
  const wants = union("addresses wanted", [serviceWants(objects.services), gatewayWants(objects.gateways)]);
  const allocations = keepAllocations(loadBalancers.map(loadBalancerPool), wants, log.child("addresses"));
  const gateways = gatewayApi({
    ...objects,
    addresses: allocations.allocations,
    addressFailures: allocations.failures,
    listenerStates,
    adopt: "any",
  });
  const { listeners, routeTables, secrets } = gateways;
  return {
    inputs,
    addresses: allocations.allocations,
    addressFailures: allocations.failures,
    gatewayApi: gateways,
    model: { listeners, routeTables, secrets, backends, endpoints },
    ...disposeAll([allocations, gateways]),
  };
}

/** The collections as a model, for `decide`. */
export function modelOf(collections: ModelCollections): Model {
  const copy = <V>(collection: Collection<V>): ReadonlyMap<string, V> => new Map(collection.entries());
  return {
    secrets: copy(collections.secrets),
    backends: copy(collections.backends),
    endpoints: copy(collections.endpoints),
    routeTables: copy(collections.routeTables),
    listeners: copy(collections.listeners),
  };
}
