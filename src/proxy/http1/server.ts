// What a client connection needs from the listener that accepted it: timeouts, and somebody who takes its requests.

import type { DownstreamEvents, RequestHead } from "../exchange.ts";
import type { Reason } from "../reason.ts";
import type { Http1Downstream } from "./downstream.ts";

/** Milliseconds. */
export interface Http1Timeouts {
  /** From the first byte of a head to its last (slow loris). */
  readonly head: number;
  /** Between requests. */
  readonly idle: number;
  /** Without progress of a request's body. */
  readonly body: number;
  /** Without progress while the client does not read its answer. */
  readonly write: number;
}

export const defaultHttp1Timeouts: Http1Timeouts = { head: 15_000, idle: 75_000, body: 60_000, write: 60_000 };

/** What a connection needs from its listener. */
export interface Http1Server {
  readonly timeouts: Http1Timeouts;
  /** Answers carry `connection: close`, and idle connections are closed. */
  readonly draining: boolean;
  /** Takes a request: the handler is told of its body and may answer at any time, also before it returns. */
  request(downstream: Http1Downstream, head: RequestHead): DownstreamEvents;
  /** A request that could not be read and was answered with `reason`. */
  refused(reason: Reason): void;
  closed(connection: Http1Downstream): void;
}
