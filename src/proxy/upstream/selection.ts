// What a request's policies and its earlier tries say about where it goes: asked for by `backend.ts`, answered by `attempts.ts`.

import type { EndpointPool } from "./pool.ts";

/** What a request wants of the choice of its endpoint. */
export interface Selection {
  readonly hash: number | undefined;
  /** The endpoint that its client keeps, weight and health permitting or not: who keeps has looked. */
  readonly kept: EndpointPool | undefined;
  /** Others than these, if there are any. */
  readonly avoid: readonly EndpointPool[];
  /** Endpoints of other priorities than these, if any can be chosen. */
  readonly leftOut: readonly number[];
  /** A connection to this one is being made for it. One that becomes free elsewhere may serve all the same. */
  took(pool: EndpointPool): void;
}
