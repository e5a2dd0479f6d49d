// A backend of the model while it is in use: its endpoints' pools, its balancer, its limits. Route tables hold it by name
// whether it is known or not, so that routes and endpoints change independently of each other.

import type { Backend, BackendName, Endpoints } from "../../model/model.ts";
import type { Deadlines } from "../deadlines.ts";
import type { Http1Upstream, UpstreamTimeouts } from "../http1/upstream.ts";
import type { Reason } from "../reason.ts";
import { turn } from "../wire.ts";
import { balance, type Pick } from "./balance.ts";
import { EndpointPool, type PoolOwner, type Waiter } from "./pool.ts";

/** Requests that may wait when the backend says no number and its connections are limited. */
const defaultPending = 1024;
/** Idle connections are closed before most servers close them (60 s or more). Those that close earlier are noticed. */
const idleMilliseconds = 50_000;
/** Names without a backend that are kept: route tables may hold them. */
const maxUnknown = 1_000;
const sweepMilliseconds = 5_000;

export const defaultUpstreamTimeouts: UpstreamTimeouts = { idle: 300_000 };

export class BackendRuntime implements PoolOwner {
  readonly name: BackendName;
  readonly deadlines: Deadlines;
  readonly timeouts: UpstreamTimeouts;
  connections = 0;
  connectFailures = 0;
  overflows = 0;
  #config: Backend | undefined;
  /** By address and port; those that take requests and those of weight 0. */
  #pools = new Map<string, EndpointPool>();
  #usable: EndpointPool[] = [];
  #pick: Pick = () => 0;
  #queue: Waiter[] = [];

  constructor(name: BackendName, deadlines: Deadlines, timeouts: UpstreamTimeouts) {
    this.name = name;
    this.deadlines = deadlines;
    this.timeouts = timeouts;
  }

  get known(): boolean {
    return this.#config !== undefined;
  }

  get connectTimeout(): number {
    return this.#config?.connectTimeout ?? 5_000;
  }

  get pools(): Iterable<EndpointPool> {
    return this.#pools.values();
  }

  get pending(): number {
    return this.#queue.length;
  }

  /** Endpoints that take requests. */
  get usable(): number {
    return this.#usable.length;
  }

  configure(config: Backend | undefined): void {
    this.#config = config;
    this.#rebalance();
    if (!config) this.#failQueue("no_backend");
  }

  /** Pools of endpoints that stay are kept as they are. */
  setEndpoints(endpoints: Endpoints | undefined): void {
    const before = this.#pools;
    const now = new Map<string, EndpointPool>();
    for (const { address, port, weight } of endpoints?.endpoints ?? []) {
      const key = `${address} ${port}`;
      const pool = now.get(key) ?? before.get(key) ?? new EndpointPool(this, address, port, weight);
      pool.weight = weight;
      now.set(key, pool);
    }
    this.#pools = now;
    for (const [key, pool] of before) if (!now.has(key)) pool.remove();
    this.#rebalance();
    if (this.#usable.length === 0) this.#failQueue("no_endpoints");
  }

  #rebalance(): void {
    this.#usable = [...this.#pools.values()].filter((pool) => pool.weight > 0);
    if (this.#usable.length > 0) this.#pick = balance(this.#config?.balance.kind ?? "roundRobin", this.#usable);
  }

  /**
   * Gives the waiter a connection to an endpoint, other than `avoid` if there is another: at once when one is idle, else
   * later. Or returns why there is none.
   */
  acquire(waiter: Waiter, avoid: EndpointPool | undefined): Reason | undefined {
    const config = this.#config;
    if (config === undefined) return "no_backend";
    if (this.#usable.length === 0) return "no_endpoints";
    const pool = this.#choose(avoid);
    const connection = pool.take();
    if (connection) {
      waiter.connected(connection, pool);
      return undefined;
    }
    const most = config.limits?.connections;
    if (most !== undefined && this.connections >= most) {
      // A connection that idles at another endpoint is as good, and closing it would cost more.
      for (const other of this.#usable) {
        const idle = other.take();
        if (!idle) continue;
        waiter.connected(idle, other);
        return undefined;
      }
      if (this.#queue.length >= (config.limits?.pending ?? defaultPending)) {
        this.overflows++;
        return "overflow";
      }
      this.#queue.push(waiter);
      return undefined;
    }
    pool.connect(waiter);
    return undefined;
  }

  #choose(avoid: EndpointPool | undefined): EndpointPool {
    const pool = this.#usable[this.#pick()]!;
    if (pool !== avoid || this.#usable.length === 1) return pool;
    return this.#usable[(this.#usable.indexOf(pool) + 1) % this.#usable.length]!;
  }

  /** The waiter wants no connection any more. */
  forget(waiter: Waiter): void {
    this.#queue = this.#queue.filter((one) => one !== waiter);
    for (const pool of this.#pools.values()) pool.forget(waiter);
  }

  offer(pool: EndpointPool, connection: Http1Upstream | undefined): boolean {
    if (this.#queue.length === 0) return false;
    if (connection) {
      pool.active++;
      this.#queue.shift()!.connected(connection, pool);
      return true;
    }
    const most = this.#config?.limits?.connections;
    if (this.#usable.length > 0 && (most === undefined || this.connections < most)) {
      this.#choose(undefined).connect(this.#queue.shift()!);
    }
    return false;
  }

  #failQueue(reason: Reason): void {
    const queue = this.#queue;
    this.#queue = [];
    for (const waiter of queue) waiter.notConnected(reason, undefined);
  }
}

/** All backends, by name. */
export class Backends {
  readonly #byName = new Map<BackendName, BackendRuntime>();
  readonly #deadlines: Deadlines;
  readonly #timeouts: UpstreamTimeouts;
  readonly #clock: { every(milliseconds: number, then: () => void): unknown };

  constructor(
    deadlines: Deadlines,
    clock: { every(milliseconds: number, then: () => void): unknown },
    timeouts: UpstreamTimeouts = defaultUpstreamTimeouts,
  ) {
    this.#deadlines = deadlines;
    this.#timeouts = timeouts;
    this.#clock = clock;
    this.#clock.every(sweepMilliseconds, () => this.#sweep());
  }

  /** The backend of a name, known or not yet. */
  get(name: BackendName): BackendRuntime {
    let backend = this.#byName.get(name);
    if (!backend) {
      backend = new BackendRuntime(name, this.#deadlines, this.#timeouts);
      this.#byName.set(name, backend);
    }
    return backend;
  }

  /** Lets go of backends that are neither known nor referred to nor busy, once there are many. */
  prune(referred: () => ReadonlySet<BackendName>): void {
    let unknown = 0;
    for (const backend of this.#byName.values()) if (!backend.known) unknown++;
    if (unknown <= maxUnknown) return;
    const keep = referred();
    for (const [name, backend] of this.#byName) {
      if (!backend.known && backend.connections === 0 && !keep.has(name)) this.#byName.delete(name);
    }
  }

  all(): Iterable<BackendRuntime> {
    return this.#byName.values();
  }

  #sweep(): void {
    const before = turn.source() - idleMilliseconds;
    for (const backend of this.#byName.values()) for (const pool of backend.pools) pool.retireIdle(before);
  }
}
