// A connection for one request alone: what a pool makes where connections begin with a PROXY header or have the client's address,
// because that speaks for one client, and nobody else may be taken for it; and for the tunnel of a CONNECT. It is closed behind
// its exchange.

import type { Deadlines } from "../deadlines.ts";
import type { UpstreamTimeouts } from "../http1/upstream.ts";
import type { Http2Way } from "../http2/upstream.ts";
import type { Reason } from "../reason.ts";
import type { Wire } from "../wire.ts";
import type { ConnectingOwner } from "./connecting.ts";
import type { Attempt, Connections, ConnectionsOwner, Reusable, SocketCodec } from "./connections.ts";
import type { Waiter } from "./pool.ts";

/** What it needs of its pool, beside what any connection does. */
export interface LoneOwner {
  readonly scheme: "http" | "https";
  readonly timeouts: UpstreamTimeouts;
  readonly deadlines: Deadlines;
  readonly http2: Http2Way | undefined;
  /** It serves its waiter, who waits no more; the exchange is counted. */
  loneServes(waiter: Waiter, source: Reusable): void;
  loneRefused(waiter: Waiter | undefined, reason: Reason): void;
  ended(): void;
  closed(used: boolean): void;
}

export class LoneConnection implements ConnectionsOwner, ConnectingOwner {
  readonly requestsPerConnection = 1;
  readonly connectionDuration = Number.POSITIVE_INFINITY;
  readonly idleTimeout = 0;
  readonly idleConnections = 0;
  readonly #pool: LoneOwner;
  readonly #connections: Connections;
  #waiter: Waiter | undefined;
  /** The backend has another policy now: it is not used when it is there. */
  outdated = false;

  constructor(pool: LoneOwner, waiter: Waiter, connections: (owner: ConnectionsOwner) => Connections) {
    this.#pool = pool;
    this.#waiter = waiter;
    this.#connections = connections(this);
  }

  get scheme(): "http" | "https" {
    return this.#pool.scheme;
  }

  get timeouts(): UpstreamTimeouts {
    return this.#pool.timeouts;
  }

  get http2(): Http2Way | undefined {
    return this.#pool.http2;
  }

  get deadlines(): Deadlines {
    return this.#pool.deadlines;
  }

  /** The waiter wants it no more. */
  forget(): void {
    this.#waiter = undefined;
    this.#connections.retireAll();
  }

  opened(wire: Wire, attempt: Attempt): SocketCodec | undefined {
    if (!this.#waiter || this.outdated) return undefined;
    return this.#connections.add(wire, attempt);
  }

  settled(): void {}

  refused(reason: Reason): void {
    this.#pool.loneRefused(this.#waiter, reason);
  }

  offered(source: Reusable): boolean {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    if (!waiter) return false;
    this.#pool.loneServes(waiter, source);
    return true;
  }

  freed(): boolean {
    this.#pool.ended();
    return false;
  }

  wantsMore(): void {}

  closed(used: boolean): void {
    this.#pool.closed(used);
  }
}
