// One client connection speaking HTTP/2 (RFC 9113): it takes the client's streams, within limits, and hands their requests to
// the listener. Where a request goes is not its business; a stream's own part is `downstream-stream.ts`.

import type { Deadlines } from "../deadlines.ts";
import type { ForwardingLines } from "../filters/forwarded.ts";
import type { Reason } from "../reason.ts";
import type { ClientConnection, ClientServer, Unread } from "../server.ts";
import { beginTurn, endTurn, turn, type Wire } from "../wire.ts";
import { giveBlock } from "./blocks.ts";
import { Http2Connection, lingerMilliseconds } from "./connection.ts";
import { Http2DownstreamStream } from "./downstream-stream.ts";
import { ErrorCode, maxWindow, Setting } from "./frame.ts";
import { Http2RequestHead, readRequest, readTrailers } from "./head.ts";
import { maxListBytes } from "./hpack/section.ts";
import { streamWindow } from "./stream.ts";

/** Streams that a client may have open at once. */
export const maxStreams = 128;

/**
 * Answers' content that may wait for a client before the backends of its other requests are not listened to either. A stream
 * holds at most one read of a socket (512 KiB).
 */
const maxHeld = 8 * 1024 * 1024;

export class Http2Downstream extends Http2Connection implements ClientConnection {
  readonly server: ClientServer;
  readonly forwardingLines: ForwardingLines = { source: "", scheme: "", authority: "", lines: "" };
  readonly #source: string;
  readonly #scheme: "http" | "https";
  #idleSince = turn.now;
  /** A drain's first GOAWAY was sent, at this time; 0: not. Its second one was sent: later streams are not ours any more. */
  #drainingSince = 0;
  #lastServed = maxWindow;
  /** More than `maxHeld` waits, and has since not become less than half of it. */
  crowded = false;

  constructor(wire: Wire, server: ClientServer, deadlines: Deadlines, source: string, scheme: "http" | "https") {
    super(wire, deadlines, false);
    this.server = server;
    this.#source = source;
    this.#scheme = scheme;
    this.greet([
      [Setting.maxConcurrentStreams, maxStreams],
      [Setting.initialWindowSize, streamWindow],
      [Setting.maxHeaderListSize, maxListBytes],
      [Setting.enableConnectProtocol, 1],
    ]);
  }

  protected isPeers(id: number): boolean {
    return (id & 1) === 1;
  }

  protected fields(id: number, endStream: boolean): void {
    const { section } = this;
    const stream = this.streams.get(id);
    if (stream !== undefined) {
      this.#trailers(stream as Http2DownstreamStream, endStream);
      return;
    }
    if (this.isPeers(id) && this.isIdle(id)) {
      this.#begin(id, endStream);
      return;
    }
    giveBlock(section.headers);
    if (!this.isPeers(id))
      this.connectionError(ErrorCode.protocolError, "HEADERS on a stream that is not the client's");
    else if (!this.wasReset(id)) this.connectionError(ErrorCode.streamClosed, "HEADERS on a closed stream");
  }

  #trailers(stream: Http2DownstreamStream, endStream: boolean): void {
    if (stream.remoteDone) {
      giveBlock(this.section.headers);
      this.streamError(stream.id, ErrorCode.streamClosed);
      return;
    }
    const trailers = readTrailers(this.section);
    if (trailers === undefined || !endStream || stream.expected > 0) {
      giveBlock(this.section.headers);
      this.streamError(stream.id, ErrorCode.protocolError);
    } else stream.receiveEnd(trailers.count > 0 ? trailers : undefined);
  }

  #begin(id: number, endStream: boolean): void {
    const { headers } = this.section;
    this.lastPeer = id;
    if (this.server.draining) this.closeWhenIdle();
    if (id > this.#lastServed || this.closed) {
      giveBlock(headers);
      return;
    }
    if (this.streams.size >= maxStreams) {
      giveBlock(headers);
      // Not the client's fault while it cannot know the limit, but not for ever.
      this.streamError(id, ErrorCode.refusedStream);
      return;
    }
    const head = new Http2RequestHead(headers, this.#scheme, this.#source);
    const problem = readRequest(this.section, endStream, head);
    if (problem === "malformed") {
      giveBlock(headers);
      this.server.refused("bad_request", this.#unread(turn.now), false);
      this.streamError(id, ErrorCode.protocolError);
      return;
    }
    const stream = new Http2DownstreamStream(this, id, head);
    this.streams.add(stream);
    if (problem === undefined) stream.begin(endStream);
    else this.#refuse(stream, endStream, problem);
  }

  #refuse(stream: Http2DownstreamStream, endStream: boolean, reason: Reason): void {
    this.server.refused(reason, stream, true);
    stream.refuse(endStream, reason);
  }

  #unread(began: number): Unread {
    return { protocol: "HTTP/2", began, forwardingLines: this.forwardingLines };
  }

  protected streamOver(): void {
    if (this.streams.size > 0) return;
    this.#idleSince = turn.now;
    if (this.#lastServed !== maxWindow) this.finish();
  }

  override holds(bytes: number): void {
    super.holds(bytes);
    if (!this.crowded && this.held > maxHeld) {
      this.crowded = true;
      for (const stream of this.streams.all()) (stream as Http2DownstreamStream).crowds();
    } else if (this.crowded && this.held < maxHeld / 2) {
      this.crowded = false;
      // Not from within a stream's write.
      setImmediate(() => this.#disperse());
    }
  }

  #disperse(): void {
    beginTurn();
    for (const stream of this.streams.all()) {
      if (this.crowded || this.closed) break;
      (stream as Http2DownstreamStream).disperses();
    }
    endTurn();
  }

  protected greeted(): void {}

  protected wentAway(): void {
    // The client begins no more streams; it closes the connection itself.
  }

  protected over(): void {
    this.server.closed(this);
  }

  // ------------------------------------------------------------------------------------------------------------- drain

  /**
   * A client may have begun streams that we do not know of: it is told to begin no more, and only what comes a round trip later
   * is not served any more (RFC 9113 §6.8).
   */
  closeWhenIdle(): void {
    if (this.#drainingSince !== 0 || this.closed) return;
    this.#drainingSince = turn.now;
    this.output.goaway(maxWindow, ErrorCode.noError);
    this.sendPing();
    this.deadlines.arm(this, lingerMilliseconds);
  }

  protected pingAnswered(): void {
    if (this.#drainingSince !== 0) this.#leave();
  }

  #leave(): void {
    if (this.#lastServed !== maxWindow || this.closed) return;
    this.#lastServed = this.lastPeer;
    this.output.goaway(this.lastPeer, ErrorCode.noError);
    if (this.streams.size === 0) this.finish();
  }

  protected sweep(): number {
    const { timeouts } = this.server;
    if (this.insideFor >= timeouts.head) {
      this.server.refused("request_slow", this.#unread(turn.now - this.insideFor), false);
      this.connectionError(ErrorCode.enhanceYourCalm, "a frame does not arrive in time");
      return 0;
    }
    if (this.#drainingSince !== 0 && turn.now - this.#drainingSince >= lingerMilliseconds) this.#leave();
    let next = Number.POSITIVE_INFINITY;
    if (this.insideFor > 0) next = timeouts.head - this.insideFor;
    if (this.streams.size === 0) {
      const left = timeouts.idle - (turn.now - this.#idleSince);
      if (left <= 0) this.#leave();
      return Math.min(next, left);
    }
    for (const stream of this.streams.all()) {
      next = Math.min(next, (stream as Http2DownstreamStream).sweep(timeouts));
    }
    return next;
  }
}
