// Connections to one endpoint that are as good as each other, and who waits for one: made when needed, kept for reuse, given to who
// waits longest. A pool has one for all its requests; where connections have their clients' addresses, one for each client.

import type { Backend } from "../../model/model.ts";
import type { Deadlines } from "../deadlines.ts";
import type { Upstream } from "../exchange.ts";
import type { UpstreamTimeouts } from "../http1/upstream.ts";
import type { Http2Way } from "../http2/upstream.ts";
import type { Reason } from "../reason.ts";
import { Connecting, type ConnectingOwner } from "./connecting.ts";
import {
  type Connections,
  type ConnectionsOwner,
  Http1Connections,
  Http2Connections,
  type Reusable,
} from "./connections.ts";
import type { PoolOwner, Waiter } from "./pool.ts";

/** What it needs of its pool. */
export interface GroupOwner {
  readonly address: string;
  readonly port: number;
  readonly backend: PoolOwner;
  /** A request is under way, or over. */
  began(): void;
  ended(): void;
  /** Nobody of the group waits for it. True: it serves another. */
  offer(source: Reusable, protocol: Backend["protocol"]): boolean;
  /** It serves its waiter, who waits no more; the exchange is counted. */
  serves(waiter: Waiter, source: Reusable): void;
  /** There will be no connection for these. */
  disappoint(waiters: readonly Waiter[], reason: Reason): void;
  closed(used: boolean): void;
}

export class ConnectionGroup implements ConnectionsOwner {
  readonly #pool: GroupOwner;
  /** Whose address its connections have; undefined: the proxy's own. */
  readonly #client: string | undefined;
  /** Its connections speak the version of HTTP that the backend's `protocol` is not. */
  readonly #isOther: boolean;
  #connections: Connections;
  #waiters: Waiter[] = [];
  #connecting = 0;
  /** Connections that were begun under another policy are not used when they are there. */
  #generation = 0;

  constructor(pool: GroupOwner, client: string | undefined, isOther = false) {
    this.#pool = pool;
    this.#client = client;
    this.#isOther = isOther;
    this.#connections = newConnections(this.#way, this);
  }

  /** The backend speaks another protocol now, or is trusted otherwise: what is under way is finished as before. */
  renew(): void {
    const before = this.#connections;
    this.#connections = newConnections(this.#way, this);
    before.retireAll();
    this.#generation++;
  }

