// A backend of the model while it is in use: its endpoints' pools, its balancer, its limits. Route tables hold it by name
// whether it is known or not, so that routes and endpoints change independently of each other.

import type { Backend, BackendName, Endpoints } from "../../model/model.ts";
import type { Deadlines } from "../deadlines.ts";
import type { UpstreamTimeouts } from "../http1/upstream.ts";
import type { Reason } from "../reason.ts";
import { turn } from "../wire.ts";
import type { Reusable } from "./connections.ts";
import { EndpointChoice } from "./endpoint-choice.ts";
import { EndpointPool, type PoolOwner, type Waiter } from "./pool.ts";

/** Requests that may wait when the backend says no number and its connections are limited. */
const defaultPending = 1024;
/** Idle connections are closed before most servers close them (60 s or more). Those that close earlier are noticed. */
const idleMilliseconds = 50_000;
/** Names without a backend that are kept: route tables may hold them. */
const maxUnknown = 1_000;
const sweepMilliseconds = 5_000;
const nobody: readonly EndpointPool[] = [];

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
  #choice: EndpointChoice<EndpointPool> | undefined;
  #queue: Waiter[] = [];

  constructor(name: BackendName, deadlines: Deadlines, timeouts: UpstreamTimeouts) {
    this.name = name;
    this.deadlines = deadlines;
    this.timeouts = timeouts;
  }

  get known(): boolean {
    return this.#config !== undefined;
  }

  get protocol(): Backend["protocol"] {
    return this.#config?.protocol ?? "http1";
  }

  get isFull(): boolean {
    const most = this.#config?.limits?.connections;
    return most !== undefined && this.connections >= most;
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
    return this.#choice?.size ?? 0;
  }

  configure(config: Backend | undefined): void {
    const before = this.#config;
    this.#config = config;
    const now = this.deadlines.now();
    for (const pool of this.#pools.values()) {
      if (!config) break;
      pool.health.configure(config, before, now);
      pool.configure();
    }
    this.#rebalance();
    if (!config) this.#failQueue("no_backend");
  }

  /** Pools of endpoints that stay are kept as they are. */
  setEndpoints(endpoints: Endpoints | undefined): void {
    const before = this.#pools;
    const now = new Map<string, EndpointPool>();
    for (const { address, port, weight, priority, zone } of endpoints?.endpoints ?? []) {
      const key = `${address} ${port}`;
      const pool = now.get(key) ?? before.get(key) ?? this.#newPool(address, port, weight);
      pool.weight = weight;
      pool.priority = priority ?? 0;
      pool.zone = zone;
      now.set(key, pool);
    }
    this.#pools = now;
    for (const [key, pool] of before) if (!now.has(key)) pool.remove();
    this.#rebalance();
    if (this.usable === 0) this.#failQueue("no_endpoints");
  }

  #newPool(address: string, port: number, weight: number): EndpointPool {
    const pool = new EndpointPool(this, address, port, weight);
    if (this.#config) pool.health.configure(this.#config, undefined, this.deadlines.now());
    return pool;
  }

  #rebalance(): void {
    const config = this.#config;
    this.#choice = config && new EndpointChoice([...this.#pools.values()], config, undefined, this.deadlines.now());
  }

  /**
   * Gives the waiter a connection to an endpoint, other than `avoid` if there is another: at once when one is idle, else
   * later. Or returns why there is none.
   */
  acquire(waiter: Waiter, avoid: EndpointPool | undefined): Reason | undefined {
    const config = this.#config;
    if (config === undefined) return "no_backend";
    const pool = this.#choose(avoid);
    if (!pool) return "no_endpoints";
    const connection = pool.take();
    if (connection) {
      waiter.connected(connection, pool);
      return undefined;
    }
    if (this.isFull) {
      // A connection that idles at another endpoint is as good, and closing it would cost more.
      for (const other of this.#pools.values()) {
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

  #choose(avoid: EndpointPool | undefined): EndpointPool | undefined {
    return this.#choice?.next(this.deadlines.now(), undefined, avoid === undefined ? nobody : [avoid]);
  }

  /** The waiter wants no connection any more. */
  forget(waiter: Waiter): void {
    this.#queue = this.#queue.filter((one) => one !== waiter);
    for (const pool of this.#pools.values()) pool.forget(waiter);
  }

  offer(pool: EndpointPool, source: Reusable | undefined): boolean {
    if (this.#queue.length === 0) return false;
    if (source) {
      pool.active++;
      this.#queue.shift()!.connected(source.open(), pool);
      return true;
    }
    const next = this.isFull ? undefined : this.#choose(undefined);
    next?.connect(this.#queue.shift()!);
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
