// What a pool keeps its connections in: one kind for each protocol, because a connection of HTTP/1 serves one exchange at a time
// and one of HTTP/2 many.

import type { Deadlines } from "../deadlines.ts";
import type { Upstream } from "../exchange.ts";
import { Http1Upstream, type UpstreamOwner, type UpstreamTimeouts } from "../http1/upstream.ts";
import { defaultStreams, Http2Upstream, type Http2UpstreamOwner, type Http2Way } from "../http2/upstream.ts";
import type { Reason } from "../reason.ts";
import { turn, type Wire } from "../wire.ts";
import { hasEnded } from "./rested.ts";

/** Milliseconds of rest after which a connection is looked at before it is used. */
const looksFrom = 200;

/** A connection that can serve another exchange. */
export interface Reusable {
  open(): Upstream;
  readonly hasRoom: boolean;
}

/** What a socket's events are for. */
export interface SocketCodec {
  onData(bytes: Buffer): void;
  onDrain(): void;
  /** The endpoint sends no more; absent: then there is nothing more for it either. */
  onEnd?(): void;
  /** `broken`: not by an end. */
  onClose(broken?: boolean): void;
}

/** A connection that is being made: it is told which way it ended. */
export interface Attempt {
  settled(): void;
  failed(reason: Reason): void;
}

export interface Connections {
  readonly protocol: "http1" | "h2c";
  /** What serves one exchange; undefined when a new connection must be made. */
  take(): Upstream | undefined;
  /** Connections that are there; and those on which nothing is under way. */
  readonly size: number;
  readonly idle: number;
  /** Exchanges that one connection which is being made is expected to serve. */
  readonly share: number;
  /** A socket is open. */
  add(wire: Wire, attempt: Attempt): SocketCodec;
  /** Closes connections that have been idle, or there, for too long. */
  sweep(): void;
  /** Closes one on which nothing is under way, if there is one (true). */
  retireIdle(): boolean;
  /** No exchange begins on any of them any more. */
  retireAll(): void;
}

/** The pool, as its connections see it. */
export interface ConnectionsOwner {
  /** What requests of HTTP/2 say of themselves. */
  readonly scheme: "http" | "https";
  readonly timeouts: UpstreamTimeouts;
  readonly deadlines: Deadlines;
  /** Of one connection; without a limit, infinity. The times in milliseconds. */
  readonly requestsPerConnection: number;
  readonly connectionDuration: number;
  readonly idleTimeout: number;
  /** Unused ones that are kept. */
  readonly idleConnections: number;
  readonly http2?: Http2Way | undefined;
  /** An exchange is over, and what it used may serve another. True: it does. */
  freed(source: Reusable | undefined): boolean;
  /** A connection is new. True: it was given to who waits. */
  offered(source: Reusable): boolean;
  /** A connection has taken what it can of those who wait. */
  wantsMore(): void;
  /** A connection is closed; `used`: with an exchange on it. */
  closed(used: boolean): void;
}

/** Kept last in, first out, so that unneeded ones age. */
export class Http1Connections implements Connections, UpstreamOwner {
  readonly protocol = "http1";
  readonly share = 1;
  readonly #owner: ConnectionsOwner;
  readonly #idle: Http1Upstream[] = [];
  size = 0;
  #retired = false;

  constructor(owner: ConnectionsOwner) {
    this.#owner = owner;
  }

  get timeouts(): UpstreamTimeouts {
    return this.#owner.timeouts;
  }

  get idle(): number {
    return this.#idle.length;
  }

  take(): Http1Upstream | undefined {
    for (;;) {
      const connection = this.#idle.at(-1);
      if (connection === undefined || this.#isUsable(connection)) return this.#idle.pop();
      // Which takes it out.
      connection.retire();
    }
  }

  #isUsable(connection: Http1Upstream): boolean {
    if (!this.#isFresh(connection)) return false;
    const { fd } = connection.wire;
    return turn.now - connection.idleSince < looksFrom || fd === undefined || !hasEnded(fd);
  }

  #isFresh({ idleSince, opened }: Http1Upstream): boolean {
    return turn.now - idleSince < this.#owner.idleTimeout && turn.now - opened < this.#owner.connectionDuration;
  }

