// Connections to one endpoint: made when needed, kept for reuse, given to who waits longest. It outlives changes of configuration
// that leave its endpoint alone, and drains when the endpoint goes.

import type { Backend } from "../../model/model.ts";
import type { Deadlines } from "../deadlines.ts";
import type { Upstream } from "../exchange.ts";
import type { UpstreamTimeouts } from "../http1/upstream.ts";
import type { ProxyAddresses } from "../listener/proxy-protocol.ts";
import type { Reason } from "../reason.ts";
import { Connecting, type ConnectingOwner } from "./connecting.ts";
import {
  type Connections,
  type ConnectionsOwner,
  Http1Connections,
  Http2Connections,
  type Reusable,
} from "./connections.ts";
import type { Choosable } from "./endpoint-choice.ts";
import { EndpointHealth } from "./endpoint-health.ts";
import { LoneConnection, type LoneOwner } from "./lone-connection.ts";
import { speakingFor, speaksForClients } from "./open-socket.ts";
import type { TlsClient } from "./tls.ts";
import { TunnelConnections } from "./tunnel.ts";
import type { WarmedPool, Warming } from "./warming.ts";

/** Who wants to send a request. */
export interface Waiter {
  connected(connection: Upstream, pool: EndpointPool): void;
  /** Nothing was sent. */
  notConnected(reason: Reason, pool: EndpointPool | undefined): void;
  /** Whom it speaks for, where endpoints are told so (PROXY headers, original sources); absent: for the proxy itself. */
  addresses?(): ProxyAddresses;
  /** It wants a connection for the bytes of a tunnel, whatever the backend speaks. */
  readonly tunnels?: boolean;
}

/** What the pools of one backend share. */
export interface PoolOwner {
  readonly deadlines: Deadlines;
  readonly timeouts: UpstreamTimeouts;
  readonly protocol: Backend["protocol"];
  /** Undefined: connections are plain. */
  readonly tls: TlsClient | undefined;
  /** Connections begin with a PROXY header of this version. */
  readonly proxyProtocol: Backend["proxyProtocol"];
  /** Connections have their clients' addresses. */
  readonly originalSource: Backend["originalSource"];
  /** Milliseconds. */
  readonly connectTimeout: number;
  /** No more connections are allowed. */
  readonly isFull: boolean;
  /** A connection can serve another exchange (true: it does), or there is a place for a new one. */
  offer(pool: EndpointPool, source: Reusable | undefined): boolean;
  /** Connections of all pools, those being made included; requests under way, and those that wait for a connection. */
  connections: number;
  active: number;
  waiting: number;
  /** Of one connection; without a limit, infinity. The times in milliseconds. */
  readonly requestsPerConnection: number;
  readonly connectionDuration: number;
  readonly idleTimeout: number;
  /** Unused ones that are kept to each endpoint. */
  readonly idleConnections: number;
  /** Absent where no connections are made ahead. */
  readonly warming?: Warming<EndpointPool> | undefined;
  connectFailures: number;
}

export class EndpointPool implements ConnectionsOwner, LoneOwner, Choosable, WarmedPool {
  readonly key: string;
  readonly address: string;
  readonly port: number;
  weight: number;
  priority = 0;
  zone: string | undefined = undefined;
  readonly health: EndpointHealth;
  /** Requests under way. */
  active = 0;
  removed = false;
  readonly #owner: PoolOwner;
  #connections: Connections;
  #waiters: Waiter[] = [];
  readonly #lone = new Map<Waiter, LoneConnection>();
  #connecting = 0;
  /** Connections that were begun under another policy are not used when they are there. */
  #generation = 0;

  constructor(owner: PoolOwner, address: string, port: number, weight: number) {
    this.#owner = owner;
    this.key = `${address} ${port}`;
    this.address = address;
    this.port = port;
    this.weight = weight;
    this.health = new EndpointHealth(owner.deadlines.now());
    this.#connections = this.#newConnections();
  }

