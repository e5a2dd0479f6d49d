// Which chain of a listener serves a connection, which certificate it shows, and which protocol it agrees on. Pure.

import { hostMatches } from "../../model/host-pattern.ts";
import type { ChainCondition } from "../../model/model.ts";

/** The chain that takes a TLS client's server name: the first whose condition holds. */
export function chainFor<C extends { readonly when: ChainCondition }>(
  chains: readonly C[],
  serverName: string | undefined,
): C | undefined {
  const name = serverName?.toLowerCase();
  return chains.find(({ when }) => {
    if (when.kind === "tls") return true;
    return when.kind === "sni" && name !== undefined && when.names.some((pattern) => hostMatches(pattern, name));
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
