// One client connection speaking HTTP/1 (RFC 9112): requests in, answers out, one exchange at a time. It frames and unframes
// bodies, keeps the connection or not, and enforces its timeouts; where a request goes is not its business.

import type { Deadlines } from "../deadlines.ts";
import type { Downstream, DownstreamEvents, ResponseHead } from "../exchange.ts";
import type { ForwardingLines } from "../filters/forwarded.ts";
import type { HeaderBlock } from "../headers.ts";
import type { ListenerWire } from "../listener/served.ts";
import type { Reason } from "../reason.ts";
import type { ClientConnection, ClientServer } from "../server.ts";
import { Outlet, turn, type Wire } from "../wire.ts";
import { Framing, writeChunk, writeHead, writeHeadEnd, writeInterim, writeLastChunk, writeRefusal } from "./answer.ts";
import { Body, BodyReader, type BodyTaker, Unread } from "./body.ts";
import { more } from "./fields.ts";
import { Http1RequestHead, parseRequestHead } from "./request.ts";

/** How long a client that closed its sending side may wait for its answer, and how long we read on after we refused a body. */
const lingerMilliseconds = 1_000;
/** Bytes that may wait behind the request that is served (pipelining) before reading stops. */
const maxPipelined = 64 * 1024;

const State = { head: 0, body: 1, waiting: 2, tunnel: 3, linger: 4 } as const;

export class Http1Downstream extends Outlet implements Downstream, ClientConnection, BodyTaker {
  readonly head = new Http1RequestHead();
  readonly forwardingLines: ForwardingLines = { source: "", scheme: "", authority: "", lines: "" };
  began = 0;
  readonly #server: ClientServer;
  readonly #deadlines: Deadlines;
  #state: number = State.head;
  readonly #unread = new Unread();
  readonly #body = new BodyReader();
  /** It has no other exchange meanwhile. */
  readonly crowded = false;
  #exchange: DownstreamEvents | undefined;
  /** The exchange holds the body; the socket is not read. */
  #held = false;
  #paused = false;
  #consuming = false;
  #answerChunked = false;
  #closeAfter = false;
  #halfClosed = false;
  /** Nothing more is sent, once all has left. */
  #halfEnded = false;
  #left = false;
  /** No request has come yet. */
  #fresh = true;
  /** When something last arrived or left; for a head, when it began. */
  #active: number;

  constructor(wire: Wire, server: ClientServer, deadlines: Deadlines, source: string, scheme: "http" | "https") {
    super(wire);
    this.#server = server;
    this.#deadlines = deadlines;
    this.head.source = source;
    this.head.scheme = scheme;
    this.#active = turn.now;
    deadlines.arm(this, Math.min(server.timeouts.head, server.timeouts.idle));
  }

  get protocol(): "HTTP/1.0" | "HTTP/1.1" {
    return this.head.minor === 0 ? "HTTP/1.0" : "HTTP/1.1";
  }

  // ------------------------------------------------------------------------------------------------ from the socket

