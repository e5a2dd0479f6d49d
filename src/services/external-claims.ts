// Who serves an address and port that several Services claim (`externalIPs` are not allocated by anybody, and two load balancers
// may be given one address): a ClusterIP before all others, then the oldest Service. The others lose that address only, are told
// so by an Event, and all backends agree.

import { canonicalAddress } from "../base/ip.ts";
import type { Collection, Fetch, Index } from "../collections/collection.ts";
import { index } from "../collections/index.ts";
import { isHeadless } from "./objects.ts";
import type { ResolvedService } from "./resolved-service.ts";
import { endpointText } from "./service-table.ts";

/** `10.97.0.1:80/TCP`. */
export type Claim = string;

export function claimOf(address: string, port: number, protocol: string): Claim {
  return `${endpointText({ address: canonicalAddress(address), port })}/${protocol}`;
}

interface Claims {
  readonly own: readonly Claim[];
  readonly external: readonly Claim[];
}

export function claimsOf(service: ResolvedService): Claims {
  const { spec } = service;
  if (spec.type === "ExternalName" || isHeadless(spec)) return { own: [], external: [] };
  const external = [
    ...(spec.externalIPs ?? []),
    ...(spec.type === "LoadBalancer" ? service.ingress.flatMap((one) => (one.ip ? [one.ip] : [])) : []),
  ];
  const all = (addresses: readonly string[]) => [
    ...new Set(
      addresses.flatMap((ip) => (spec.ports ?? []).map((port) => claimOf(ip, port.port, port.protocol ?? "TCP"))),
    ),
  ];
  return { own: all(spec.clusterIPs ?? []), external: all(external) };
}

/** Services by each address and port that they claim. */
export function claimIndex(resolved: Collection<ResolvedService>): Index<ResolvedService> {
  return index(resolved, "services by claimed address", (service) => {
    const { own, external } = claimsOf(service);
    return [...new Set([...own, ...external])];
  });
}

/** The external addresses and ports of a Service that another one has; by claim, the other's name. */
export function lostClaims(
  service: ResolvedService,
  claims: Index<ResolvedService>,
  fetch: Pick<Fetch, "where">,
): ReadonlyMap<Claim, string> {
  const lost = new Map<Claim, string>();
  const { own, external } = claimsOf(service);
  for (const claim of external) {
    if (own.includes(claim)) continue;
    let first: ResolvedService | undefined;
    for (const other of fetch.where(claims, claim)) if (!first || precedes(other, first, claim)) first = other;
    if (first && first.key !== service.key) lost.set(claim, first.key);
  }
  return lost;
}

function precedes(a: ResolvedService, b: ResolvedService, claim: Claim): boolean {
  const [aOwns, bOwns] = [claimsOf(a).own.includes(claim), claimsOf(b).own.includes(claim)];
  if (aOwns !== bOwns) return aOwns;
  const [aTime, bTime] = [a.created ?? "", b.created ?? ""];
  return aTime === bTime ? a.key < b.key : aTime < bTime;
}
