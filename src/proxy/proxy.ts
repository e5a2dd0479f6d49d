// A proxy process put together: configuration, listeners, backends, the connection to the control process, the state file and
// the admin socket; and its end, the drain.

import { rmSync } from "node:fs";
import type { Clock } from "../base/clock.ts";
import type { Logger, LogLevel } from "../base/log.ts";
import type { AccessLogSettings } from "../model/listener-telemetry.ts";
import type { Composition } from "../model/wire.ts";
import type { AdminSocket } from "./admin/listen.ts";
import { type Predecessors, predecessorsAt } from "./admin/predecessor.ts";
import { serveAdmin } from "./admin/server.ts";
import { Configuration } from "./configuration.ts";
import { ControlConnection } from "./control.ts";
import { Deadlines } from "./deadlines.ts";
import { FilterRuntime } from "./filters/runtime.ts";
import { limitsFile } from "./filters/shared-table.ts";
import { BucketSets } from "./filters/token-bucket.ts";
import { AddressClaims, type Claims } from "./listener/claims.ts";
import { Listeners } from "./listener/listeners.ts";
import { PortGroups } from "./listener/port-groups.ts";
import { Overload } from "./overload.ts";
import type { ProxyRuntime } from "./runtime.ts";
import { defaultClientTimeouts } from "./server.ts";
import { StateFile } from "./state-file.ts";
import { RelayCounts } from "./tcp/counts.ts";
import { OwnEnds } from "./tcp/own-ends.ts";
import { Metrics } from "./telemetry/metrics.ts";
import { Telemetry } from "./telemetry/telemetry.ts";
import { Backends, defaultUpstreamTimeouts } from "./upstream/backends.ts";
import { beginTurn, endTurn, flushWritten } from "./wire.ts";

export interface ProxyOptions {
  readonly name: string;
  readonly scopes: readonly string[];
  /** Unix socket of the control process. */
  readonly control: string;
  /** Unix socket to serve the admin interface on. */
  readonly admin: string;
  /** Which program this is, told to the control process. */
  readonly program?: string;
  /** File that keeps the last configuration. */
  readonly state?: string;
  /** Of all listeners, besides their own. */
  readonly accessLog?: AccessLogSettings;
  /** Where the proxy is, for backends that prefer endpoints of the same zone. */
  readonly zone?: string;
  /** Set where it is one of several workers on the same ports. */
  readonly worker?: WorkerPlace;
  /** By how many it listens on each port of TCP; 1 unless given. */
  readonly sockets?: number;
  /** Most client connections, and requests under way. */
  readonly maxConnections: number;
  readonly maxRequests: number;
  /** Bytes; 0: no bound. */
  readonly maxMemory: number;
}

/** Which of the workers of a composition a process is. */
export interface WorkerPlace {
  /** From 1. */
  readonly number: number;
  readonly composition: Composition;
}

/** Milliseconds that idle connections stay at most while the process drains. */
const longestGrace = 1_500;

/** Milliseconds for handshakes of connections that still come here when others go to the next process already. */
const longestHandshake = 250;

/**
 * Milliseconds until fellow workers have closed their sockets, too. Clients that are told to come again get to the next process at
 * once from then on; before, one that asks at a socket that is being closed would do so again a second later.
 */
const longestClosing = 100;

/** What the program logs, changed over the admin socket. */
export interface CurrentLogLevel {
  current: LogLevel;
}

export class ProxyProcess {
  readonly options: ProxyOptions;
  readonly logLevel: CurrentLogLevel;
  readonly runtime: ProxyRuntime;
  readonly listeners: Listeners;
  readonly configuration: Configuration;
  readonly startedAt: number;
  draining = false;
  readonly #log: Logger;
  readonly #ports: PortGroups;
  readonly #state: StateFile | undefined;
  #control: ControlConnection | undefined;
  #admin: AdminSocket | undefined;
  #predecessors: Predecessors | undefined;
  #drained: Promise<void> | undefined;

  /** `claims`: of a worker; otherwise the process claims its addresses for itself. */
  constructor(
    options: ProxyOptions,
    clock: Clock,
    log: Logger,
    logLevel: CurrentLogLevel = { current: "info" },
    claims?: Claims,
  ) {
    this.options = options;
    this.logLevel = logLevel;
    this.#log = log;
    this.startedAt = clock.now();
    const deadlines = new Deadlines(clock);
    deadlines.beforehand = beginTurn;
    deadlines.afterwards = endTurn;
    const metrics = new Metrics();
    const counted = limitsFile(options.worker?.composition.admin ?? options.admin);
    const backends = new Backends(deadlines, clock, defaultUpstreamTimeouts, {
      log: log.child("upstream"),
      ...(options.worker === undefined ? {} : { workers: options.worker.composition.workers }),
      ...(options.zone === undefined ? {} : { zone: options.zone }),
    });
    const connections = { open: 0, accepted: 0, refused: 0, most: options.maxConnections };
    const limits = {
      connections: options.maxConnections,
      requests: options.maxRequests,
      memory: options.maxMemory,
    };
    this.runtime = {
      clock,
      log,
      deadlines,
      metrics,
      backends,
      filters: new FilterRuntime(clock, deadlines, backends, log.child("filters"), new BucketSets(counted)),
      relays: new RelayCounts(),
      ownEnds: { tcp: new OwnEnds(), udp: new OwnEnds() },
      telemetry: new Telemetry({ backends, deadlines }, clock, log.child("telemetry"), options.accessLog),
      unrouted: metrics.slot("", ""),
      clientTimeouts: defaultClientTimeouts,
      idleGrace: 0,
      connections,
      overload: new Overload(limits, connections, clock, log.child("overload")),
    };
    const handsOver = () => this.#predecessors?.present === true || this.#admin?.isOwn() === false;
    this.listeners = new Listeners(this.runtime, claims ?? new AddressClaims(handsOver).alone(), options.sockets ?? 1);
    this.configuration = new Configuration(this.runtime, this.listeners, options.scopes);
    const ports = () => new Set([...this.configuration.inForce("listeners").values()].map(({ port }) => port));
    this.#ports = new PortGroups(ports, clock, log);
    this.#state =
      options.state === undefined
        ? undefined
        : new StateFile(options.state, clock, log, () => this.configuration.stored());
  }

