// Connections to one endpoint: made when needed, kept for reuse (last in, first out, so that unneeded ones age), given to who
// waits longest. It outlives changes of configuration that leave its endpoint alone, and drains when the endpoint goes.

import type { Socket } from "bun";
import { Deadline, type Deadlines } from "../deadlines.ts";
import { Http1Upstream, type UpstreamOwner, type UpstreamTimeouts } from "../http1/upstream.ts";
import type { Reason } from "../reason.ts";
import { beginTurn, endTurn, turn } from "../wire.ts";
import type { Choosable } from "./endpoint-choice.ts";
import { EndpointHealth } from "./endpoint-health.ts";

/** Who wants a connection. */
export interface Waiter {
  connected(connection: Http1Upstream, pool: EndpointPool): void;
  /** Nothing was sent. */
  notConnected(reason: Reason, pool: EndpointPool | undefined): void;
}

/** What the pools of one backend share. */
export interface PoolOwner {
  readonly deadlines: Deadlines;
  readonly timeouts: UpstreamTimeouts;
  /** Milliseconds. */
  readonly connectTimeout: number;
  /** A connection is free (true: taken) or a place for a new one is. */
  offer(pool: EndpointPool, connection: Http1Upstream | undefined): boolean;
  /** Connections of all pools, those being made included. */
  connections: number;
  connectFailures: number;
}

/** Idle connections kept to one endpoint. */
const maxIdle = 512;

export class EndpointPool implements UpstreamOwner, Choosable {
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
  readonly #idle: Http1Upstream[] = [];
  #waiters: Waiter[] = [];

  constructor(owner: PoolOwner, address: string, port: number, weight: number) {
    this.#owner = owner;
    this.key = `${address} ${port}`;
    this.address = address;
    this.port = port;
    this.weight = weight;
    this.health = new EndpointHealth(owner.deadlines.now());
  }

  get timeouts(): UpstreamTimeouts {
    return this.#owner.timeouts;
  }

  get idle(): number {
    return this.#idle.length;
  }

  load(now: number): number {
    return this.health.cost?.load(this.active, now) ?? this.active;
  }

  /** An idle connection; undefined when a new one must be made. */
  take(): Http1Upstream | undefined {
    const connection = this.#idle.pop();
    if (connection) this.active++;
    return connection;
  }

  /** Makes a connection; the waiter gets it, or one that becomes free before. */
  connect(waiter: Waiter): void {
    this.#waiters.push(waiter);
    this.#owner.connections++;
    const connecting = new Connecting(this, this.#owner.deadlines);
    this.#owner.deadlines.arm(connecting, this.#owner.connectTimeout);
    Bun.connect({ hostname: this.address, port: this.port, data: connecting, socket: handlers }).catch(() => {
      // Told through `connectError`, or here when there is not even an attempt (no such address).
      connecting.failed("connect_failed");
    });
  }

  /** The waiter wants no connection any more. */
  forget(waiter: Waiter): void {
    this.#waiters = this.#waiters.filter((one) => one !== waiter);
  }

  /** Of {@link Connecting}. */
  opened(connection: Http1Upstream): void {
    this.#give(connection);
  }

  /** Of {@link Connecting}. */
  refused(reason: Reason): void {
    this.#owner.connections--;
    this.#owner.connectFailures++;
    this.#owner.offer(this, undefined);
    this.#waiters.shift()?.notConnected(reason, this);
  }

  free(connection: Http1Upstream): void {
    // `gone` counts a connection that retires.
    if (this.removed) {
      connection.retire();
      return;
    }
    this.active--;
    this.#give(connection);
  }

  gone(connection: Http1Upstream): void {
    this.#owner.connections--;
    const index = this.#idle.lastIndexOf(connection);
    if (index >= 0) this.#idle.splice(index, 1);
    else this.active--;
    this.#owner.offer(this, undefined);
  }

  #give(connection: Http1Upstream): void {
    const waiter = this.#waiters.shift();
    if (waiter) {
      this.active++;
      waiter.connected(connection, this);
      return;
    }
    if (this.#owner.offer(this, connection)) return;
    connection.idleSince = turn.now;
    this.#idle.push(connection);
    if (this.#idle.length > maxIdle || this.removed) this.#idle[0]!.retire();
  }

  /** Closes connections that have been idle since before `time`, by `turn.now`. */
  retireIdle(time: number): void {
    while (this.#idle.length > 0 && this.#idle[0]!.idleSince <= time) this.#idle[0]!.retire();
  }

  /** The endpoint is gone: idle connections close now, others when their exchange is over. */
  remove(): void {
    this.removed = true;
    this.retireIdle(Number.POSITIVE_INFINITY);
  }
}

/** A connection that is being made; its deadline is the connect timeout. Afterwards, the way from the socket to its codec. */
class Connecting extends Deadline {
  connection: Http1Upstream | undefined = undefined;
  readonly #pool: EndpointPool;
  readonly #deadlines: Deadlines;
  #over = false;

  constructor(pool: EndpointPool, deadlines: Deadlines) {
    super();
    this.#pool = pool;
    this.#deadlines = deadlines;
  }

  opened(socket: Socket<Connecting>): void {
    if (this.#over) {
      socket.terminate();
      return;
    }
    this.#over = true;
    this.#deadlines.disarm(this);
    socket.setNoDelay(true);
    this.connection = new Http1Upstream(socket, this.#pool, this.#deadlines);
    this.#pool.opened(this.connection);
  }

  failed(reason: Reason): void {
    if (this.#over) return;
    this.#over = true;
    this.#deadlines.disarm(this);
    this.#pool.refused(reason);
  }

  expired(): void {
    this.failed("connect_timeout");
  }
}

const handlers = {
  open(socket: Socket<Connecting>) {
    beginTurn();
    socket.data.opened(socket);
    endTurn();
  },
  data(socket: Socket<Connecting>, bytes: Buffer) {
    beginTurn();
    socket.data.connection?.onData(bytes);
    endTurn();
  },
  drain(socket: Socket<Connecting>) {
    beginTurn();
    socket.data.connection?.onDrain();
    endTurn();
  },
  end(socket: Socket<Connecting>) {
    beginTurn();
    socket.data.connection?.onClose();
    endTurn();
  },
  close(socket: Socket<Connecting>) {
    beginTurn();
    if (socket.data.connection) socket.data.connection.onClose();
    else socket.data.failed("connect_failed");
    endTurn();
  },
  error(socket: Socket<Connecting>) {
    beginTurn();
    socket.data.connection?.onClose();
    socket.terminate();
    endTurn();
  },
  connectError(socket: Socket<Connecting>) {
    beginTurn();
    socket.data.failed("connect_failed");
    endTurn();
  },
};
