// One request of a client and its answer on a stream of HTTP/2: what `exchange.ts` wants of a downstream codec.

import type { Downstream, DownstreamEvents, ResponseHead } from "../exchange.ts";
import type { ForwardingLines } from "../filters/forwarded.ts";
import { HeaderBlock, Kind, kindSet } from "../headers.ts";
import { dateField } from "../http1/status.ts";
import { localAnswer } from "../local-answer.ts";
import { type Reason, reasons } from "../reason.ts";
import type { ClientTimeouts } from "../server.ts";
import { turn } from "../wire.ts";
import { giveBlock } from "./blocks.ts";
import type { Http2Downstream } from "./downstream.ts";
import { ErrorCode } from "./frame.ts";
import type { Http2RequestHead } from "./head.ts";
import { connectionKinds } from "./hpack/encoder.ts";
import { Http2Stream } from "./stream.ts";

const dropped = kindSet(...connectionKinds);
/** The block of heads that are over. */
const released = new HeaderBlock();

export class Http2DownstreamStream extends Http2Stream implements Downstream {
  readonly head: Http2RequestHead;
  readonly protocol = "HTTP/2";
  readonly began = turn.now;
  readonly #client: Http2Downstream;
  #exchange: DownstreamEvents | undefined = undefined;
  #answered = false;
  #over = false;

  constructor(client: Http2Downstream, id: number, head: Http2RequestHead) {
    super(client, id);
    this.#client = client;
    this.head = head;
    this.expected = head.upgrade === undefined ? head.length : -1;
  }

  get forwardingLines(): ForwardingLines {
    return this.#client.forwardingLines;
  }

  get crowded(): boolean {
    return this.#client.crowded;
  }

  /** Of the connection: it has become crowded. */
  crowds(): void {
    if (!this.#answered) this.#exchange?.downstreamCrowded();
  }

  /** Of the connection: it is not crowded any more. */
  disperses(): void {
    if (!this.#answered) this.#exchange?.downstreamDrained();
  }

  begin(endStream: boolean): void {
    const tunnel = this.head.upgrade !== undefined;
    if (endStream) this.remoteDone = true;
    if (tunnel) {
      // What comes before the backend has agreed to the tunnel waits, its end, too.
      this.pauseBody();
      if (endStream) this.receiveEnd(undefined);
    }
    const exchange = this.#client.server.request(this, this.head);
    // It may have been answered before `request` returned.
    if (this.#over || this.gone) return;
    this.#exchange = exchange;
    if (tunnel) exchange.requestEnd(undefined);
    else if (endStream) {
      this.completed = true;
      exchange.requestEnd(undefined);
    }
  }

  /** Answers for the codec itself. */
  refuse(endStream: boolean, reason: Reason): void {
    if (endStream) this.remoteDone = true;
    const row = reasons[reason];
    const answer = localAnswer(row.status, `${row.text}\n`, [{ name: "x-fairlead-reason", value: reason }]);
    this.respond(answer.head);
    this.write(answer.body, 0, answer.body.length);
    this.end();
  }

  // ------------------------------------------------------------------------------------------------- from the connection

  protected content(bytes: Buffer, start: number, end: number): boolean {
    return this.#exchange?.requestData(bytes, start, end) ?? true;
  }

  protected complete(trailers: HeaderBlock | undefined): void {
    this.#exchange?.requestEnd(trailers);
  }

  broken(_code: number, byPeer: boolean): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.#over = true;
    exchange?.requestFailed(byPeer ? "client_closed" : "bad_stream");
    this.#release();
  }

  protected drained(): void {
    this.#exchange?.downstreamDrained();
  }

  /** An answer that is complete is all there is to say, whether the request is or not. */
  protected closeIfDone(): void {
    if (!this.localDone || !this.#over || this.gone) return;
    if (!this.remoteDone) this.connection.sendReset(this.id, ErrorCode.noError);
    this.leave();
  }

  /** Ends what takes too long; returns the milliseconds until the next look. */
  sweep(timeouts: ClientTimeouts): number {
    const elapsed = turn.now - this.active;
    if (this.stalled) {
      if (elapsed < timeouts.write) return timeouts.write - elapsed;
      this.connection.sendReset(this.id, ErrorCode.cancel);
      this.leave();
      this.broken(ErrorCode.cancel, true);
      return Number.POSITIVE_INFINITY;
    }
    // Once an answer is under way, the request's side may be silent (streams of gRPC): the backend's timeout counts.
    if (
      this.remoteDone ||
      this.held ||
      this.#answered ||
      this.head.headers.get("content-type")?.startsWith("application/grpc")
    )
      return Number.POSITIVE_INFINITY;
    if (elapsed < timeouts.body) return timeouts.body - elapsed;
    this.#exchange?.requestFailed("request_slow");
    return Number.POSITIVE_INFINITY;
  }

  // --------------------------------------------------------------------------------------------------------- the answer

  inform(head: ResponseHead): void {
    if (this.gone || head.status === 101) return;
    const { encoder } = this.connection;
    encoder.begin();
    encoder.status(head.status);
    encoder.fields(head.headers, dropped);
    this.sendBlock(false);
  }

  respond(head: ResponseHead): void {
    this.#answered = true;
    if (this.gone) return;
    const { encoder } = this.connection;
    const { headers } = head;
    const tunnel = head.status === 101;
    if (tunnel) {
      headers.remove("sec-websocket-accept");
      headers.remove("content-length");
    }
    encoder.begin();
    encoder.status(tunnel ? 200 : head.status);
    encoder.fields(headers, dropped);
    // RFC 9110 §6.6.1: whoever forwards an answer without a date puts one there.
    if (headers.at(Kind.date) < 0 && headers.extra?.includes("date") !== true) {
      const date = dateField();
      encoder.field(date, 0, 4, 4, date.length, false);
    }
    this.sendBlock(false);
    if (tunnel) this.resumeBody();
  }

  write(chunk: Buffer, start: number, end: number): boolean {
    return this.sendContent(chunk, start, end);
  }

  halfEnd(): void {
    this.sendEnd(undefined);
  }

  end(trailers?: HeaderBlock): void {
    this.#exchange = undefined;
    this.#over = true;
    if (this.localDone) this.closeIfDone();
    else this.sendEnd(trailers);
    this.#release();
  }

  protected writeTrailers(trailers: HeaderBlock): void {
    const { encoder } = this.connection;
    encoder.begin();
    encoder.fields(trailers, dropped);
    this.sendBlock(true);
  }

  abort(): void {
    this.#exchange = undefined;
    this.#over = true;
    if (!this.gone) {
      this.connection.sendReset(this.id, ErrorCode.internalError);
      this.leave();
    }
    this.#release();
  }

  /** Nobody asks for the head any more. */
  #release(): void {
    const { headers } = this.head;
    if (headers === released) return;
    this.head.headers = released;
    giveBlock(headers);
  }
}
