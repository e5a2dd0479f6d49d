// What a node of a stack says of its Services over HTTP: puts the servers of `node/health/` together with this stack's objects,
// and writes an Event for a port that they cannot have.

import type { Node, Service } from "../api/kinds.ts";
import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { type IpFamily, ipFamily } from "../base/ip.ts";
import type { Logger } from "../base/log.ts";
import { inNetns } from "../base/setns.ts";
import { startHealthServers } from "../node/health/health-servers.ts";
import { metricsText } from "../node/health/metrics.ts";
import { isEligible } from "../node/health/proxier-health.ts";
import type { NodePlace, PodNetwork } from "../node/network.ts";
import type { EventRecorder } from "../services/events.ts";
import type { NodeRules } from "./endpoints-gone.ts";
import type { StackObjects } from "./objects.ts";
import type { StackSettings } from "./stack.ts";

export interface NodeHealthOptions {
  readonly settings: Pick<StackSettings, "proxyMode">;
  readonly network: PodNetwork;
  readonly place: NodePlace;
  readonly rules: NodeRules;
  readonly objects: Pick<StackObjects, "nodes" | "services">;
  readonly record: EventRecorder;
  readonly clock: Clock;
  readonly log: Logger;
}

export function startNodeHealth(options: NodeHealthOptions): Disposable {
  const { settings, network, place, rules, objects, record, clock, log } = options;
  const { table, sink } = rules;
  const netns = network.place({ node: place.name })?.netns;
  const has = (family: IpFamily) => place.addresses.some((address) => ipFamily(address) === family);
  return startHealthServers({
    table,
    progress: () =>
      sink.families.map(({ family, measures: { lastApplied, pendingSince } }) => ({
        family,
        lastApplied,
        pendingSince,
      })),
    eligible: () => isEligible(objects.nodes.get(place.name) as Node | undefined),
    mode: settings.proxyMode,
    metrics: (answers) =>
      metricsText({
        mode: settings.proxyMode,
        families: sink.families,
        rows: [...table.values()],
        ...answers,
      }),
    // Where nodes are namespaces, all their addresses are theirs alone; elsewhere a node has one address of the host's loopback.
    addresses: netns === undefined ? place.addresses : [has(6) ? "::" : "0.0.0.0"],
    metricsAddresses:
      netns === undefined ? place.addresses : [...(has(4) ? ["127.0.0.1"] : []), ...(has(6) ? ["::1"] : [])],
    effectivePort: (port) => network.effectivePort(port),
    bind: (open) => inNetns(netns, open),
    failed({ namespace, service, port }, message) {
      const object = objects.services.get(`${namespace}/${service}`) as Service | undefined;
      if (!object) return;
      record(object, {
        type: "Warning",
        reason: "FailedToStartServiceHealthcheck",
        message: `node ${place.name} failed to start healthcheck "${namespace}/${service}" on port ${port}: ${message}`,
      });
    },
    clock,
    log,
  });
}
