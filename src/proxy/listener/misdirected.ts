// Requests that came over a TLS connection of another chain than the one their host belongs to (RFC 9110 §15.5.20): clients of
// HTTP/2 reuse connections for names that a certificate covers. They are sent back to ask again on a connection of their own,
// because that chain may ask other things of its clients, or have other routes.

import { parseAuthority } from "../../model/host-pattern.ts";
import type { ChainCondition } from "../../model/model.ts";
import type { CompiledRule, RouteTableRuntime } from "../compile.ts";
import { Router } from "../router/router.ts";
import { chainFor } from "./chains.ts";

class MisdirectedRouter extends Router<CompiledRule> {
  override find(): "misdirected" {
    return "misdirected";
  }
}

const nothing = { name: "", from: { kind: "Listener", name: "", field: "" }, hosts: [] };

/** A table in which every request is misdirected. */
export const misdirectedTable: RouteTableRuntime = {
  name: "",
  router: new MisdirectedRouter(nothing, () => {
    throw new Error("it has no rules");
  }),
};

/** What of a chain decides whether it is as good as another: its routes, and whom it lets in. */
export interface ComparedChain {
  readonly when: ChainCondition;
  readonly alike: string;
}

/**
 * Whether the host of an authority belongs to another TLS chain than `own`, one that is not alike. Undefined when all chains are
 * alike. Remembers the last authority: a connection's requests mostly have one.
 */
export function misdirection(
  chains: readonly ComparedChain[],
  own: ComparedChain,
): ((authority: string) => boolean) | undefined {
  const secure = chains.filter(({ when }) => when.kind !== "plain");
  if (own.when.kind === "plain" || secure.every(({ alike }) => alike === own.alike)) return undefined;
  let last = "";
  let misdirected = false;
  return (authority) => {
    if (authority === last) return misdirected;
    const host = parseAuthority(authority)?.host;
    const chain = host === undefined ? undefined : chainFor(secure, host);
    last = authority;
    misdirected = chain !== undefined && chain.alike !== own.alike;
    return misdirected;
  };
}
