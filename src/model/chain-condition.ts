// Which connections a filter chain serves, in words: why it does not serve one, and what it asks for. Envoy's filter chain match has
// the same parts; there the most specific wins, here the chains of a listener are tried in order, so that dialects sort.

import { rangeOf } from "./address-list.ts";
import { hostMatches } from "./host-pattern.ts";
import type { ChainCondition } from "./model.ts";

/** A connection as it arrives. */
export interface Arrival {
  readonly tls?: { readonly serverName?: string; readonly protocols?: readonly string[] } | undefined;
  readonly source?: string | undefined;
  /** Where it wanted to go. */
  readonly destination: { readonly address: string; readonly port: number };
}

/** Why a chain does not serve a connection; undefined when it does. */
export function chainRefusal(when: ChainCondition, arrival: Arrival): string | undefined {
  const { tls, source, destination } = arrival;
  if (when.kind === "plain" && tls) return "serves connections without TLS, and this one is TLS";
  if (when.kind !== "plain" && !tls) return "serves TLS, and this connection is not";
  if (when.kind === "sni") {
    const name = tls?.serverName?.toLowerCase();
    if (name === undefined || !when.names.some((pattern) => hostMatches(pattern, name)))
      return `serves TLS for ${when.names.join(", ")}, and this connection has ${quotedServerName(tls)}`;
  }
  if (when.destination && rangeOf(when.destination, destination.address) === undefined)
    return `serves connections to ${when.destination.join(", ")}, and this one is to ${destination.address}`;
  if (when.destinationPorts && !when.destinationPorts.includes(destination.port))
    return `serves port ${when.destinationPorts.join(", ")}, and this connection is to port ${destination.port}`;
  if (when.source && (source === undefined || rangeOf(when.source, source) === undefined))
    return `serves clients of ${when.source.join(", ")}, and this one is ${source ?? "not known"}`;
  if (when.protocols && !when.protocols.some((one) => tls?.protocols?.includes(one)))
    return `serves clients that offer ${when.protocols.join(", ")}, and this one offers ${tls?.protocols?.join(", ") || "none"}`;
  return undefined;
}

/** What a chain asks of a connection: `sni a.example, to 10.0.0.0/8 port 80`. */
export function describeCondition(when: ChainCondition): string {
  const to = [...(when.destination ?? []), ...(when.destinationPorts ?? []).map((port) => `port ${port}`)];
  return [
    when.kind === "sni" ? `sni ${when.names.join(", ")}` : when.kind,
    ...(to.length > 0 ? [`to ${to.join(", ")}`] : []),
    ...(when.source ? [`from ${when.source.join(", ")}`] : []),
    ...(when.protocols ? [`offering ${when.protocols.join(", ")}`] : []),
  ].join("; ");
}

export function quotedServerName(tls: Arrival["tls"]): string {
  return tls?.serverName === undefined ? "no server name" : `server name "${tls.serverName}"`;
}
