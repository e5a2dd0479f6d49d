// One endpoint of a backend: its requests, its health, and its connections, which all of them share, or those of one client (where
// connections have its address), or one alone (where they begin with a PROXY header). It outlives changes of configuration that leave
// its endpoint alone, and drains when the endpoint goes.

import type { Backend } from "../../model/model.ts";
import type { Deadlines } from "../deadlines.ts";
import type { Upstream } from "../exchange.ts";
import type { UpstreamTimeouts } from "../http1/upstream.ts";
import type { Http2Way } from "../http2/upstream.ts";
import type { ProxyAddresses } from "../listener/proxy-protocol.ts";
import type { Reason } from "../reason.ts";
import { Connecting } from "./connecting.ts";
import { ConnectionGroup, endsByHalves, type GroupOwner, newConnections } from "./connection-group.ts";
import type { Reusable } from "./connections.ts";
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
  /** What its client speaks; absent: it is the proxy's own. */
  readonly clientProtocol?: HttpVersion;
}

export type HttpVersion = "http1" | "h2c";

/** What the pools of one backend share. */
export interface PoolOwner {
  readonly deadlines: Deadlines;
  readonly timeouts: UpstreamTimeouts;
  readonly protocol: Backend["protocol"];
  /** Connections are of the version that the client speaks. */
  readonly useClientProtocol?: boolean;
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
  /** Somebody waits until there may be one. */
  readonly isAwaited: boolean;
  /** A connection can serve another exchange (true: it does), or there is a place for a new one. */
  offer(pool: EndpointPool, source: Reusable | undefined, protocol?: Backend["protocol"]): boolean;
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
  readonly http2?: Http2Way | undefined;
  readonly tcpKeepalive?: Backend["tcpKeepalive"];
  /** Absent where no connections are made ahead. */
  readonly warming?: Warming<EndpointPool> | undefined;
  connectFailures: number;
}

export class EndpointPool implements GroupOwner, LoneOwner, Choosable, WarmedPool {
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
  readonly backend: PoolOwner;
  readonly #shared: ConnectionGroup;
  /** Of the other version of HTTP; made when first needed, where the backend goes by its clients'. */
  #other: ConnectionGroup | undefined = undefined;
  /** Of those whose addresses connections have, the longest unused first. */
  readonly #clients = new Map<string, ConnectionGroup>();
  readonly #lone = new Map<Waiter, LoneConnection>();

  constructor(backend: PoolOwner, address: string, port: number, weight: number) {
    this.backend = backend;
    this.key = `${address} ${port}`;
    this.address = address;
    this.port = port;
    this.weight = weight;
    this.health = new EndpointHealth(backend.deadlines.now());
    this.#shared = new ConnectionGroup(this, undefined);
  }

  *#groups(): Generator<ConnectionGroup> {
    yield this.#shared;
    if (this.#other) yield this.#other;
    yield* this.#clients.values();
  }

