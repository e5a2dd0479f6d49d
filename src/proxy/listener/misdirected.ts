// Requests that came over a TLS connection of another chain than the one their host belongs to (RFC 9110 §15.5.20): clients of
// HTTP/2 reuse connections for names that a certificate covers. They are sent back to ask again on a connection of their own,
// because that chain may ask other things of its clients, or have other routes.

import { parseAuthority } from "../../model/host-pattern.ts";
import { type Condition, chainFor } from "./chains.ts";
import type { ProxyAddresses } from "./proxy-protocol.ts";
import { refusingTable } from "./refusing-table.ts";

/** A table in which every request is misdirected. */
export const misdirectedTable = refusingTable("misdirected");

/** What of a chain decides whether it is as good as another: its routes, and whom it lets in. */
export interface ComparedChain extends Condition {
  readonly alike: string;
}

/**
 * Whether the host of an authority belongs to another TLS chain than `own`, one that is not alike, for who has these addresses.
 * Undefined when all chains are alike. Remembers the last authority: a connection's requests mostly have one.
 */
export function misdirection(
  chains: readonly ComparedChain[],
  own: ComparedChain,
): ((authority: string, addresses: ProxyAddresses) => boolean) | undefined {
  const secure = chains.filter(({ when }) => when.kind !== "plain");
  if (own.when.kind === "plain" || secure.every(({ alike }) => alike === own.alike)) return undefined;
  const byHost = secure.every(({ takes }) => takes === undefined);
  let last = "";
  let misdirected = false;
  return (authority, { source, destination, destinationPort }) => {
    if (byHost && authority === last) return misdirected;
    const host = parseAuthority(authority)?.host;
    // What was offered is known as far as this chain asked for it.
    const protocols = own.when.protocols ?? [];
    const arrived = { source, destination: { address: destination, port: destinationPort }, protocols };
    const chain = host === undefined ? undefined : chainFor(secure, true, host, arrived);
    last = authority;
    misdirected = chain !== undefined && chain.alike !== own.alike;
    return misdirected;
  };
}
