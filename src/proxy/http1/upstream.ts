// One connection to an endpoint speaking HTTP/1 (RFC 9112): requests out, answers in, one exchange at a time, kept for the
// next one when both sides allow. It knows its pool only to say "free" and "gone".

import type { Deadlines } from "../deadlines.ts";
import type { RequestHead, Upstream, UpstreamEvents } from "../exchange.ts";
import type { HeaderBlock } from "../headers.ts";
import type { Reason } from "../reason.ts";
import { Outlet, turn, type Wire } from "../wire.ts";
import { Body, BodyReader, type BodyTaker, Unread } from "./body.ts";
import { more } from "./fields.ts";
import { hopByHop, keyFor, writeRequest } from "./request-out.ts";
import { Http1ResponseHead, parseResponseHead } from "./response.ts";
import { acceptOf } from "./websocket.ts";

export interface UpstreamTimeouts {
  /** Milliseconds without a byte from the backend while an answer is under way, or awaited. */
  readonly idle: number;
}

/** Where a connection reports to. */
export interface UpstreamOwner {
  readonly timeouts: UpstreamTimeouts;
  /** The exchange is over and the connection can take another. */
  free(connection: Http1Upstream): void;
  /** The connection is closed or will be. Called once. */
  gone(connection: Http1Upstream): void;
}

const State = { idle: 0, head: 1, body: 2, untilClose: 3, tunnel: 4, over: 5 } as const;

/** 1xx answers that are passed on before one exchange is given up. */
const maxInformational = 8;

export class Http1Upstream extends Outlet implements Upstream, BodyTaker {
  /** Exchanges that it has served to their end. */
  served = 0;
  /** Of the pool: when it became idle. */
  idleSince = 0;
  readonly opened = turn.now;
  readonly #owner: UpstreamOwner;
  readonly #deadlines: Deadlines;
  readonly #head = new Http1ResponseHead();
  #events: UpstreamEvents | undefined;
  #state: number = State.idle;
  readonly #unread = new Unread();
  readonly #body = new BodyReader();
  #requestChunked = false;
  #requestDone = true;
  #toHead = false;
  #upgrade = false;
  /** A CONNECT to a place, which a success answers. */
  #connect = false;
  #tunnelOnly = false;
  /** Of a handshake whose key is ours, because the client's version of HTTP has none. */
  #webSocketKey: string | undefined = undefined;
  #informed = 0;
  #received = false;
  #held = false;
  /** The backend sends no more; of a tunnel, the client does not either. */
  #backendEnded = false;
  #clientEnded = false;
  #active = 0;
  #left = false;

  constructor(wire: Wire, owner: UpstreamOwner, deadlines: Deadlines) {
    super(wire);
    this.#owner = owner;
    this.#deadlines = deadlines;
  }

  // ------------------------------------------------------------------------------------------------------- the request

  /** Of the pool: it serves one exchange at a time, so that itself is what serves it. */
  open(): Upstream {
    return this;
  }

  get hasRoom(): boolean {
    return this.#state === State.idle && !this.closed;
  }

  /** Begins an exchange. Only when idle. */
  begin(events: UpstreamEvents): void {
    this.#events = events;
    this.#received = false;
    this.#informed = 0;
  }

