// What serves the connections of one filter chain: the route table that it names, and the connections that it has, so that
// they can be drained with it. It lives as long as its chain's condition stays in the listener, whatever else changes.

import { normalizedPath, type PathNormalization } from "../../model/path-normalization.ts";
import type { RouteTableRuntime } from "../compile.ts";
import type { Downstream, DownstreamEvents, RequestHead } from "../exchange.ts";
import { believeHops } from "../filters/trusted-hops.ts";
import { Forwarding } from "../forwarding.ts";
import { Http1Downstream } from "../http1/downstream.ts";
import { Http2Downstream } from "../http2/downstream.ts";
import type { Reason } from "../reason.ts";
import type { ProxyRuntime } from "../runtime.ts";
import type { ClientConnection, ClientServer, ClientTimeouts, Unread } from "../server.ts";
import { tellUnread, unreadEnd } from "../telemetry/unread.ts";
import { type ListenerTelemetry, Watched } from "../telemetry/watched.ts";
import { beginTurn, endTurn, turn } from "../wire.ts";
import { misdirectedTable } from "./misdirected.ts";
import type { ProxyAddresses } from "./proxy-protocol.ts";
import { refusingTable } from "./refusing-table.ts";
import {
  type Accepted,
  ClientAddresses,
  type ListenerWire,
  type LiveConnection,
  type Seat,
  type Served,
} from "./served.ts";

const nobody = () => false;
const badPathTable = refusingTable("bad_path");

export class ServedChain implements ClientServer, Served {
  table: RouteTableRuntime;
  /** Hops that are believed about their clients; undefined: nobody. */
  trusted: ((address: string) => boolean) | undefined = undefined;
  /** What is made of paths before anything else looks at them. */
  pathNormalization: PathNormalization = "NONE";
  /** Whether a request for this authority belongs to another chain of the port; undefined: there is none, or all are alike. */
  isMisdirected: ((authority: string, addresses: ProxyAddresses) => boolean) | undefined = undefined;
  /** What is told of its requests; undefined: nothing. */
  telemetry: ListenerTelemetry | undefined = undefined;
  draining = false;
  readonly timeouts: ClientTimeouts;
  readonly connections = new Map<ClientConnection, Seat>();
  readonly #runtime: ProxyRuntime;
  readonly #port: number;
  readonly #scheme: "http" | "https";

  constructor(runtime: ProxyRuntime, table: RouteTableRuntime, port: number, scheme: "http" | "https") {
    this.#runtime = runtime;
    this.table = table;
    this.#port = port;
    this.#scheme = scheme;
    this.timeouts = runtime.clientTimeouts;
  }

  get size(): number {
    return this.connections.size;
  }

  accept(seat: Seat, wire: ListenerWire, accepted: Accepted): boolean {
    const { source, protocol, client, shown, serverName, tlsVersion } = accepted;
    const counts = this.#runtime.connections;
    if (counts.open >= counts.most) {
      counts.refused++;
      return false;
    }
    counts.open++;
    counts.accepted++;
    const Codec = protocol === "h2" ? Http2Downstream : Http1Downstream;
    seat.source = source;
    seat.since = turn.now;
    const connection = new Codec(wire, this, this.#runtime.deadlines, source, this.#scheme);
    const lines = connection.forwardingLines;
    if (client) lines.client = client;
    if (shown !== undefined) lines.shown = shown;
    if (serverName !== undefined) lines.serverName = serverName;
    if (tlsVersion !== undefined) lines.tlsVersion = tlsVersion;
    lines.addresses = new ClientAddresses(accepted, wire, this.#port);
    this.#seat(seat, connection);
    return true;
  }

  #seat(seat: Seat, connection: ClientConnection): void {
    seat.connection = connection;
    this.connections.set(connection, seat);
  }

  *live(listener: string): Generator<LiveConnection> {
    const now = turn.source();
    for (const [connection, { source = "", since = now }] of this.connections) {
      const protocol = connection instanceof Http2Downstream ? "HTTP/2" : "HTTP/1.1";
      yield { listener, source, protocol, age: Math.round(now - since) };
    }
  }

  /** HTTP/2 with prior knowledge. With TLS it is agreed on by ALPN and by nothing else (RFC 9113 §3.2). */
  turnedOut(connection: Http1Downstream, bytes: Buffer): boolean {
    const seat = this.connections.get(connection);
    if (!seat || this.#scheme === "https") return false;
    this.connections.delete(connection);
    const { deadlines } = this.#runtime;
    const successor = new Http2Downstream(connection.wire, this, deadlines, connection.head.source, this.#scheme);
    successor.forwardingLines.addresses = connection.forwardingLines.addresses!;
    this.#seat(seat, successor);
    successor.onData(bytes);
    return true;
  }

  request(downstream: Downstream, head: RequestHead): DownstreamEvents {
    // A connection of before may still believe what its last request was believed.
    if (this.trusted || head.peer !== undefined) believeHops(head, this.#scheme, this.trusted ?? nobody);
    const path = normalizedPath(head.path, this.pathNormalization);
    if (path !== undefined) head.path = path;
    const { client } = downstream.forwardingLines;
    if (client) head.client = client;
    const forwarding = new Forwarding(
      this.#runtime,
      downstream,
      this.telemetry && new Watched(this.telemetry, downstream),
    );
    const isMisdirected = this.isMisdirected?.(head.authority, downstream.forwardingLines.addresses!);
    const table = isMisdirected ? misdirectedTable : this.table;
    forwarding.begin(path === undefined ? badPathTable : table, this.#port);
    return forwarding;
  }

  refused(reason: Reason, request: Unread, answered: boolean): void {
    const { metrics, unrouted } = this.#runtime;
    const end = unreadEnd(reason, request, answered);
    metrics.record(unrouted, end.status, end.milliseconds, 0, end.sent);
    metrics.ended(reason, unrouted);
    if (this.telemetry) tellUnread(this.telemetry, reason, request, end);
  }

  closed(connection: ClientConnection): void {
    if (this.connections.delete(connection)) this.#runtime.connections.open--;
  }

  /**
   * Connections close as soon as they owe no answer; new requests of a pipeline are not begun. Those of HTTP/1 that are idle stay
   * for the process' grace: their clients may be sending a request just now, and it is answered with `connection: close`. HTTP/2
   * has GOAWAY for that.
   */
  drain(): void {
    this.draining = true;
    const { idleGrace, clock } = this.#runtime;
    for (const connection of [...this.connections.keys()]) {
      if (idleGrace === 0 || connection instanceof Http2Downstream) connection.closeWhenIdle();
    }
    if (idleGrace > 0 && this.connections.size > 0) clock.after(idleGrace, () => this.#closeIdle());
  }

  #closeIdle(): void {
    beginTurn();
    for (const connection of [...this.connections.keys()]) connection.closeWhenIdle();
    endTurn();
  }

  terminate(): void {
    for (const connection of [...this.connections.keys()]) connection.terminate();
  }
}
