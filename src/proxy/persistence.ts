// A rule's session persistence made ready: which of its shares, and which endpoint there, a request's token stands for, and the
// token that an answer hands out. The words themselves are made in `upstream/stickiness.ts` (Gateway API, GEP-1619).

import type { Persistence } from "../model/upstream-policies.ts";
import type { CompiledShare } from "./compile.ts";
import type { RequestHead } from "./exchange.ts";
import type { EndpointPool } from "./upstream/pool.ts";
import { carriedToken, stickyToken, tokenHeader } from "./upstream/stickiness.ts";

export interface Kept {
  readonly share: CompiledShare;
  readonly pool: EndpointPool | undefined;
}

/** What the request's client keeps; `gone` when its token stands for nothing that takes requests. Undefined: it has no token. */
export function keptBy(
  config: Persistence,
  shares: readonly CompiledShare[],
  head: RequestHead,
): Kept | "gone" | undefined {
  const token = carriedToken(config, head);
  if (token === undefined) return undefined;
  for (const share of shares) {
    const { backend } = share;
    if (!backend || !share.open) continue;
    if (config.keeps === "backend") {
      if (backend.known && stickyToken(backend.name) === token) return { share, pool: undefined };
      continue;
    }
    const pool = backend.byToken(token);
    if (pool) return { share, pool };
  }
  return "gone";
}

/** The field that tells a client its token; undefined when it has sent the same. */
export function tokenFor(
  config: Persistence,
  share: CompiledShare,
  pool: EndpointPool,
  head: RequestHead,
): readonly [name: string, value: string] | undefined {
  const backend = share.backend!;
  const token = config.keeps === "backend" ? stickyToken(backend.name) : backend.tokenOf(pool);
  return carriedToken(config, head) === token ? undefined : tokenHeader(config, token, head.scheme === "https");
}