  onData(bytes: Buffer): void {
    if (this.#state === State.linger) return;
    if (this.#unread.bytes === undefined) this.#active = turn.now;
    this.#unread.add(bytes);
    this.#consume();
    if (this.#state === State.waiting && this.#unread.length > maxPipelined) this.#pause();
  }

  /** The client sends no more. A complete request still gets its answer, if that comes soon. */
  onEnd(): void {
    this.#halfClosed = true;
    if (this.#state === State.tunnel) this.#exchange?.requestEnd(undefined);
    else if (this.#state === State.waiting) {
      this.#closeAfter = true;
      this.#active = turn.now;
      this.#deadlines.arm(this, lingerMilliseconds);
    } else if (this.queued > 0) this.endAfterFlush();
    else this.terminate();
  }

  /** The socket is gone, whoever closed it. */
  onClose(): void {
    this.discard();
    const exchange = this.#exchange;
    this.#exchange = undefined;
    // After our own end a socket's last event is this one.
    if (this.#halfEnded && !this.#halfClosed) exchange?.requestEnd(undefined);
    else exchange?.requestFailed("client_closed");
    if (this.#left) return;
    this.#left = true;
    this.#deadlines.disarm(this);
    this.#server.closed(this);
  }

  terminate(): void {
    if (!this.closed) this.wire.terminate();
    this.onClose();
  }

  protected drained(): void {
    this.#active = turn.now;
    if (this.#halfEnded) this.halfEnd();
    this.#exchange?.downstreamDrained();
  }

  /** The connection's one timer: what it means depends on what the connection does when it is due. */
  expired(): void {
    if (this.closed) return;
    const limit = this.#limit();
    const left = limit - (turn.now - this.#active);
    if (left > 0) {
      this.#deadlines.arm(this, Math.min(left, this.#server.timeouts.head));
      return;
    }
    if (this.#halfClosed || this.#state === State.linger || this.queued > 0) {
      this.terminate();
      return;
    }
    if (this.#state === State.body) {
      this.#fail("request_slow");
      return;
    }
    if (this.#unread.bytes !== undefined) {
      this.#refuse("request_slow");
      return;
    }
    this.#state = State.linger;
    this.endAfterFlush();
    this.#deadlines.arm(this, lingerMilliseconds);
  }

  #limit(): number {
    const timeouts = this.#server.timeouts;
    if (this.#state === State.linger || (this.#halfClosed && this.#state !== State.tunnel)) return lingerMilliseconds;
    if (this.queued > 0) return timeouts.write;
    if (this.#state === State.head) return this.#unread.bytes === undefined ? timeouts.idle : timeouts.head;
    if (this.#state === State.body && !this.#held) return timeouts.body;
    // While the answer is awaited, and in a tunnel, the exchange's own timeouts count.
    return Number.POSITIVE_INFINITY;
  }

  /** Drain: an idle connection closes now, another one after its answer. */
  closeWhenIdle(): void {
    this.#closeAfter = true;
    if (this.#state === State.head && this.#unread.bytes === undefined && !this.closed) {
      this.#state = State.linger;
      this.#active = turn.now;
      this.endAfterFlush();
      this.#deadlines.arm(this, lingerMilliseconds);
    }
  }

  // ------------------------------------------------------------------------------------------------------- the request

  #consume(): void {
    // Answers given at once come back in here through `end`; the loop below goes on with what follows.
    if (this.#consuming) return;
    this.#consuming = true;
    while (this.#unread.bytes !== undefined && !this.closed) {
      if (this.#state === State.head) {
        if (!this.#readHead(this.#unread.bytes)) break;
      } else if (this.#state === State.body && !this.#held) this.#readBody();
      else if (this.#state === State.tunnel && !this.#held) {
        const { bytes, at } = this.#unread;
        this.#unread.drop();
        if (!this.#exchange!.requestData(bytes!, at, bytes!.length)) this.pauseBody();
      } else break;
    }
    this.#consuming = false;
  }

  /** False when more bytes are needed, or no more are wanted. */
  #readHead(bytes: Buffer): boolean {
    const head = this.head;
    const after = parseRequestHead(bytes, this.#unread.at, head);
    if (after === more) {
      if (this.wheel === undefined || this.due > this.#active + this.#server.timeouts.head) {
        this.#deadlines.arm(this, this.#server.timeouts.head);
      }
      return false;
    }
    if (after < 0) {
      if (head.problem === "version_not_supported" && this.#becomesHttp2(bytes)) return false;
      // Another protocol, whose client would take an answer for anything but one (RFC 9113 §3.4).
      if (this.#fresh && head.foreign) this.#refuse(head.problem, false);
      else this.#refuse(head.problem);
      return false;
    }
    this.#fresh = false;
    this.#unread.use(after);
    this.began = turn.now;
    this.#answerChunked = false;
    // What follows a CONNECT is the tunnel's, or nobody's: never another request.
    this.#closeAfter = this.#closeAfter || !head.keepAlive || head.tunnelOnly;
    if (head.length === 0) this.#state = State.waiting;
    else {
      this.#state = State.body;
      this.#body.begin(head.length);
      this.#deadlines.arm(this, this.#server.timeouts.body);
    }
    const exchange = this.#server.request(this, head);
    // It may have been answered before `request` returned: then `end` has moved the state on.
    if (this.#state === State.waiting) {
      this.#exchange = exchange;
      exchange.requestEnd(undefined);
    } else if (this.#state === State.body) this.#exchange = exchange;
    return true;
  }

  /** The preface of HTTP/2 looks like a request of version 2.0, so that looking for it costs HTTP/1 nothing. */
  #becomesHttp2(bytes: Buffer): boolean {
    if (!this.#fresh || this.#unread.at !== 0 || bytes.latin1Slice(0, 16) !== "PRI * HTTP/2.0\r\n") return false;
    if (!this.#server.turnedOut(this, bytes)) return false;
    // The socket is another's now.
    this.#left = true;
    this.discard();
    this.#unread.drop();
    this.#deadlines.disarm(this);
    return true;
  }

  #readBody(): void {
    switch (this.#body.read(this.#unread, this)) {
      case Body.held:
        this.pauseBody();
        break;
      case Body.whole:
        this.#state = State.waiting;
        this.#exchange!.requestEnd(this.#body.trailers);
        break;
      case Body.malformed:
        this.#fail("bad_chunk");
    }
  }

  bodyPiece(bytes: Buffer, start: number, end: number): number {
    const exchange = this.#exchange!;
    const goOn = exchange.requestData(bytes, start, end);
    if (this.#exchange !== exchange) return Body.gone;
    return goOn ? Body.more : Body.held;
  }

  /** The body cannot be read to its end. */
  #fail(reason: Reason): void {
    this.#closeAfter = true;
    const exchange = this.#exchange;
    // The exchange answers with the reason's status, if no answer has begun.
    if (exchange) exchange.requestFailed(reason);
    else this.terminate();
  }

  pauseBody(): void {
    this.#held = true;
    this.#pause();
  }

  resumeBody(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#active = turn.now;
    this.#consume();
    if (!this.#held) this.#resume();
  }

  #pause(): void {
    if (this.#paused || this.closed) return;
    this.#paused = true;
    this.wire.pause();
  }

  #resume(): void {
    if (!this.#paused || this.closed) return;
    this.#paused = false;
    this.wire.resume();
  }

  // -------------------------------------------------------------------------------------------------------- the answer

  inform(head: ResponseHead): void {
    if (this.head.minor === 1) writeInterim(this, head);
  }

  respond(head: ResponseHead): void {
    const framing = writeHead(this, head, this.head);
    if (framing === Framing.tunnel) {
      this.#state = State.tunnel;
      this.#closeAfter = true;
      this.#consume();
      if (!this.#held) this.#resume();
      if (this.#halfClosed) this.#exchange?.requestEnd(undefined);
      return;
    }
    this.#answerChunked = framing === Framing.chunked;
    if (framing === Framing.close) this.#closeAfter = true;
    // A body that was read from the socket already need not cost the connection when nobody wants it.
    if (this.#state === State.body && this.#body.skip(this.#unread)) this.#state = State.waiting;
    // An answer before the end of the request's body: what else comes is read and thrown away for a moment, then we close.
    if (this.#state === State.body || this.#server.draining) this.#closeAfter = true;
    writeHeadEnd(this, this.#closeAfter, this.head.minor);
  }

  write(chunk: Buffer, start: number, end: number): boolean {
    if (this.#answerChunked) writeChunk(this, chunk, start, end);
    else this.bytes(chunk, start, end);
    if (this.queued === 0) return true;
    this.#active = turn.now;
    this.#deadlines.arm(this, this.#server.timeouts.write);
    return false;
  }

  halfEnd(): void {
    this.#halfEnded = true;
    this.flush();
    if (this.queued === 0 && !this.closed) (this.wire as ListenerWire).shutdown();
  }

  end(trailers?: HeaderBlock): void {
    if (this.#answerChunked) writeLastChunk(this, trailers);
    const tunnel = this.#state === State.tunnel;
    const unread = this.#state === State.body;
    this.#exchange = undefined;
    this.#held = false;
    if (this.#closeAfter || unread || tunnel) {
      this.#closeGently(tunnel);
      return;
    }
    this.#state = State.head;
    this.head.headers.release();
    if (this.#unread.bytes === undefined) {
      if (this.#paused) this.#resume();
      return;
    }
    this.#active = turn.now;
    this.#consume();
    if (this.#paused && this.#unread.length <= maxPipelined) this.#resume();
  }

  abort(): void {
    this.#exchange = undefined;
    // A reset, so that an answer that ends with the connection is not taken for complete.
    this.flush();
    this.terminate();
  }

  /** Closes so that the client can still read the answer: a reset for unread input would take it away (RFC 9112 §9.6). */
  #closeGently(tunnel: boolean): void {
    this.#state = State.linger;
    this.#unread.drop();
    this.#resume();
    this.#active = turn.now;
    this.#deadlines.arm(this, tunnel ? this.#server.timeouts.write : lingerMilliseconds);
    this.endAfterFlush();
  }

  /** Answers a request that could not be read, and closes. */
  #refuse(reason: Reason, answers = true): void {
    if (answers) writeRefusal(this, reason);
    this.began = this.#active;
    this.#server.refused(reason, this, answers);
    this.#closeGently(false);
  }
}
