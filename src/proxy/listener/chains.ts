// Which chain of a listener serves a connection, which certificate it shows, and which protocol it agrees on. Pure.

import { hostMatches } from "../../model/host-pattern.ts";
import type { ChainCondition, ConnectionCondition } from "../../model/model.ts";
import { addressSet } from "../address-set.ts";
import type { Destination } from "./original-destination.ts";

/** What is known of a connection when its chain is chosen. */
export interface Arrived {
  readonly source: string;
  readonly destination: Destination;
  /** Offered by ALPN. */
  readonly protocols: readonly string[];
}

/** A chain's condition, made quick. */
export interface Condition {
  readonly when: ChainCondition;
  /** Whether where it comes from, where it wanted to go and what it offers will do; undefined: anything will. */
  readonly takes: ((connection: Arrived) => boolean) | undefined;
}

export function compileCondition(when: ChainCondition): Condition {
  return { when, takes: connectionPredicate(when) };
}

function connectionPredicate(when: ConnectionCondition): Condition["takes"] {
  const { destinationPorts, protocols } = when;
  const to = when.destination && addressSet(when.destination);
  const from = when.source && addressSet(when.source);
  if (!to && !destinationPorts && !from && !protocols) return undefined;
  return ({ source, destination, protocols: offered }) =>
    (!to || to(destination.address)) &&
    (!destinationPorts || destinationPorts.includes(destination.port)) &&
    (!from || from(source)) &&
    (!protocols || protocols.some((one) => offered.includes(one)));
}

/** The chain for a connection, the first whose condition holds. `serverName` is looked at with TLS only. */
export function chainFor<C extends Condition>(
  chains: readonly C[],
  secure: boolean,
  serverName: string | undefined,
  connection: Arrived,
): C | undefined {
  const name = serverName?.toLowerCase();
  return chains.find(({ when, takes }) => {
    if ((when.kind !== "plain") !== secure) return false;
    if (when.kind === "sni" && (name === undefined || !when.names.some((pattern) => hostMatches(pattern, name))))
      return false;
    return takes === undefined || takes(connection);
  });
}

/** The certificate for a name: exact, then wildcard (one label, RFC 9525 §6.3), else the first. */
export function certificateFor<C extends { readonly names: readonly string[] }>(
  certificates: readonly C[],
  serverName: string | undefined,
): C | undefined {
  const name = serverName?.toLowerCase();
  if (name === undefined) return certificates[0];
  const wildcard = `*${name.slice(Math.max(0, name.indexOf(".")))}`;
  return (
    certificates.find((certificate) => certificate.names.includes(name)) ??
    certificates.find((certificate) => certificate.names.includes(wildcard)) ??
    certificates[0]
  );
}

/** Protocols that requests are spoken in here. */
const spoken: readonly string[] = ["h2", "http/1.1"];

/**
 * What a chain and a client agree on (RFC 7301), by the chain's order; undefined when they have nothing in common. `any`: what
 * is inside is not for us to speak, so that every protocol of the list may be agreed on.
 */
export function agreedProtocol(alpn: readonly string[], offered: readonly string[], any = false): string | undefined {
  const list = alpn.length > 0 ? alpn : any ? offered : spoken;
  return list.find((one) => offered.includes(one) && (any || spoken.includes(one)));
}
