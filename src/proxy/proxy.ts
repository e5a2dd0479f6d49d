// A proxy process put together: configuration, listeners, backends, the connection to the control process, the state file and
// the admin socket; and its end, the drain.

import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger, LogLevel } from "../base/log.ts";
import { serveAdmin } from "./admin/server.ts";
import { Configuration } from "./configuration.ts";
import { ControlConnection } from "./control.ts";
import { Deadlines } from "./deadlines.ts";
import { FilterRuntime } from "./filters/runtime.ts";
import { divert } from "./listener/divert.ts";
import { Listeners } from "./listener/listeners.ts";
import { Overload } from "./overload.ts";
import type { ProxyRuntime } from "./runtime.ts";
import { defaultClientTimeouts } from "./server.ts";
import { StateFile } from "./state-file.ts";
import { RelayCounts } from "./tcp/counts.ts";
import { AccessLog } from "./telemetry/access-log.ts";
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
  readonly accessLog?: string;
  /** Where the proxy is, for backends that prefer endpoints of the same zone. */
  readonly zone?: string;
  /** The process without which this one ends: it is one of several workers. */
  readonly parent?: number;
  /** Most client connections, and requests under way. */
  readonly maxConnections: number;
  readonly maxRequests: number;
  /** Bytes; 0: no bound. */
  readonly maxMemory: number;
}

/** Milliseconds that idle connections stay at most while the process drains. */
const longestGrace = 1_500;

/** Milliseconds for handshakes of connections that still come here when others go to the next process already. */
const longestHandshake = 250;

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
  readonly #state: StateFile | undefined;
  #control: ControlConnection | undefined;
  #admin: { stop(): void } | undefined;
  #drained: Promise<void> | undefined;

  constructor(options: ProxyOptions, clock: Clock, log: Logger, logLevel: CurrentLogLevel = { current: "info" }) {
    this.options = options;
    this.logLevel = logLevel;
    this.#log = log;
    this.startedAt = clock.now();
    const deadlines = new Deadlines(clock);
    deadlines.beforehand = beginTurn;
    deadlines.afterwards = endTurn;
    const metrics = new Metrics();
    const backends = new Backends(deadlines, clock, defaultUpstreamTimeouts, {
      log: log.child("upstream"),
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
      filters: new FilterRuntime(clock, deadlines, backends, log.child("filters")),
      relays: new RelayCounts(),
      telemetry: new Telemetry({ backends, deadlines }, clock, log.child("telemetry")),
      accessLog: options.accessLog === undefined ? undefined : new AccessLog(options.accessLog, clock),
      unrouted: metrics.slot("", ""),
      clientTimeouts: defaultClientTimeouts,
      idleGrace: 0,
      connections,
      overload: new Overload(limits, connections, clock, log.child("overload")),
    };
    this.listeners = new Listeners(this.runtime);
    this.configuration = new Configuration(this.runtime, this.listeners, options.scopes);
    this.#state =
      options.state === undefined
        ? undefined
        : new StateFile(options.state, clock, log, () => this.configuration.stored());
  }

  get connected(): boolean {
    return this.#control?.connected ?? false;
  }

  /** Serves the stored configuration if there is one, then connects to the control process. `ended` is called after a drain. */
  async start(ended: () => void): Promise<void> {
    this.#admin = serveAdmin(this, (deadline) => void this.drain(deadline).then(ended));
    const stored = this.#state?.load();
    if (stored) {
      const rejected = await this.configuration.apply({ version: 0, upsert: stored, remove: {} });
      this.#log.info("serving the stored configuration", { ...this.configuration.counts(), rejected: rejected.length });
    }
    this.#control = new ControlConnection(this.options.control, this.runtime.clock, this.#log.child("control"), {
      hello: () => {
        this.configuration.connected();
        return {
          type: "hello",
          proxy: this.options.name,
          scopes: this.options.scopes,
          pid: process.pid,
          ...(this.options.program === undefined ? {} : { program: this.options.program }),
          admin: this.options.admin,
          have: this.configuration.have(),
        };
      },
      update: async (update) => {
        const rejected = await this.configuration.apply(update);
        this.configuration.version = update.version;
        this.#state?.changed();
        for (const { resource, name, reason } of rejected) this.#log.warn("rejected", { resource, name, reason });
        return rejected;
      },
      drain: (deadline) => void this.drain(deadline).then(ended),
    });
  }

  /** Stops accepting, lets what is in flight finish within `deadline` milliseconds, closes the rest. */
  drain(deadline: number): Promise<void> {
    this.#drained ??= this.#drain(deadline);
    return this.#drained;
  }

  /** Lets the next process, if there is one, have what connects from now on. */
  async #divert(milliseconds: number): Promise<void> {
    // Among workers the second of a port's sockets is not the next process.
    if (this.options.parent !== undefined) return;
    try {
      divert(new Set([...this.configuration.inForce("listeners").values()].map(({ port }) => port)));
    } catch (error) {
      this.#log.warn("connections that are being made just now may be reset", { reason: messageOf(error) });
      return;
    }
    await new Promise<void>((resolve) => void this.runtime.clock.after(milliseconds, resolve));
  }

  async #drain(deadline: number): Promise<void> {
    this.draining = true;
    this.#log.info("draining", { deadline, connections: this.runtime.connections.open });
    // Another process may have taken over: it is told what changes, and it keeps the configuration, from now on.
    this.#control?.dispose();
    await this.#state?.end();
    await this.#divert(Math.min(longestHandshake, deadline / 20));
    this.runtime.idleGrace = Math.min(longestGrace, deadline / 20);
    this.listeners.drain();
    flushWritten();
    const { clock, connections } = this.runtime;
    await new Promise<void>((resolve) => {
      const patience = clock.after(deadline, () => finish());
      const check = clock.every(20, () => {
        if (connections.open === 0) finish();
      });
      const finish = () => {
        patience.dispose();
        check.dispose();
        resolve();
      };
      if (connections.open === 0) finish();
    });
    if (connections.open > 0)
      this.#log.warn("closing connections that did not finish", { connections: connections.open });
    this.listeners.terminate();
    this.runtime.accessLog?.close();
    await this.runtime.telemetry.end();
    this.#admin?.stop();
  }
}
