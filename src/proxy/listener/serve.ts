// What serves the connections of one filter chain: the route table that it names, and the connections that it has, so that
// they can be drained with it. It lives as long as its chain's condition stays in the listener, whatever else changes.

import type { RouteTableRuntime } from "../compile.ts";
import type { DownstreamEvents, RequestHead } from "../exchange.ts";
import { Forwarding } from "../forwarding.ts";
import { Http1Downstream } from "../http1/downstream.ts";
import type { Http1Server, Http1Timeouts } from "../http1/server.ts";
import type { Reason } from "../reason.ts";
import type { ProxyRuntime } from "../runtime.ts";
import type { Wire } from "../wire.ts";

export class ServedChain implements Http1Server {
  table: RouteTableRuntime;
  draining = false;
  readonly timeouts: Http1Timeouts;
  readonly connections = new Set<Http1Downstream>();
  readonly #runtime: ProxyRuntime;
  readonly #port: number;
  readonly #scheme: "http" | "https";

  constructor(runtime: ProxyRuntime, table: RouteTableRuntime, port: number, scheme: "http" | "https") {
    this.#runtime = runtime;
    this.table = table;
    this.#port = port;
    this.#scheme = scheme;
    this.timeouts = runtime.http1Timeouts;
  }

  /** A connection was accepted. Undefined when there are too many: the caller closes it. */
  accept(wire: Wire, source: string): Http1Downstream | undefined {
    const counts = this.#runtime.connections;
    if (counts.open >= counts.most) {
      counts.refused++;
      return undefined;
    }
    counts.open++;
    counts.accepted++;
    const connection = new Http1Downstream(wire, this, this.#runtime.deadlines, source, this.#scheme);
    this.connections.add(connection);
    return connection;
  }

  request(downstream: Http1Downstream, _head: RequestHead): DownstreamEvents {
    const forwarding = new Forwarding(this.#runtime, downstream);
    forwarding.begin(this.table, this.#port);
    return forwarding;
  }

  /** A handler threw: a fault of ours, which costs this connection and no other. */
  faulted(error: unknown): void {
    this.#runtime.log.error("a client connection was closed by a fault", { error, stack: (error as Error).stack });
  }

  refused(reason: Reason): void {
    this.#runtime.metrics.ended(reason);
  }

  closed(connection: Http1Downstream): void {
    if (this.connections.delete(connection)) this.#runtime.connections.open--;
  }

  /** Connections close as soon as they owe no answer; new requests of a pipeline are not begun. */
  drain(): void {
    this.draining = true;
    for (const connection of [...this.connections]) connection.closeWhenIdle();
  }

  /** The end of a drain's patience. */
  terminate(): void {
    for (const connection of [...this.connections]) connection.terminate();
  }
}
