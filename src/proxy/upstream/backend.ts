// A backend of the model while it is in use: its endpoints' pools, its balancer, its limits. Route tables hold it by name
// whether it is known or not, so that routes and endpoints change independently of each other.

import type { Steps } from "../../base/steps.ts";
import type { Backend, BackendName, Endpoint, Endpoints } from "../../model/model.ts";
import type { Deadlines } from "../deadlines.ts";
import type { UpstreamTimeouts } from "../http1/upstream.ts";
import type { Http2Way } from "../http2/upstream.ts";
import type { Reason } from "../reason.ts";
import { inTurn } from "../wire.ts";
import { BackendHealth, type HealthSurroundings, wayOf } from "./backend-health.ts";
import type { Reusable } from "./connections.ts";
import { EndpointChoice } from "./endpoint-choice.ts";
import { same } from "./endpoint-health.ts";
import type { HealthWatch } from "./health-watch.ts";
import { EndpointPool, type PoolOwner, protocolOf, type Waiter } from "./pool.ts";
import { noEndpoints, place, type ReadyEndpoints, readyEndpoints } from "./ready-endpoints.ts";
import { type Budget, retryBudget } from "./retry-budget.ts";
import type { Selection } from "./selection.ts";
import { sharedOut } from "./shared-out.ts";
import { stickyToken } from "./stickiness.ts";
import type { TlsClient } from "./tls.ts";
import { type Waiting, WaitingLine } from "./waiting-line.ts";
import { type WarmedBackend, WarmGate, Warming } from "./warming.ts";

/** Requests that may wait when the backend says no number and its connections are limited. */
const defaultPending = 1024;
/** Idle connections are closed before most servers close them (60 s or more). Those that close earlier are noticed. */
const defaultIdle = 50_000;
/** Unused connections that are kept to each endpoint. */
const defaultIdleConnections = 512;
const nobody: readonly EndpointPool[] = [];

/** What all backends of a proxy share. */
export interface Surroundings extends HealthSurroundings {
  readonly warmGate?: WarmGate;
  /** How many processes on the same ports share the backends' limits; 1 unless given. */
  readonly workers?: number;
  /** The proxy's own zone. */
  readonly zone?: string;
}

export class BackendRuntime implements PoolOwner, WarmedBackend<EndpointPool> {
  readonly name: BackendName;
  readonly deadlines: Deadlines;
  readonly timeouts: UpstreamTimeouts;
  connections = 0;
  active = 0;
  waiting = 0;
  connectFailures = 0;
  overflows = 0;
  /** Retries that the budget did not allow. */
  retryOverflows = 0;
  /** Undefined when no policy asks for one. */
  watch: HealthWatch | undefined = undefined;
  /** For new connections. */
  tls: TlsClient | undefined = undefined;
  budget: Budget = retryBudget(undefined, undefined);
  requestsPerConnection = Number.POSITIVE_INFINITY;
  connectionDuration = Number.POSITIVE_INFINITY;
  idleTimeout = defaultIdle;
  idleConnections = defaultIdleConnections;
  http2: Http2Way | undefined = undefined;
  /** Something refers to it: connections are made ahead where it asks for that. */
  isReferred = false;
  warming: Warming<EndpointPool> | undefined = undefined;
  /** Of requests that mirrors copy to it: answered in whatever way, not answered, not even sent. */
  readonly copies = { answered: 0, failed: 0, left_out: 0 };
  readonly #surroundings: Surroundings;
  #config: Backend | undefined;
  /** By address and port; those that take requests and those of weight 0. */
  #pools = new Map<string, EndpointPool>();
  /** Undefined when something has changed since it was made. */
  #choice: EndpointChoice<EndpointPool> | undefined;
  /** Made when first asked for. */
  #tokens: Map<string, EndpointPool> | undefined = undefined;
  readonly #line = new WaitingLine();
  readonly #health: BackendHealth;

