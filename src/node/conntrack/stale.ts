// Which entries of connection tracking a change of Services has made wrong: a UDP client goes on sending from one port, so that
// its entry lives as long as it sends, and leads to an endpoint that is gone. Unlike kube-proxy 1.36, Services that were deleted
// or are left without endpoints are looked after, too (kubernetes/kubernetes 1.37 does so for other than node ports). Pure.

import type { Change } from "../../collections/collection.ts";
import { endpointText } from "../../services/service-table.ts";
import { type ConntrackEntry, entryText } from "./entries.ts";
import type { UdpService } from "./udp-services.ts";

/** Whether a change can have made an entry wrong: adding an endpoint to others does not. */
export function mayLeaveStale({ before, after }: Change<UdpService>): boolean {
  if (!before || !after) return true;
  if (before.nodePort !== after.nodePort || before.endpoints.length === 0) return true;
  if (before.frontends.join() !== after.frontends.join()) return true;
  return before.endpoints.some((one) => !after.endpoints.includes(one));
}

/**
 * The entries to delete, each destination and endpoint once: those to an address or node port that a changed Service had or
 * has, and which no endpoint answers that serves there now. `now` are all UDP services, for an address that changed hands.
 */
export function staleEntries(
  entries: readonly ConntrackEntry[],
  changes: readonly Change<UdpService>[],
  now: Iterable<UdpService>,
  nodeAddresses: readonly string[],
): readonly ConntrackEntry[] {
  const frontends = new Map<string, Set<string>>();
  const nodePorts = new Map<number, Set<string>>();
  for (const { before, after } of changes) {
    for (const service of [before, after]) {
      for (const one of service?.frontends ?? []) frontends.set(one, new Set());
      if (service?.nodePort !== undefined) nodePorts.set(service.nodePort, new Set());
    }
  }
  for (const service of now) {
    const lists = service.frontends.map((one) => frontends.get(one));
    if (service.nodePort !== undefined) lists.push(nodePorts.get(service.nodePort));
    for (const list of lists) if (list) for (const endpoint of service.endpoints) list.add(endpoint);
  }
  const stale = new Map<string, ConntrackEntry>();
  for (const entry of entries) {
    const to = endpointText(entry.destination);
    const by = endpointText(entry.answers);
    let serving = frontends.get(to);
    // A node port's number on somebody else's address is somebody else's, unless it was translated.
    if (!serving && (by !== to || nodeAddresses.includes(entry.destination.address))) {
      serving = nodePorts.get(entry.destination.port);
    }
    if (serving && !serving.has(by)) stale.set(entryText(entry), entry);
  }
  return [...stale.values()];
}
