// One connection to an endpoint speaking HTTP/2 (RFC 9113), with as many exchanges at once as the endpoint permits. It knows its
// pool only to say "ready", "free" and "gone"; a stream's own part is `upstream-stream.ts`.

import type { Http2Keepalive } from "../../model/upstream-policies.ts";
import type { Deadlines } from "../deadlines.ts";
import type { UpstreamTimeouts } from "../http1/upstream.ts";
import { turn, type Wire } from "../wire.ts";
import { giveBlock } from "./blocks.ts";
import { Http2Connection } from "./connection.ts";
import { ErrorCode, preface, Setting } from "./frame.ts";
import { maxListBytes } from "./hpack/section.ts";
import { firstWindow, type Http2Stream } from "./stream.ts";
import { Http2UpstreamStream } from "./upstream-stream.ts";

/** Streams that we open at once unless told otherwise, whatever the endpoint permits: then another connection shares the work. */
export const defaultStreams = 100;
/**
 * Exchanges that are given up on one connection before it is replaced: endpoints that guard against rapid resets (ours at 1,000 at
 * once, Envoy at 500) would else end it, for what many clients together had every right to do.
 */
const maxCancelled = 250;
/** The last stream numbers are left alone: a connection that came so far is replaced. */
const lastStream = 0x7fffff00;

/** What a backend says of its connections of HTTP/2. */
export interface Http2Way {
  /** That are open at once at most. */
  readonly streams: number | undefined;
  readonly keepalive: Http2Keepalive | undefined;
}

/** Where a connection reports to. */
export interface Http2UpstreamOwner {
  readonly timeouts: UpstreamTimeouts;
  /** Exchanges of one connection; infinity without a limit. */
  readonly requestsPerConnection: number;
  /** What the backend says of such connections, as it is now. */
  readonly http2?: Http2Way | undefined;
  /** The endpoint has sent its settings: streams may be opened. */
  ready(connection: Http2Upstream): void;
  /** A stream is over. */
  freed(connection: Http2Upstream): void;
  /** No stream may be opened any more; those that are open go on. Called once. */
  leaving(connection: Http2Upstream): void;
  /** The connection is closed. Called once, behind `leaving`. */
  gone(connection: Http2Upstream): void;
}

export class Http2Upstream extends Http2Connection {
  /** Of the pool: when it became idle. */
  idleSince = turn.now;
  readonly opened = turn.now;
  readonly owner: Http2UpstreamOwner;
  readonly scheme: "http" | "https";
  /** Exchanges that were begun. */
  served = 0;
  /** Streams that were given out and have sent nothing yet. */
  #reserved = 0;
  #cancelled = 0;
  #ready = false;
  #leaving = false;
  #gone = false;

  constructor(wire: Wire, owner: Http2UpstreamOwner, deadlines: Deadlines, scheme: "http" | "https") {
    super(wire, deadlines, true);
    this.owner = owner;
    this.scheme = scheme;
    this.output.raw(preface);
    this.greet([
      [Setting.enablePush, 0],
      [Setting.initialWindowSize, firstWindow],
      [Setting.maxHeaderListSize, maxListBytes],
    ]);
  }

  /** Exchanges under way. */
  get busy(): number {
    return this.streams.size + this.#reserved;
  }

  get hasRoom(): boolean {
    if (!this.#ready || this.#leaving || this.closed) return false;
    const left = this.owner.requestsPerConnection - this.served - this.#reserved;
    return left > 0 && this.busy < Math.min(this.peer.streams, this.owner.http2?.streams ?? defaultStreams);
  }

  protected override get keepalive(): Http2Keepalive | undefined {
    return this.owner.http2?.keepalive;
  }

  /** A stream for one exchange. Only while there is room. */
  open(): Http2UpstreamStream {
    this.#reserved++;
    return new Http2UpstreamStream(this);
  }

  /** Of a stream that sends its head: its number. */
  begun(stream: Http2UpstreamStream): void {
    this.#reserved--;
    this.served++;
    this.lastOwn = this.lastOwn === 0 ? 1 : this.lastOwn + 2;
    stream.id = this.lastOwn;
    stream.sendWindow = this.peer.window;
    this.streams.add(stream);
    if (this.lastOwn >= lastStream || this.served >= this.owner.requestsPerConnection) this.#leave();
  }

  /** Of a stream that was given up. */
  cancelled(): void {
    if (++this.#cancelled >= maxCancelled) this.#leave();
  }

  /** Of a stream that never sent anything. */
  unused(): void {
    this.#reserved--;
    this.#freed();
  }

  /** Of the pool: closes when nothing is under way any more, without new streams until then. */
  retire(): void {
    this.#leave();
    if (this.busy === 0 && !this.closed) {
      this.output.goaway(0, ErrorCode.noError);
      this.finish();
      this.over();
    }
  }

  #leave(): void {
    if (this.#leaving) return;
    this.#leaving = true;
    this.owner.leaving(this);
  }

  #freed(): void {
    this.idleSince = turn.now;
    this.owner.freed(this);
    if (this.#leaving) this.retire();
  }

  protected isPeers(id: number): boolean {
    return (id & 1) === 0;
  }

  protected fields(id: number, endStream: boolean): void {
    const stream = this.streams.get(id) as Http2UpstreamStream | undefined;
    if (stream !== undefined) {
      stream.head(this.section, endStream);
      return;
    }
    giveBlock(this.section.headers);
    if (this.isIdle(id)) this.connectionError(ErrorCode.protocolError, "HEADERS on an idle stream");
    else if (!this.wasReset(id)) this.connectionError(ErrorCode.streamClosed, "HEADERS on a closed stream");
  }

  protected greeted(): void {
    if (this.#ready) return;
    this.#ready = true;
    this.owner.ready(this);
  }

  /** The endpoint takes no more streams, and says which it will not serve. */
  protected wentAway(last: number): void {
    this.#leave();
    for (const stream of this.streams.all()) {
      if (stream.id > last) (stream as Http2UpstreamStream).unserved();
    }
    if (this.busy === 0) this.retire();
  }

  protected pingAnswered(): void {}

  protected streamOver(stream: Http2Stream): void {
    if (stream.id !== 0) this.#freed();
  }

  protected over(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#leave();
    this.owner.gone(this);
  }

  protected override finish(): void {
    this.#leave();
    super.finish();
    this.over();
  }

  protected sweep(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const stream of this.streams.all()) {
      next = Math.min(next, (stream as Http2UpstreamStream).sweep(this.owner.timeouts.idle));
    }
    return next;
  }
}