  /** What its connections are for is not what the backend speaks now. */
  get isOutdated(): boolean {
    return (this.#connections.protocol === "h2c") !== (this.#way.protocol === "h2c");
  }

  get #way(): Pick<PoolOwner, "protocol" | "tls"> {
    const { backend } = this.#pool;
    if (!this.#isOther) return backend;
    return { protocol: backend.protocol === "h2c" ? "http1" : "h2c", tls: backend.tls?.other };
  }

  get scheme(): "http" | "https" {
    return this.#pool.backend.tls === undefined ? "http" : "https";
  }

  get timeouts(): UpstreamTimeouts {
    return this.#pool.backend.timeouts;
  }

  get deadlines(): Deadlines {
    return this.#pool.backend.deadlines;
  }

  get requestsPerConnection(): number {
    return this.#pool.backend.requestsPerConnection;
  }

  get connectionDuration(): number {
    return this.#pool.backend.connectionDuration;
  }

  get http2(): Http2Way | undefined {
    return this.#pool.backend.http2;
  }

  get idleTimeout(): number {
    return this.#pool.backend.idleTimeout;
  }

  /** One client's are of no use to others: none is kept while those wait for a place. */
  get idleConnections(): number {
    const { isAwaited, idleConnections } = this.#pool.backend;
    return this.#client !== undefined && isAwaited ? 0 : idleConnections;
  }

  get idle(): number {
    return this.#connections.idle;
  }

  /** Those being made included. */
  get connections(): number {
    return this.#connections.size + this.#connecting;
  }

  /** Nothing of it is left but what is on its way out. */
  get isUnused(): boolean {
    return this.connections === 0 && this.#waiters.length === 0;
  }

  get waiting(): number {
    return this.#waiters.length;
  }

  /** Exchanges that one connection is expected to serve. */
  get share(): number {
    return this.#connections.share;
  }

  /** What can serve at once; undefined when a new connection must be made. */
  take(): Upstream | undefined {
    const connection = this.#connections.take();
    if (connection) this.#pool.began();
    return connection;
  }

  /** Sees that a connection is made; the waiter gets it, or one that becomes free before. */
  connect(waiter: Waiter): void {
    this.#waiters.push(waiter);
    this.#connect();
  }

  /** Those that are left wait for what becomes free when no more connections are allowed. */
  wantsMore(): void {
    if (!this.#pool.backend.isFull) this.#connect();
  }

  #connect(): void {
    if (this.#waiters.length > this.#connecting * this.#connections.share) this.open(undefined);
  }

  /** Makes a connection; `then` is told whether there is one. */
  open(then: ((made: boolean) => void) | undefined): void {
    const { address, port, backend } = this.#pool;
    const { deadlines, connectTimeout, originalSource, tcpKeepalive } = backend;
    const { protocol, tls } = this.#way;
    this.#connecting++;
    backend.connections++;
    const generation = this.#generation;
    const owner: ConnectingOwner = {
      opened: (wire, attempt) => (generation === this.#generation ? this.#connections.add(wire, attempt) : undefined),
      settled: () => {
        this.#connecting--;
        then?.(true);
      },
      refused: (reason) => {
        this.#refused(reason);
        then?.(false);
      },
    };
    const client = this.#client;
    const source = client === undefined ? undefined : { address: client, mark: originalSource?.mark };
    const allowHalfOpen = endsByHalves({ protocol });
    new Connecting(owner, deadlines, { address, port, tls, source, allowHalfOpen, tcpKeepalive }, connectTimeout);
  }

  #refused(reason: Reason): void {
    this.#connecting--;
    this.#pool.backend.connectFailures++;
    this.#pool.closed(false);
    // Those for whom no other connection is being made.
    this.#pool.disappoint(this.#waiters.splice(this.#connecting * this.#connections.share), reason);
  }

  /** The waiter wants no connection any more. False: it did not wait here. */
  forget(waiter: Waiter): boolean {
    const index = this.#waiters.indexOf(waiter);
    if (index >= 0) this.#waiters.splice(index, 1);
    return index >= 0;
  }

  freed(source: Reusable | undefined): boolean {
    this.#pool.ended();
    return source !== undefined && this.offered(source);
  }

  offered(source: Reusable): boolean {
    const waiter = this.#waiters.shift();
    if (!waiter) return this.#client === undefined && this.#pool.offer(source, this.#way.protocol);
    this.#pool.serves(waiter, source);
    return true;
  }

  closed(used: boolean): void {
    this.#pool.closed(used);
  }

  /** Closes an unused connection, if there is one (true). */
  retireIdle(): boolean {
    return this.#connections.retireIdle();
  }

  /** Closes connections that have been idle, or there, for too long. */
  sweep(): void {
    this.#connections.sweep();
  }

  /** The endpoint is gone: idle connections close now, others when their exchange is over. */
  retireAll(): void {
    this.#connections.retireAll();
  }
}

/** Whether a backend's connections may become tunnels, whose sides end one after the other. */
export function endsByHalves({ protocol }: Pick<PoolOwner, "protocol">): boolean {
  return protocol === "http1";
}

/** Of the kind that the backend speaks. */
export function newConnections({ protocol }: Pick<PoolOwner, "protocol">, owner: ConnectionsOwner): Connections {
  return protocol === "h2c" ? new Http2Connections(owner) : new Http1Connections(owner);
}