  send(head: RequestHead): void {
    this.#state = State.head;
    this.#requestDone = false;
    this.#toHead = head.method === "HEAD";
    this.#upgrade = head.upgrade !== undefined;
    this.#requestChunked = head.length < 0;
    this.#connect = head.upgrade === "";
    this.#tunnelOnly = head.tunnelOnly === true;
    this.#webSocketKey = keyFor(head);
    writeRequest(this, head, this.#webSocketKey);
    this.#active = turn.now;
    if (this.wheel === undefined) this.#deadlines.arm(this, this.#owner.timeouts.idle);
  }

  write(chunk: Buffer, start: number, end: number): boolean {
    this.#active = turn.now;
    if (this.#requestChunked) {
      this.text(`${(end - start).toString(16)}\r\n`);
      this.bytes(chunk, start, end);
      this.text("\r\n");
    } else this.bytes(chunk, start, end);
    return this.queued === 0;
  }

  end(trailers?: HeaderBlock): void {
    if (this.#state === State.tunnel) this.#endHalf();
    if (this.#requestDone) return;
    this.#requestDone = true;
    if (this.#requestChunked) {
      this.text("0\r\n");
      trailers?.write(this, hopByHop);
      this.text("\r\n");
    }
    if (this.#state === State.over) this.#finish();
  }

  /** The client says no more in the tunnel: what it said still goes out, and what the backend has to say comes back. */
  #endHalf(): void {
    if (this.#clientEnded) return;
    this.#clientEnded = true;
    // With both halves ended the socket closes, once all has left.
    this.endAfterFlush(true);
    if (this.#backendEnded) this.#endTunnel();
  }

  cancel(): void {
    this.#events = undefined;
    this.#close(true);
  }

  pauseBody(): void {
    if (this.#held || this.closed) return;
    this.#held = true;
    this.wire.pause();
  }

  holdAnswer(): void {
    if (this.#state === State.head) this.pauseBody();
  }

  resumeBody(): void {
    if (!this.#held || this.closed) return;
    this.#held = false;
    this.#active = turn.now;
    const waited = this.#unread.bytes !== undefined;
    this.#consume();
    if (this.#held || this.closed) return;
    if (waited && this.#backendEnded) this.#afterLast();
    else this.wire.resume();
  }

  protected drained(): void {
    this.#active = turn.now;
    this.#events?.upstreamDrained();
  }

  // ------------------------------------------------------------------------------------------------- from the socket

  onData(bytes: Buffer): void {
    this.#active = turn.now;
    if (this.#state === State.idle) {
      // Nothing was asked: the backend is out of step, or says goodbye (408). Either way it is not used again.
      this.#close(true);
      return;
    }
    this.#received = true;
    this.#unread.add(bytes);
    this.#consume();
  }

  /** The backend sends no more. What came and is held back is passed on first. */
  onEnd(): void {
    this.#backendEnded = true;
    if (this.#unread.bytes === undefined || !this.#held) this.#afterLast();
  }

  /** In a tunnel the backend is told what the client still says, until that ends, too; else there is nothing more for it. */
  #afterLast(): void {
    if (this.#state !== State.tunnel) {
      this.onClose();
      this.wire.end();
    } else if (this.#clientEnded || !this.#events?.responseHalfEnd) this.#endTunnel();
    else this.#events.responseHalfEnd();
  }

  #endTunnel(): void {
    const events = this.#events;
    this.#events = undefined;
    events?.responseEnd(undefined);
    if (!this.#clientEnded) this.endAfterFlush(true);
  }

  /** The connection is gone. */
  onClose(): void {
    if (this.#left) return;
    const state = this.#state;
    this.#close(false);
    const events = this.#events;
    this.#events = undefined;
    if (!events) return;
    if (state === State.untilClose || state === State.tunnel) events.responseEnd(undefined);
    else if (state === State.body || state === State.over) events.upstreamFailed("upstream_closed", "never");
    else events.upstreamFailed("upstream_closed", !this.#received && this.served > 0 ? "idempotent" : "never");
  }

  expired(): void {
    if (this.closed || this.#state === State.idle) return;
    const limit = this.#owner.timeouts.idle;
    const left = this.#held ? limit : limit - (turn.now - this.#active);
    if (left > 0) {
      this.#deadlines.arm(this, left);
      return;
    }
    this.#fail("upstream_idle");
  }

  #consume(): void {
    while (this.#unread.bytes !== undefined && !this.#held && !this.closed) {
      const { bytes, at } = this.#unread;
      switch (this.#state) {
        case State.head:
          if (!this.#readHead(bytes)) return;
          break;
        case State.body:
          this.#readBody();
          break;
        case State.untilClose:
        case State.tunnel:
          this.#unread.drop();
          if (!this.#events!.responseData(bytes, at, bytes.length)) this.pauseBody();
          break;
        default:
          // Bytes behind the end of the answer: the next one was not asked for (response splitting).
          this.#unread.drop();
          this.#close(true);
          return;
      }
    }
  }

  #readHead(bytes: Buffer): boolean {
    const head = this.#head;
    const after = parseResponseHead(bytes, this.#unread.at, this.#toHead, head);
    if (after === more) return false;
    if (after < 0) {
      this.#fail("upstream_malformed");
      return false;
    }
    this.#unread.use(after);
    const events = this.#events!;
    if (head.status < 200) {
      if (head.status === 101) {
        if (!this.#upgrade || this.#connect || !this.#isAccepted(head)) {
          this.#fail("upstream_malformed");
          return false;
        }
        this.#state = State.tunnel;
        events.responded(head);
        return true;
      }
      if (++this.#informed > maxInformational) {
        this.#fail("upstream_malformed");
        return false;
      }
      events.informed(head);
      return true;
    }
    if (this.#connect && head.status < 300) {
      head.status = 101;
      head.length = 0;
      this.#state = State.tunnel;
      events.responded(head);
      return true;
    }
    if (this.#upgrade && this.#tunnelOnly && head.status < 300) {
      this.#fail("upgrade_refused");
      return false;
    }
    if (head.untilClose) this.#state = State.untilClose;
    else if (head.chunked || head.length > 0) {
      this.#state = State.body;
      this.#body.begin(head.chunked ? -1 : head.length);
    } else this.#state = State.over;
    events.responded(head);
    // The exchange may have been given up meanwhile.
    if (this.#events !== events) return false;
    if (this.#state === State.over) this.#answered(undefined);
    return true;
  }

  /** Whether the endpoint has understood the handshake that we began for a client. */
  #isAccepted({ headers }: Http1ResponseHead): boolean {
    const key = this.#webSocketKey;
    return key === undefined || headers.get("sec-websocket-accept") === acceptOf(key);
  }

  #readBody(): void {
    switch (this.#body.read(this.#unread, this)) {
      case Body.held:
        this.pauseBody();
        break;
      case Body.whole:
        this.#answered(this.#body.trailers);
        break;
      case Body.malformed:
        this.#fail("upstream_malformed");
    }
  }

  bodyPiece(bytes: Buffer, start: number, end: number): number {
    const events = this.#events!;
    const goOn = events.responseData(bytes, start, end);
    if (this.#events !== events) return Body.gone;
    return goOn ? Body.more : Body.held;
  }

  /** The whole answer has come. The connection is free when the whole request has gone, too. */
  #answered(trailers: HeaderBlock | undefined): void {
    const events = this.#events!;
    this.#state = State.over;
    // First free, then told: the end of an exchange may begin the next one, which then finds this connection.
    if (this.#requestDone) this.#finish();
    events.responseEnd(trailers);
  }

  #finish(): void {
    this.#events = undefined;
    if (!this.#head.keepAlive || this.#unread.bytes !== undefined || this.#backendEnded || this.closed) {
      this.#close(true);
      return;
    }
    this.served++;
    this.#head.headers.release();
    this.#state = State.idle;
    this.#owner.free(this);
  }

  #fail(reason: Reason): void {
    const events = this.#events;
    this.#events = undefined;
    this.#close(true);
    events?.upstreamFailed(reason, "never");
  }

  /** Closes and tells the pool. Events, if any are owed, are the caller's. */
  #close(terminate: boolean): void {
    if (this.#left) return;
    this.#left = true;
    const wasOpen = !this.closed;
    this.discard();
    this.#deadlines.disarm(this);
    if (terminate && wasOpen) this.wire.terminate();
    this.#owner.gone(this);
  }

  /** Of the pool: closes an idle connection. */
  retire(): void {
    this.#close(true);
  }
}
