// The Service addresses of one node of the network without privileges: no kernel rules, but a forwarder in this process
// (`node/userspace/`), with measures as if it had some.

import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { Collection } from "../collections/collection.ts";
import type { NodePlace, PodNetwork } from "../node/network.ts";
import { RulesMeasures } from "../node/rules-measures.ts";
import { UserspaceForwarder } from "../node/userspace/forwarder.ts";
import { eventRecorder } from "../services/events.ts";
import type { ServicePort } from "../services/service-table.ts";
import type { Store } from "../store/store.ts";
import type { NodeRules } from "./endpoints-gone.ts";
import type { StackObjects } from "./objects.ts";

export interface UserspaceRulesOptions {
  readonly network: PodNetwork;
  readonly places: readonly NodePlace[];
  readonly objects: Pick<StackObjects, "services">;
  readonly store: Store;
  readonly clock: Clock;
}

/** Serves the table's addresses until it is disposed of. */
export function userspaceRules(
  { network, objects, store, clock, places }: UserspaceRulesOptions,
  place: NodePlace,
  table: Collection<ServicePort>,
  log: Logger,
): NodeRules["sink"] {
  const effectivePort = (port: number) => network.effectivePort(port);
  const record = eventRecorder({ store, clock, log, component: "kube-proxy", host: place.name });
  const failed = (row: ServicePort, address: string, why: string) => {
    const service = objects.services.get(`${row.namespace}/${row.service}`);
    const message = `node ${place.name} cannot serve ${address} of port ${row.name}: ${why}`;
    if (service) record(service, { type: "Warning", reason: "FailedToListen", message });
  };
  const forwarder = new UserspaceForwarder({
    table,
    nodeAddresses: place.addresses,
    // Nodes of the loopback network are one host: what is not a node's own is the first one's, as where traffic enters elsewhere.
    servesShared: place === places[0],
    effectivePort,
    clock,
    log,
    failed,
  });
  const measures = new RulesMeasures(clock.now());
  const following = table.subscribe(
    (batch) => {
      measures.queued(batch, clock.now());
      const applied = measures.begin();
      void forwarder.settled().then(() => applied(clock.now()));
    },
    { replay: true },
  );
  void forwarder.settled().then(() => measures.begin()(clock.now()));
  return {
    settled: () => forwarder.settled(),
    families: [{ family: 4, measures }],
    problems: () => [...forwarder.problems()].map(([where, problem]) => `${where}: ${problem}`),
    unserved: (protocol, address, port) => forwarder.unserved(protocol, address, port),
    dispose() {
      following.dispose();
      return forwarder.dispose();
    },
  };
}
