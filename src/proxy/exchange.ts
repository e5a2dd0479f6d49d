// One request and its answer, as the codecs and the middle of the proxy see them: neutral between HTTP/1 and HTTP/2, so that any
// codec in front can be paired with any behind. Callbacks, no promises; bodies are passed on and never copied here. Who may
// call what is said at each interface; `forwarding.ts` is what stands in the middle.

import type { ForwardingLines } from "./filters/forwarded.ts";
import type { HeaderBlock } from "./headers.ts";
import type { ClientIdentity } from "./listener/client-identity.ts";
import type { Reason } from "./reason.ts";
import type { UpstreamValues } from "./telemetry/kept-values.ts";
import type { Wire } from "./wire.ts";

/** The head of a request. It belongs to the downstream codec and is valid until the exchange ends. */
export interface RequestHead {
  method: string;
  scheme: "http" | "https";
  /** Host header or `:authority`, as it came. */
  authority: string;
  /** The target before `?`, as it came. */
  path: string;
  /** Behind the first `?`; undefined when there is none. */
  query: string | undefined;
  headers: HeaderBlock;
  /** Whether `headers` has a Host field that says what `authority` says. Whoever changes `authority` makes it false. */
  hostKept: boolean;
  /** Bytes of the body; 0 none, -1 not known beforehand. */
  length: number;
  /**
   * The protocol an `upgrade` asks for; empty of a CONNECT to a place, which has neither path nor protocol. A 101 answer then turns
   * the exchange into a tunnel.
   */
  upgrade: string | undefined;
  /** A tunnel is all that the request is for (CONNECT, also that of RFC 8441): an answer that is neither 101 nor an error makes no sense. */
  readonly tunnelOnly?: boolean;
  /** The client's address: who connected, or for whom a trusted hop says that it forwards. */
  source: string;
  /** Who connected, where the listener trusts hops; absent: `source`. */
  peer?: string;
  /** Whether `peer` is one of them. */
  believed?: boolean;
  /** Who the client is, by a certificate that was verified. */
  client?: ClientIdentity;
}

export interface ResponseHead {
  status: number;
  /** Phrase of the status line; empty: the usual one. */
  phrase: string;
  headers: HeaderBlock;
  /** As in a request. A HEAD, 204 or 304 has 0 here, whatever its content-length field says. */
  length: number;
}

/** Takes a body. */
export interface BodySink {
  /** Takes the bytes from `start` to `end`. False: wait for `drained` before the next. The chunk is the sink's from now on. */
  write(chunk: Buffer, start: number, end: number): boolean;
  end(trailers?: HeaderBlock): void;
}

/** A downstream codec's part of one exchange: takes the answer. */
export interface Downstream extends BodySink {
  readonly head: RequestHead;
  /** For logs: nothing that is decided may depend on it. */
  readonly protocol: "HTTP/1.0" | "HTTP/1.1" | "HTTP/2";
  /** An interim answer: 100, 103. */
  inform(head: ResponseHead): void;
  respond(head: ResponseHead): void;
  /** Of a tunnel: nothing more comes for the client, which may go on. `end` follows. */
  halfEnd(): void;
  /** The answer cannot be completed: the client must see that it is cut off. Only after `respond`. */
  abort(): void;
  /** Stop and go on handing over the request's body. */
  pauseBody(): void;
  resumeBody(): void;
  /** When the request's head was there, by `turn.now`. */
  readonly began: number;
  /** The client leaves so much lying that the backend's answer should rather wait where it is; `downstreamDrained` follows. */
  readonly crowded: boolean;
  /** What a connection keeps of its forwarding headers. */
  readonly forwardingLines: ForwardingLines;
}

/** What a downstream codec tells of the request. */
export interface DownstreamEvents {
  /** False: hold the body until `resumeBody`. */
  requestData(chunk: Buffer, start: number, end: number): boolean;
  requestEnd(trailers: HeaderBlock | undefined): void;
  /** The request's body is malformed, too slow, or its client is gone. */
  requestFailed(reason: Reason): void;
  /** What `write` had refused has been taken, or the client is not `crowded` any more. */
  downstreamDrained(): void;
  /** The client has become `crowded` by its other exchanges. */
  downstreamCrowded(): void;
}

/** An upstream codec's part of one exchange: takes the request. */
export interface Upstream extends BodySink {
  /** What carries it, and what lines of logs keep of that. */
  readonly wire: Wire;
  told: UpstreamValues | undefined;
  /** Begins an exchange; only once until it is over. */
  begin(events: UpstreamEvents): void;
  send(head: RequestHead): void;
  /** Gives the exchange up; the connection is closed, or the stream reset. No event follows. */
  cancel(): void;
  pauseBody(): void;
  resumeBody(): void;
  /** Leaves an answer that has not begun where it is until `resumeBody`; absent where other exchanges share the connection. */
  holdAnswer?(): void;
}

/**
 * Whether a failed request may be sent again. `idempotent`: the connection had served before and no byte of an answer came, so
 * that it may have been stale. `always`: the backend has said that it did nothing (RFC 9113 §8.7).
 */
export type Repeat = "never" | "idempotent" | "always";

/** What an upstream codec tells of the answer. */
export interface UpstreamEvents {
  informed(head: ResponseHead): void;
  responded(head: ResponseHead): void;
  /** False: hold the body until `resumeBody`. */
  responseData(chunk: Buffer, start: number, end: number): boolean;
  responseEnd(trailers: HeaderBlock | undefined): void;
  /** Of a tunnel: the backend sends no more, and takes what still comes. `responseEnd` follows. */
  responseHalfEnd?(): void;
  upstreamFailed(reason: Reason, repeat: Repeat): void;
  upstreamDrained(): void;
}