  #newConnections(owner: ConnectionsOwner = this): Connections {
    return this.#owner.protocol === "h2c" ? new Http2Connections(owner) : new Http1Connections(owner);
  }

  /** The backend speaks another protocol now, or is trusted otherwise: what is under way is finished as before. */
  renew(): void {
    const before = this.#connections;
    this.#connections = this.#newConnections();
    before.retireAll();
    this.#generation++;
    for (const lone of this.#lone.values()) lone.outdated = true;
  }

  get scheme(): "http" | "https" {
    return this.#owner.tls === undefined ? "http" : "https";
  }

  get timeouts(): UpstreamTimeouts {
    return this.#owner.timeouts;
  }

  get deadlines(): Deadlines {
    return this.#owner.deadlines;
  }

  get idle(): number {
    return this.#connections.idle;
  }

  /** Those being made included; not those of one request alone. */
  get connections(): number {
    return this.#connections.size + this.#connecting;
  }

  /** Connections that what is under way, or waits, takes. */
  get needed(): number {
    return Math.ceil((this.active + this.#waiters.length) / this.#connections.share);
  }

  load(now: number): number {
    return this.health.cost?.load(this.active, now) ?? this.active;
  }

  get requestsPerConnection(): number {
    return this.#owner.requestsPerConnection;
  }

  get connectionDuration(): number {
    return this.#owner.connectionDuration;
  }

  get idleTimeout(): number {
    return this.#owner.idleTimeout;
  }

  get idleConnections(): number {
    return this.#owner.idleConnections;
  }

  /** What can serve at once; undefined when a new connection must be made. */
  take(): Upstream | undefined {
    const connection = this.#connections.take();
    if (connection) this.began();
    return connection;
  }

  /** A request is under way. */
  began(): void {
    this.active++;
    this.#owner.active++;
  }

  /** It is over. */
  ended(): void {
    this.active--;
    this.#owner.active--;
  }

  /** Sees that a connection is made; the waiter gets it, or one that becomes free before. */
  connect(waiter: Waiter): void {
    this.#owner.waiting++;
    if (waiter.tunnels || speaksForClients(this.#owner)) this.#connectAlone(waiter);
    else {
      this.#waiters.push(waiter);
      this.#connect();
      this.#owner.warming?.fill(this);
    }
  }

  #connectAlone(waiter: Waiter): void {
    const { deadlines, connectTimeout, tls } = this.#owner;
    const { address, port } = this;
    const allowHalfOpen = waiter.tunnels === true;
    const lone = new LoneConnection(this, waiter, (owner) =>
      allowHalfOpen ? new TunnelConnections(owner) : this.#newConnections(owner),
    );
    this.#lone.set(waiter, lone);
    this.#owner.connections++;
    const way = { address, port, tls, allowHalfOpen, ...speakingFor(waiter.addresses?.(), this.#owner) };
    new Connecting(lone, deadlines, way, connectTimeout);
  }

  loneServes(waiter: Waiter, source: Reusable): void {
    this.#lone.delete(waiter);
    this.#owner.waiting--;
    this.began();
    waiter.connected(source.open(), this);
  }

  loneRefused(waiter: Waiter | undefined, reason: Reason): void {
    this.#owner.connections--;
    this.#owner.connectFailures++;
    if (waiter) {
      this.#lone.delete(waiter);
      this.#owner.waiting--;
    }
    this.#owner.offer(this, undefined);
    waiter?.notConnected(reason, this);
  }

  /** Those that are left wait for what becomes free when no more connections are allowed. */
  wantsMore(): void {
    if (!this.#owner.isFull) this.#connect();
  }

  #connect(): void {
    if (this.#waiters.length > this.#connecting * this.#connections.share) this.#open(undefined);
  }

  connectAhead(then: (made: boolean) => void): void {
    this.#open(then);
  }

  #open(then: ((made: boolean) => void) | undefined): void {
    this.#connecting++;
    this.#owner.connections++;
    const { deadlines, connectTimeout, tls } = this.#owner;
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
    const { address, port } = this;
    new Connecting(owner, deadlines, { address, port, tls }, connectTimeout);
  }

  /** The waiter wants no connection any more. */
  forget(waiter: Waiter): void {
    const lone = this.#lone.get(waiter);
    if (lone) {
      this.#lone.delete(waiter);
      this.#owner.waiting--;
      lone.forget();
    }
    const index = this.#waiters.indexOf(waiter);
    if (index < 0) return;
    this.#waiters.splice(index, 1);
    this.#owner.waiting--;
  }

  #refused(reason: Reason): void {
    this.#connecting--;
    this.#owner.connections--;
    this.#owner.connectFailures++;
    this.#owner.offer(this, undefined);
    // Those for whom no other connection is being made.
    const left = this.#connecting * this.#connections.share;
    const disappointed = this.#waiters.splice(left);
    this.#owner.waiting -= disappointed.length;
    for (const waiter of disappointed) waiter.notConnected(reason, this);
  }

  freed(source: Reusable | undefined): boolean {
    this.ended();
    return source !== undefined && this.offered(source);
  }

  offered(source: Reusable): boolean {
    const waiter = this.#waiters.shift();
    if (!waiter) return this.#owner.offer(this, source);
    this.#owner.waiting--;
    this.began();
    waiter.connected(source.open(), this);
    return true;
  }

  closed(used: boolean): void {
    this.#owner.connections--;
    if (used) this.ended();
    this.#owner.offer(this, undefined);
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
  remove(): void {
    this.removed = true;
    this.#connections.retireAll();
  }
}