  add(wire: Wire, attempt: Attempt): SocketCodec {
    const connection = new Http1Upstream(wire, this, this.#owner.deadlines);
    this.size++;
    attempt.settled();
    if (!this.#owner.offered(connection)) this.#keep(connection);
    return connection;
  }

  free(connection: Http1Upstream): void {
    const { requestsPerConnection, connectionDuration } = this.#owner;
    const worn = connection.served >= requestsPerConnection || turn.now - connection.opened >= connectionDuration;
    // `gone` counts a connection that retires.
    if (this.#retired || worn) connection.retire();
    else if (!this.#owner.freed(connection)) this.#keep(connection);
  }

  #keep(connection: Http1Upstream): void {
    connection.idleSince = turn.now;
    this.#idle.push(connection);
    if (this.#idle.length > this.#owner.idleConnections || this.#retired) this.#idle[0]!.retire();
  }

  gone(connection: Http1Upstream): void {
    this.size--;
    const index = this.#idle.lastIndexOf(connection);
    if (index >= 0) this.#idle.splice(index, 1);
    this.#owner.closed(index < 0);
  }

  sweep(): void {
    if (this.#idle.every((connection) => this.#isFresh(connection))) return;
    for (const connection of this.#idle.slice()) if (!this.#isFresh(connection)) connection.retire();
  }

  retireIdle(): boolean {
    const oldest = this.#idle[0];
    oldest?.retire();
    return oldest !== undefined;
  }

  retireAll(): void {
    this.#retired = true;
    for (const connection of this.#idle.slice()) connection.retire();
  }
}

/** The first connection with room serves, so that unneeded ones age. */
export class Http2Connections implements Connections, Http2UpstreamOwner {
  readonly protocol = "h2c";
  readonly #owner: ConnectionsOwner;
  readonly #attempts = new Map<Http2Upstream, Attempt>();
  #open: Http2Upstream[] = [];
  #retired = false;

  constructor(owner: ConnectionsOwner) {
    this.#owner = owner;
  }

  get timeouts(): UpstreamTimeouts {
    return this.#owner.timeouts;
  }

  get requestsPerConnection(): number {
    return this.#owner.requestsPerConnection;
  }

  get http2(): Http2Way | undefined {
    return this.#owner.http2;
  }

  get share(): number {
    return Math.min(this.http2?.streams ?? defaultStreams, this.#owner.requestsPerConnection);
  }

  get size(): number {
    return this.#open.length;
  }

  get idle(): number {
    let idle = 0;
    for (const connection of this.#open) if (connection.busy === 0) idle++;
    return idle;
  }

  take(): Upstream | undefined {
    for (let index = 0; index < this.#open.length; index++) {
      if (this.#open[index]!.hasRoom) return this.#open[index]!.open();
    }
    return undefined;
  }

  add(wire: Wire, attempt: Attempt): SocketCodec {
    const connection = new Http2Upstream(wire, this, this.#owner.deadlines, this.#owner.scheme);
    this.#attempts.set(connection, attempt);
    return connection;
  }

  ready(connection: Http2Upstream): void {
    const attempt = this.#attempts.get(connection)!;
    if (!connection.hasRoom) {
      // It permits no streams at all.
      connection.retire();
      return;
    }
    this.#attempts.delete(connection);
    attempt.settled();
    this.#open.push(connection);
    while (connection.hasRoom && this.#owner.offered(connection));
    if (this.#retired) connection.retire();
    else this.#owner.wantsMore();
  }

  freed(connection: Http2Upstream): void {
    this.#owner.freed(connection.hasRoom ? connection : undefined);
    if (connection.busy === 0 && this.#open.length > this.#owner.idleConnections) this.#retireSurplus(connection);
  }

  #retireSurplus(connection: Http2Upstream): void {
    if (this.idle > this.#owner.idleConnections) connection.retire();
  }

  leaving(connection: Http2Upstream): void {
    this.#open = this.#open.filter((one) => one !== connection);
  }

  gone(connection: Http2Upstream): void {
    const attempt = this.#attempts.get(connection);
    this.#attempts.delete(connection);
    // Its streams were counted one by one.
    if (attempt === undefined) this.#owner.closed(false);
    else attempt.failed("upgrade_refused");
  }

  sweep(): void {
    const { idleTimeout, connectionDuration } = this.#owner;
    for (const connection of this.#open) {
      const idle = connection.busy === 0 && turn.now - connection.idleSince >= idleTimeout;
      // It takes no further streams, and ends with the last of those it has.
      if (idle || turn.now - connection.opened >= connectionDuration) connection.retire();
    }
  }

  retireIdle(): boolean {
    const unused = this.#open.find(({ busy }) => busy === 0);
    unused?.retire();
    return unused !== undefined;
  }

  retireAll(): void {
    this.#retired = true;
    for (const connection of this.#open) connection.retire();
  }
}
