// One request to an endpoint and its answer on a stream of HTTP/2: what `exchange.ts` wants of an upstream codec.

import type { Repeat, RequestHead, Upstream, UpstreamEvents } from "../exchange.ts";
import { type HeaderBlock, Kind, kindSet } from "../headers.ts";
import { listOf } from "../http1/fields.ts";
import { acceptOf } from "../http1/websocket.ts";
import type { Reason } from "../reason.ts";
import type { UpstreamValues } from "../telemetry/kept-values.ts";
import { turn, type Wire } from "../wire.ts";
import { giveBlock } from "./blocks.ts";
import { ErrorCode } from "./frame.ts";
import { readResponse, readTrailers, responseHead } from "./head.ts";
import { connectionKinds } from "./hpack/encoder.ts";
import type { FieldSection } from "./hpack/section.ts";
import { firstWindow, Http2Stream } from "./stream.ts";
import type { Http2Upstream } from "./upstream.ts";

const dropped = kindSet(Kind.host, ...connectionKinds);

/** Places in HPACK's static table. */
const Static = { get: 2, post: 3, slash: 4, http: 6, https: 7 } as const;

/** 1xx answers that are passed on before one exchange is given up. */
const maxInformational = 8;

export class Http2UpstreamStream extends Http2Stream implements Upstream {
  readonly #connection: Http2Upstream;
  #events: UpstreamEvents | undefined = undefined;
  #toHead = false;
  #responded = false;
  #received = false;
  #informed = 0;
  #unserved = false;
  /** The protocol that was asked for, and whether the endpoint has agreed. */
  #upgrade = false;
  #tunnel = false;
  /** The endpoint says no more in the tunnel, and the client may. */
  #halfEnded = false;
  #webSocketKey: string | undefined = undefined;
  #block: HeaderBlock | undefined = undefined;

  constructor(connection: Http2Upstream) {
    super(connection, 0, firstWindow);
    this.#connection = connection;
  }

  // ------------------------------------------------------------------------------------------------------- the request

  begin(events: UpstreamEvents): void {
    this.#events = events;
  }