  get connected(): boolean {
    return this.#control?.connected ?? false;
  }

  /**
   * Serves the stored configuration if there is one, then connects to the control process. `ended` is called after a drain,
   * `handedOver` when the control process asks for one.
   */
  async start(ended: () => void, handedOver: () => void): Promise<void> {
    const { worker } = this.options;
    if (worker === undefined) this.#predecessors = await predecessorsAt(this.options.admin);
    // The fellows of a worker that is asked by itself stay, and it will be started anew.
    const alone = worker === undefined ? undefined : 0;
    this.#admin = serveAdmin(this, (deadline, successors = alone) => void this.drain(deadline, successors).then(ended));
    const stored = this.#state?.load();
    if (stored) {
      const rejected = await this.configuration.apply({ version: 0, upsert: stored, remove: {} });
      this.#log.info("serving the stored configuration", { ...this.configuration.counts(), rejected: rejected.length });
      this.#ports.joined();
    }
    this.#control = new ControlConnection(this.options.control, this.runtime.clock, this.#log.child("control"), {
      hello: async () => ({
        type: "hello",
        proxy: this.options.name,
        scopes: this.options.scopes,
        pid: process.pid,
        ...(this.options.program === undefined ? {} : { program: this.options.program }),
        admin: this.options.admin,
        ...(worker === undefined ? {} : { composition: worker.composition }),
        ...(this.options.sockets === undefined ? {} : { sockets: this.options.sockets }),
        have: await this.configuration.connected(),
      }),
      update: async (update) => {
        const rejected = await this.configuration.apply(update);
        this.configuration.version = update.version;
        if (update.version === 1) this.#ports.joined();
        // What is in force is the same for all workers.
        if (worker === undefined || worker.number === 1) this.#state?.changed();
        for (const { resource, name, reason } of rejected) this.#log.warn("rejected", { resource, name, reason });
        return rejected;
      },
      drain: (deadline, successors) => {
        handedOver();
        void this.drain(deadline, successors).then(ended);
      },
    });
  }

  /**
   * Stops accepting, lets what is in flight finish within `deadline` milliseconds, closes the rest. `successors`: by so many
   * sockets others began to listen on each of the same ports after this one and its fellow workers, and take what connects from now on; 0 for a worker
   * whose fellows stay. Undefined: nobody is known to, and where somebody is there all the same it may have it.
   */
  drain(deadline: number, successors?: number): Promise<void> {
    this.#drained ??= this.#drain(deadline, successors);
    return this.#drained;
  }

  async #drain(deadline: number, successors: number | undefined): Promise<void> {
    this.draining = true;
    this.#log.info("draining", { deadline, connections: this.runtime.connections.open });
    // Another process may have taken over: it is told what changes, and it keeps the configuration, from now on.
    this.#control?.dispose();
    await this.configuration.end();
    await this.#state?.end();
    const leaving = (this.options.worker?.composition.workers ?? 1) * (this.options.sockets ?? 1);
    await this.#ports.leave(Math.min(longestHandshake, deadline / 20), leaving, successors);
    this.listeners.close();
    if (successors !== undefined)
      await new Promise<void>(
        (resolve) => void this.runtime.clock.after(Math.min(longestClosing, deadline / 20), resolve),
      );
    this.runtime.idleGrace = Math.min(longestGrace, deadline / 20);
    this.listeners.drain();
    flushWritten();
    const { clock, connections } = this.runtime;
    await new Promise<void>((resolve) => {
      const patience = clock.after(deadline, () => finish());
      const isOver = () => connections.open === 0 && this.listeners.leaving === 0;
      const check = clock.every(20, () => {
        if (isOver()) finish();
      });
      const finish = () => {
        patience.dispose();
        check.dispose();
        resolve();
      };
      if (isOver()) finish();
    });
    if (connections.open > 0)
      this.#log.warn("closing connections that did not finish", { connections: connections.open });
    this.listeners.terminate();
    await this.runtime.telemetry.end();
    const last = this.#admin?.stop();
    if (last && this.options.worker === undefined) rmSync(limitsFile(this.options.admin), { force: true });
  }
}