  constructor(name: BackendName, deadlines: Deadlines, timeouts: UpstreamTimeouts, surroundings: Surroundings = {}) {
    this.name = name;
    this.deadlines = deadlines;
    this.timeouts = timeouts;
    this.#surroundings = surroundings;
    this.#health = new BackendHealth(this, surroundings, () => (this.#choice = undefined));
  }

  get known(): boolean {
    return this.#config !== undefined;
  }

  get protocol(): Backend["protocol"] {
    return this.#config?.protocol ?? "http1";
  }

  get useClientProtocol(): boolean {
    return this.#config?.useClientProtocol === true;
  }

  get proxyProtocol(): Backend["proxyProtocol"] {
    return this.#config?.proxyProtocol;
  }

  get originalSource(): Backend["originalSource"] {
    return this.#config?.originalSource;
  }

  get tcpKeepalive(): Backend["tcpKeepalive"] {
    return this.#config?.tcpKeepalive;
  }

  get isFull(): boolean {
    const most = this.#config?.limits?.connections;
    return most !== undefined && this.connections >= most;
  }

  get isAwaited(): boolean {
    return this.#line.length > 0;
  }

  get connectTimeout(): number {
    return this.#config?.connectTimeout ?? 5_000;
  }

  get pools(): Iterable<EndpointPool> {
    return this.#pools.values();
  }

  /** Requests that wait for a connection. */
  get pending(): number {
    return this.#line.length + this.waiting;
  }

  /** Endpoints that take requests now. */
  get usable(): number {
    return this.#config === undefined ? 0 : this.#endpointChoice().size;
  }

  /** Whether its requests are to be told of: to `watch`, and to the budget. */
  get isTold(): boolean {
    return this.watch !== undefined || this.#config?.retryBudget?.kind === "ratio";
  }

  /** `tls` is what the configuration's becomes. A backend that asks for TLS is never configured without. */
  configure(given: Backend | undefined, tls?: TlsClient): void {
    const config = given && sharedOut(given, this.#surroundings.workers ?? 1);
    const before = this.#config;
    this.#config = config;
    this.tls = tls;
    this.#choice = undefined;
    if (!config) {
      this.#configureHealth(undefined, before);
      this.#keepWarm(undefined, before);
      this.#line.fail("no_backend");
      return;
    }
    const { limits } = config;
    this.requestsPerConnection = limits?.requestsPerConnection ?? Number.POSITIVE_INFINITY;
    this.connectionDuration = limits?.connectionDuration ?? Number.POSITIVE_INFINITY;
    this.idleTimeout = limits?.idleTimeout ?? defaultIdle;
    this.idleConnections = limits?.idleConnections ?? defaultIdleConnections;
    this.http2 = { streams: limits?.streamsPerConnection, keepalive: config.http2Keepalive };
    this.#keepWarm(config, before);
    if (!before || before.limits?.retries !== limits?.retries || !same(before.retryBudget, config.retryBudget))
      this.budget = retryBudget(config.retryBudget, limits?.retries);
    const now = this.deadlines.now();
    for (const pool of this.#pools.values()) {
      pool.health.configure(config, before, now);
      if (!before || !same(wayOf(before), wayOf(config))) pool.renew();
    }
    this.#configureHealth(config, before);
  }

  #configureHealth(config: Backend | undefined, before: Backend | undefined): void {
    this.#health.configure(config, before, () => this.#pools.values());
    this.watch = this.#health.watch;
  }

