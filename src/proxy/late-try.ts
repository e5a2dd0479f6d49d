// A try whose time was over and that goes on beside the next one, because its rule hedges (Envoy: `hedge_on_per_try_timeout`). Its
// endpoint's health has been told of a timeout; what still comes of it, `trying.ts` weighs against the other tries.

import type { ResponseHead, Upstream, UpstreamEvents } from "./exchange.ts";
import type { OneTry } from "./one-try.ts";
import type { Reason } from "./reason.ts";
import type { EndpointPool } from "./upstream/pool.ts";

/** Whose tries they are. */
export interface LateOwner {
  lateAnswered(late: LateTry, head: ResponseHead): void;
  lateFailed(late: LateTry, reason: Reason): void;
}

export class LateTry implements UpstreamEvents {
  readonly oneTry: OneTry;
  readonly connection: Upstream;
  readonly pool: EndpointPool;
  /** When it was sent, by `turn.now`. */
  readonly since: number;
  /** It is a retry that is in the backend's budget. */
  readonly budgeted: boolean;
  readonly #owner: LateOwner;

  /** From now on the events of `oneTry` are this one's. */
  constructor(
    owner: LateOwner,
    oneTry: OneTry,
    connection: Upstream,
    pool: EndpointPool,
    { since, budgeted }: { readonly since: number; readonly budgeted: boolean },
  ) {
    this.#owner = owner;
    this.oneTry = oneTry;
    this.connection = connection;
    this.pool = pool;
    this.since = since;
    this.budgeted = budgeted;
    oneTry.goTo(this);
  }

  cancel(): void {
    this.oneTry.dismiss();
    this.connection.cancel();
  }

  /** What comes before an answer is passed on from the newest try alone. */
  informed(): void {}

  responded(head: ResponseHead): void {
    this.#owner.lateAnswered(this, head);
  }

  // Nothing follows a head here: the answer is taken over or dropped with it.
  responseData(): boolean {
    return true;
  }

  responseEnd(): void {}

  upstreamFailed(reason: Reason): void {
    this.#owner.lateFailed(this, reason);
  }

  /** The whole request was written before its time was over. */
  upstreamDrained(): void {}
}