  send(head: RequestHead): void {
    const connection = this.#connection;
    connection.begun(this);
    this.active = turn.now;
    this.#toHead = head.method === "HEAD";
    // Any other protocol is an offer that may be passed over (RFC 9110 §7.8), but for that of a CONNECT.
    const connect = head.method === "CONNECT";
    const webSocket = head.upgrade?.toLowerCase() === "websocket";
    const plain = connect && head.upgrade === "";
    this.#upgrade = webSocket || connect;
    if (this.#upgrade && !plain && !connection.peer.connects) {
      // Not at once: whoever sends does not expect to be called back before it is done.
      queueMicrotask(() => this.#fail("upgrade_refused"));
      return;
    }
    const { encoder } = connection;
    const { headers } = head;
    encoder.begin();
    if (this.#upgrade) encoder.text(":method", "CONNECT");
    else if (head.method === "GET") encoder.index(Static.get);
    else if (head.method === "POST") encoder.index(Static.post);
    else encoder.text(":method", head.method);
    if (!plain) {
      encoder.index(connection.scheme === "https" ? Static.https : Static.http);
      if (head.path === "/" && head.query === undefined) encoder.index(Static.slash);
      else encoder.text(":path", head.query === undefined ? head.path : `${head.path}?${head.query}`);
    }
    if (head.authority !== "") encoder.text(":authority", head.authority);
    if (this.#upgrade && !plain) {
      encoder.text(":protocol", webSocket ? "websocket" : head.upgrade!);
      this.#webSocketKey = headers.get("sec-websocket-key");
    }
    const te = headers.valueOf(Kind.te);
    if (te !== undefined && listOf(te).includes("trailers")) encoder.text("te", "trailers");
    encoder.fields(headers, dropped);
    this.sendBlock(false);
  }

  write(chunk: Buffer, start: number, end: number): boolean {
    this.active = turn.now;
    return this.sendContent(chunk, start, end);
  }

  end(trailers?: HeaderBlock): void {
    // The request that asks for a tunnel has no end of its own; the tunnel's first half has.
    if (this.#upgrade && !this.#tunnel) return;
    this.sendEnd(trailers);
  }

  protected writeTrailers(trailers: HeaderBlock): void {
    const { encoder } = this.connection;
    encoder.begin();
    encoder.fields(trailers, dropped);
    this.sendBlock(true);
  }

  get wire(): Wire {
    return this.#connection.output.wire;
  }

  get told(): UpstreamValues | undefined {
    return this.#connection.output.told;
  }

  set told(values: UpstreamValues | undefined) {
    this.#connection.output.told = values;
  }

  cancel(): void {
    this.#events = undefined;
    if (this.gone) return;
    if (this.id === 0) {
      this.gone = true;
      this.#connection.unused();
      return;
    }
    this.connection.sendReset(this.id, this.completed ? ErrorCode.noError : ErrorCode.cancel);
    this.#connection.cancelled();
    this.leave();
    this.#release();
  }

  // -------------------------------------------------------------------------------------------------------- the answer

  /** Of the connection: a field section of this stream has come. */
  head(section: FieldSection, endStream: boolean): void {
    this.active = turn.now;
    this.#received = true;
    if (this.remoteDone) {
      giveBlock(section.headers);
      this.connection.streamError(this.id, ErrorCode.streamClosed);
      return;
    }
    if (this.#responded) {
      const trailers = readTrailers(section);
      if (trailers === undefined || !endStream || this.expected > 0) this.#malformed(section);
      else this.receiveEnd(trailers.count > 0 ? trailers : undefined);
      return;
    }
    const head = responseHead(section.headers);
    if (!readResponse(section, endStream, this.#toHead, head)) {
      this.#malformed(section);
      return;
    }
    const events = this.#events;
    if (head.status < 200) {
      if (++this.#informed > maxInformational) this.#malformed(section);
      else {
        events?.informed(head);
        giveBlock(section.headers);
      }
      return;
    }
    this.#responded = true;
    this.#block = section.headers;
    if (this.#upgrade && head.status < 300) {
      this.#tunnel = true;
      head.status = 101;
      head.length = 0;
      if (this.#webSocketKey !== undefined) head.headers.set("sec-websocket-accept", acceptOf(this.#webSocketKey));
    } else if (!endStream) this.expected = head.length;
    events?.responded(head);
    if (endStream && !this.gone) this.receiveEnd(undefined);
  }

  #malformed(section: FieldSection): void {
    giveBlock(section.headers);
    this.connection.sendReset(this.id, ErrorCode.protocolError);
    this.#fail("upstream_malformed");
  }

  protected content(bytes: Buffer, start: number, end: number): boolean {
    if (!this.#responded) {
      // DATA before a head (RFC 9113 §8.1).
      this.connection.sendReset(this.id, ErrorCode.protocolError);
      this.#fail("upstream_malformed");
      return true;
    }
    return this.#events?.responseData(bytes, start, end) ?? true;
  }

  protected complete(trailers: HeaderBlock | undefined): void {
    const events = this.#events;
    if (!this.#responded) {
      this.connection.sendReset(this.id, ErrorCode.protocolError);
      this.#fail("upstream_malformed");
      return;
    }
    if (this.#tunnel && !this.localDone && events?.responseHalfEnd) {
      this.#halfEnded = true;
      events.responseHalfEnd();
      return;
    }
    this.#events = undefined;
    events?.responseEnd(trailers);
    this.#release();
  }

  /** A complete answer is all we want: what is left of the request is not sent. But a tunnel has two halves. */
  protected closeIfDone(): void {
    if (!this.completed || this.gone || (this.#halfEnded && !this.localDone)) return;
    if (!this.localDone) this.connection.sendReset(this.id, ErrorCode.noError);
    this.leave();
    if (this.#halfEnded) this.#endTunnel();
  }

  #endTunnel(): void {
    const events = this.#events;
    this.#events = undefined;
    events?.responseEnd(undefined);
    this.#release();
  }

  protected drained(): void {
    this.#events?.upstreamDrained();
  }

  /** The endpoint wants no more of the request, and has answered (RFC 9113 §8.1). */
  override resetByPeer(code: number): void {
    if (this.remoteDone && !this.completed && code === ErrorCode.noError) this.stopSending();
    else super.resetByPeer(code);
  }

  broken(code: number, byPeer: boolean): void {
    if (this.#halfEnded && byPeer && code === ErrorCode.noError && !this.connection.closed) {
      this.#endTunnel();
      return;
    }
    const events = this.#events;
    this.#events = undefined;
    if (!byPeer) events?.upstreamFailed("upstream_malformed", "never");
    else if (code === ErrorCode.noError && this.connection.closed) {
      const idle = !this.#received && this.#connection.served > 1;
      events?.upstreamFailed("upstream_closed", this.#repeat(idle ? "idempotent" : "never"));
    } else {
      const refused = code === ErrorCode.refusedStream && !this.#received;
      events?.upstreamFailed("upstream_reset", this.#repeat(refused ? "always" : "never"));
    }
    this.#release();
  }

  #repeat(otherwise: Repeat): Repeat {
    return this.#unserved ? "always" : otherwise;
  }

  /** The endpoint has said that it will not look at this stream. */
  unserved(): void {
    this.#unserved = true;
    this.leave();
    this.broken(ErrorCode.refusedStream, true);
  }

  #fail(reason: Reason): void {
    const events = this.#events;
    this.#events = undefined;
    this.leave();
    events?.upstreamFailed(reason, "never");
    this.#release();
  }

  /** Gives up on an endpoint that is silent for longer than `idle` milliseconds; returns when to look again. */
  sweep(idle: number): number {
    if (this.held) return idle;
    const left = idle - (turn.now - this.active);
    if (left > 0) return left;
    this.connection.sendReset(this.id, ErrorCode.cancel);
    this.#fail("upstream_idle");
    return Number.POSITIVE_INFINITY;
  }

  #release(): void {
    const block = this.#block;
    this.#block = undefined;
    if (block !== undefined) giveBlock(block);
  }
}