  #keepWarm(config: Backend | undefined, before: Backend | undefined): void {
    if (same(config?.warm, before?.warm)) return;
    this.warming?.dispose();
    const gate = this.#surroundings.warmGate ?? new WarmGate();
    this.warming = config?.warm ? new Warming(config.warm, this, gate, () => this.deadlines.now()) : undefined;
  }

  *warmed(now: number): Iterable<EndpointPool> {
    for (const pool of this.#pools.values()) if (pool.weight > 0 && pool.health.healthy(now)) yield pool;
  }

  /** To be called each second. */
  sweep(): void {
    for (const pool of this.#pools.values()) pool.sweep();
    if (this.isReferred) this.warming?.look();
  }

  /** What {@link setEndpoints} is given next. */
  readied(endpoints: Endpoints): Steps<ReadyEndpoints> {
    const make = ({ address, port, weight }: Endpoint) => new EndpointPool(this, address, port, weight);
    return readyEndpoints(endpoints, this.#pools, make);
  }

  setEndpoints({ pools, fresh, changed, gone }: ReadyEndpoints): void {
    for (const [pool, endpoint] of changed) place(pool, endpoint);
    const now = this.deadlines.now();
    for (const pool of fresh) {
      pool.catchUp();
      if (this.#config) pool.health.configure(this.#config, undefined, now);
    }
    this.#pools = pools;
    for (const pool of gone) pool.remove();
    this.#choice = undefined;
    this.#tokens = undefined;
    this.#health.setEndpoints(() => pools.values());
    if (this.isAwaited && this.usable === 0) this.#line.fail("no_endpoints");
  }

  /** Its endpoints are not known any more. */
  forgetEndpoints(): void {
    this.setEndpoints(noEndpoints(this.#pools));
  }

  #endpointChoice(): EndpointChoice<EndpointPool> {
    this.#choice ??= new EndpointChoice(
      [...this.#pools.values()],
      this.#config!,
      this.#surroundings.zone,
      this.deadlines.now(),
    );
    return this.#choice;
  }

  /** The endpoint that a client's token stands for, if it may take requests. */
  byToken(token: string): EndpointPool | undefined {
    if (!this.#tokens) {
      this.#tokens = new Map();
      for (const pool of this.#pools.values()) this.#tokens.set(this.tokenOf(pool), pool);
    }
    const pool = this.#tokens.get(token);
    return pool && pool.weight > 0 && pool.health.healthy(this.deadlines.now()) ? pool : undefined;
  }

  tokenOf(pool: EndpointPool): string {
    return stickyToken(`${this.name} ${pool.key}`);
  }

  /**
   * Gives the waiter a connection to an endpoint: at once when one is idle, else later. Or returns why there is none.
   * Without a selection any endpoint will do.
   */
  acquire(waiter: Waiter, selection: Selection | undefined): Reason | undefined {
    const config = this.#config;
    if (config === undefined) return "no_backend";
    const { limits } = config;
    if (limits?.requests !== undefined && this.active + this.pending >= limits.requests) return this.#overflow();
    const pool = this.#choose(selection);
    if (!pool) return this.#pools.size === 0 ? "no_endpoints" : this.#noneUsable();
    const connection = waiter.tunnels ? undefined : pool.take(waiter);
    if (connection) {
      waiter.connected(connection, pool);
      return undefined;
    }
    if (this.isFull) {
      // What serves requests is of no use to it, and does not become free for it either.
      if (waiter.tunnels) return this.#overflow();
      const bound = this.#isBound(selection);
      if (!bound && this.#connectedElsewhere(waiter)) return undefined;
      // Those of other clients, or of another version of HTTP, are of no use to it.
      const exclusive = bound || this.#hasKinds;
      if (!exclusive || !this.#makesRoom(pool)) {
        if (this.pending >= (limits?.pending ?? defaultPending)) return this.#overflow();
        this.#line.push({ waiter, selection, particular: bound || this.useClientProtocol });
        return undefined;
      }
    }
    if (limits?.pending !== undefined && this.pending >= limits.pending) return this.#overflow();
    selection?.took(pool);
    pool.connect(waiter);
    return undefined;
  }

  /** Gives it a connection that idles at another endpoint: as good as one of its own, and closing it would cost more. */
  #connectedElsewhere(waiter: Waiter): boolean {
    for (const other of this.warmed(this.deadlines.now())) {
      const idle = other.take(waiter);
      if (!idle) continue;
      waiter.connected(idle, other);
      return true;
    }
    return false;
  }

  /** Only the endpoint that is chosen for it will do: its client's own, or that of its hash. */
  #isBound(selection: Selection | undefined): boolean {
    if (selection === undefined) return false;
    const { kind } = this.#config!.balance;
    return selection.kept !== undefined || (selection.hash !== undefined && (kind === "ringHash" || kind === "maglev"));
  }

  /** Not every connection of an endpoint can serve every request. */
  get #hasKinds(): boolean {
    return this.originalSource !== undefined || this.useClientProtocol;
  }

  /** Closes unused connections of others until there may be one to this endpoint. */
  #makesRoom(pool: EndpointPool): boolean {
    const own = this.#hasKinds;
    for (const other of this.#pools.values()) {
      while (this.isFull && (own || other !== pool) && other.retireIdle());
    }
    return !this.isFull;
  }

  #overflow(): Reason {
    this.overflows++;
    return "overflow";
  }

  #noneUsable(): Reason {
    for (const { weight } of this.#pools.values()) if (weight > 0) return "no_healthy_endpoints";
    return "no_endpoints";
  }

  #choose(selection: Selection | undefined): EndpointPool | undefined {
    if (selection === undefined) return this.#endpointChoice().next(this.deadlines.now(), undefined, nobody);
    const { kept, avoid, hash, leftOut } = selection;
    if (kept && !kept.removed && !avoid.includes(kept) && !leftOut.includes(kept.priority)) return kept;
    const choice = this.#endpointChoice();
    const beside = leftOut.length === 0 ? choice : choice.beside(leftOut);
    return (beside.size > 0 ? beside : choice).next(this.deadlines.now(), hash, avoid);
  }

  /** Whether endpoints take requests that are of other priorities than these. */
  usableBeside(priorities: readonly number[]): boolean {
    return this.#config !== undefined && this.#endpointChoice().beside(priorities).size > 0;
  }

  /**
   * An endpoint for a connection or session that is in no pool (TCP, UDP), other than `avoid` if there is one; or why there is
   * none. To be given back by `release`.
   */
  reserve(avoid: readonly EndpointPool[]): EndpointPool | Reason {
    if (this.#config === undefined) return "no_backend";
    if (this.isFull) return this.#overflow();
    const pool = this.#endpointChoice().next(this.deadlines.now(), undefined, avoid);
    if (!pool) return this.#pools.size === 0 ? "no_endpoints" : this.#noneUsable();
    pool.began();
    this.watch?.taken(pool);
    this.connections++;
    return pool;
  }

  release(pool: EndpointPool): void {
    pool.ended();
    this.watch?.abandoned(pool);
    this.connections--;
    this.offer(pool, undefined);
  }

  /** The waiter wants no connection any more. */
  forget(waiter: Waiter): void {
    this.#line.forget(waiter);
    for (const pool of this.#pools.values()) pool.forget(waiter);
  }

  offer(pool: EndpointPool, source: Reusable | undefined, protocol?: Backend["protocol"]): boolean {
    const line = this.#line;
    if (line.length === 0) return false;
    if (source) {
      const serves = ({ waiter, selection }: Waiting) =>
        (!this.useClientProtocol || protocolOf(waiter, this) === protocol) &&
        (!this.#isBound(selection) || this.#choose(selection) === pool);
      const next = this.#owesRoom(pool) ? undefined : line.takeFor(serves);
      if (next) {
        pool.began();
        next.waiter.connected(source.open(), pool);
      } else queueMicrotask(() => inTurn(() => this.#makeRoomForFirst()));
      return next !== undefined;
    }
    const next = this.isFull ? undefined : this.#choose(line.first!.selection);
    if (next) {
      const { waiter, selection } = line.shift()!;
      selection?.took(next);
      next.connect(waiter);
    }
    return false;
  }

  /** The first in line waits for another endpoint, to which there is no connection that could become free. */
  #owesRoom(pool: EndpointPool): boolean {
    const { selection } = this.#line.first!;
    const only = this.#isBound(selection) ? this.#choose(selection) : undefined;
    return only !== undefined && only !== pool && only.connections === 0;
  }

  /** A connection has become idle that does not serve the first in line: it makes room for theirs. */
  #makeRoomForFirst(): void {
    const { first } = this.#line;
    const pool = first && this.#config && this.#choose(first.selection);
    // What becomes free when one is closed is offered to the first in line.
    if (pool) this.#makesRoom(pool);
  }
}