  /** The backend speaks another protocol now, or is trusted otherwise: what is under way is finished as before. */
  renew(): void {
    for (const group of this.#groups()) group.renew();
    for (const lone of this.#lone.values()) lone.outdated = true;
  }

  /** It may have been made before its backend was what it is now. */
  catchUp(): void {
    if (this.#shared.isOutdated) this.renew();
  }

  get scheme(): "http" | "https" {
    return this.backend.tls === undefined ? "http" : "https";
  }

  get timeouts(): UpstreamTimeouts {
    return this.backend.timeouts;
  }

  get http2(): Http2Way | undefined {
    return this.backend.http2;
  }

  get deadlines(): Deadlines {
    return this.backend.deadlines;
  }

  get idle(): number {
    let idle = 0;
    for (const group of this.#groups()) idle += group.idle;
    return idle;
  }

  /** Those being made included; not those of one request, or one client, alone. */
  get connections(): number {
    return this.#shared.connections + (this.#other?.connections ?? 0);
  }

  /** Connections that what is under way, or waits, takes. */
  get needed(): number {
    return Math.ceil((this.active + this.#shared.waiting) / this.#shared.share);
  }

  load(now: number): number {
    return this.health.cost?.load(this.active, now) ?? this.active;
  }

  /** What can serve at once; undefined when a new connection must be made. */
  take(waiter: Waiter): Upstream | undefined {
    if (!speaksForClients(this.backend)) return this.#sharedOf(waiter).take();
    const client = clientOf(waiter, this.backend);
    return client === "alone" ? undefined : this.#groupOf(client, waiter).take();
  }

  #sharedOf(waiter: Waiter): ConnectionGroup {
    if (protocolOf(waiter, this.backend) === this.backend.protocol) return this.#shared;
    this.#other ??= new ConnectionGroup(this, undefined, true);
    return this.#other;
  }

  #groupOf(client: string | undefined, waiter: Waiter): ConnectionGroup {
    if (client === undefined) return this.#sharedOf(waiter);
    const group = this.#clients.get(client) ?? new ConnectionGroup(this, client);
    this.#clients.delete(client);
    this.#clients.set(client, group);
    return group;
  }

  /** A request is under way. */
  began(): void {
    this.active++;
    this.backend.active++;
  }

  /** It is over. */
  ended(): void {
    this.active--;
    this.backend.active--;
  }

  /** Sees that a connection is made; the waiter gets it, or one that becomes free before. */
  connect(waiter: Waiter): void {
    this.backend.waiting++;
    const client = waiter.tunnels ? "alone" : clientOf(waiter, this.backend);
    if (client === "alone") {
      this.#connectAlone(waiter);
      return;
    }
    this.#groupOf(client, waiter).connect(waiter);
    if (client === undefined) this.backend.warming?.fill(this);
    else this.#forgetClients();
  }

  /** As many clients' connections are kept as others would be; of those who came last. */
  #forgetClients(): void {
    if (this.#clients.size <= this.backend.idleConnections) return;
    for (const [client, group] of this.#clients) {
      while (group.retireIdle());
      if (!group.isUnused) continue;
      this.#clients.delete(client);
      return;
    }
  }

  #connectAlone(waiter: Waiter): void {
    const { deadlines, connectTimeout, tls, tcpKeepalive } = this.backend;
    const { address, port } = this;
    const tunnels = waiter.tunnels === true;
    const allowHalfOpen = tunnels || endsByHalves(this.backend);
    const lone = new LoneConnection(this, waiter, (owner) =>
      tunnels ? new TunnelConnections(owner) : newConnections(this.backend, owner),
    );
    this.#lone.set(waiter, lone);
    this.backend.connections++;
    const way = { address, port, tls, allowHalfOpen, tcpKeepalive, ...speakingFor(waiter.addresses?.(), this.backend) };
    new Connecting(lone, deadlines, way, connectTimeout);
  }

  loneServes(waiter: Waiter, source: Reusable): void {
    this.#lone.delete(waiter);
    this.serves(waiter, source);
  }

  serves(waiter: Waiter, source: Reusable): void {
    this.backend.waiting--;
    this.began();
    waiter.connected(source.open(), this);
  }

  loneRefused(waiter: Waiter | undefined, reason: Reason): void {
    this.backend.connections--;
    this.backend.connectFailures++;
    if (waiter) {
      this.#lone.delete(waiter);
      this.backend.waiting--;
    }
    this.backend.offer(this, undefined);
    waiter?.notConnected(reason, this);
  }

  connectAhead(then: (made: boolean) => void): void {
    this.#shared.open(then);
  }

  /** The waiter wants no connection any more. */
  forget(waiter: Waiter): void {
    const lone = this.#lone.get(waiter);
    if (lone) {
      this.#lone.delete(waiter);
      this.backend.waiting--;
      lone.forget();
    }
    for (const group of this.#groups()) {
      if (!group.forget(waiter)) continue;
      this.backend.waiting--;
      return;
    }
  }

  disappoint(waiters: readonly Waiter[], reason: Reason): void {
    this.backend.waiting -= waiters.length;
    for (const waiter of waiters) waiter.notConnected(reason, this);
  }

  offer(source: Reusable, protocol: Backend["protocol"]): boolean {
    return this.backend.offer(this, source, protocol);
  }

  closed(used: boolean): void {
    this.backend.connections--;
    if (used) this.ended();
    this.backend.offer(this, undefined);
  }

  /** Closes an unused connection, if there is one (true). */
  retireIdle(): boolean {
    for (const group of this.#groups()) if (group.retireIdle()) return true;
    return false;
  }

  /** Closes connections that have been idle, or there, for too long. */
  sweep(): void {
    this.#shared.sweep();
    this.#other?.sweep();
    for (const [client, group] of this.#clients) {
      group.sweep();
      if (group.isUnused) this.#clients.delete(client);
    }
  }

  /** The endpoint is gone: idle connections close now, others when their exchange is over. */
  remove(): void {
    this.removed = true;
    for (const group of this.#groups()) group.retireAll();
  }
}

/**
 * Whose connections serve a waiter: those of the client's address where connections have it, else (undefined) any. `alone`: none but
 * one of its own, because a PROXY header tells of one connection of the client.
 */
function clientOf(waiter: Waiter, { proxyProtocol, originalSource }: PoolOwner): string | undefined | "alone" {
  if (proxyProtocol !== undefined) return "alone";
  return originalSource && waiter.addresses?.().source;
}

/** What a connection for this waiter speaks. */
export function protocolOf(
  { clientProtocol }: Waiter,
  { protocol, useClientProtocol }: Pick<PoolOwner, "protocol" | "useClientProtocol">,
): Backend["protocol"] {
  return useClientProtocol ? (clientProtocol ?? protocol) : protocol;
}
