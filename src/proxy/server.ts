// What a client's connection, whatever it speaks, needs from the listener that accepted it: timeouts, and somebody who takes its
// requests.

import type { Downstream, DownstreamEvents, RequestHead } from "./exchange.ts";
import type { Reason } from "./reason.ts";

/** Milliseconds. */
export interface ClientTimeouts {
  /** From the first byte of a head to its last (slow loris). */
  readonly head: number;
  /** Between requests. */
  readonly idle: number;
  /** Without progress of a request's body. */
  readonly body: number;
  /** Without progress while the client does not read its answer. */
  readonly write: number;
}

export const defaultClientTimeouts: ClientTimeouts = { head: 15_000, idle: 75_000, body: 60_000, write: 60_000 };

/** A client's connection, as its socket and its listener know it. */
export interface ClientConnection {
  onData(bytes: Buffer): void;
  onDrain(): void;
  /** The client sends no more. */
  onEnd(): void;
  /** The socket is gone. */
  onClose(): void;
  /** Takes no further requests, and closes when it owes no answer. */
  closeWhenIdle(): void;
  terminate(): void;
}

/** Who sent a request that could not be read, and when it began. Of what it said nothing is believed. */
export type Unread = Pick<Downstream, "protocol" | "began" | "forwardingLines">;

/** What a connection needs from its listener. */
export interface ClientServer {
  readonly timeouts: ClientTimeouts;
  /** Answers carry `connection: close`, and idle connections are closed. */
  readonly draining: boolean;
  /** Takes a request: the handler is told of its body and may answer at any time, also before it returns. */
  request(downstream: Downstream, head: RequestHead): DownstreamEvents;
  /** A request could not be read: it was answered with `reason`, or only its stream or connection was ended. */
  refused(reason: Reason, request: Unread, answered: boolean): void;
  closed(connection: ClientConnection): void;
  /** The connection turned out to speak HTTP/2 (RFC 9113 §3.3), beginning with `bytes`. False: it may not. */
  turnedOut(connection: ClientConnection, bytes: Buffer): boolean;
}
