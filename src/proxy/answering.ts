// The way out of one request: its answer, a backend's or one of the proxy's own, through the filters to the client, once; and
// what becomes of it when it cannot be completed. The tries are `trying.ts`, which is this with a backend, the way in `forwarding.ts`.

import type { ResponseHead } from "./exchange.ts";
import { grpcAnswer, grpcEnd, isGrpc, type LocalAnswer, reasonAnswer } from "./local-answer.ts";
import { type Reason, reasons } from "./reason.ts";
import { RequestAccount } from "./request-account.ts";
import type { RequestTimes } from "./request-times.ts";
import { turn } from "./wire.ts";

/** Envoy's (`include_request_attempt_count`): how many tries there were, the one that it goes with included. */
export const attemptHeader = "x-envoy-attempt-count";

export abstract class Answering extends RequestAccount {
  /** Only where something is to end at a time. */
  protected times: RequestTimes | undefined = undefined;
  /** Of an answer that has begun: it says nowhere how long it is. */
  #openEnded = false;

  /** Lets go of the backend. */
  protected abstract giveUp(): void;
  /** The request is over: what else it holds goes back. */
  protected abstract settle(): void;

  /** The answer's head, after the filters. */
  answered(head: ResponseHead): void {
    this.#noFalseTunnel(head);
    this.watched?.answered(head);
    this.status = head.status === 101 && this.down.head.tunnelOnly ? 200 : head.status;
    this.#openEnded = head.length < 0;
    this.down.respond(head);
  }

  /** Any success tells a client that asks for nothing but a tunnel that there is one (RFC 9110 §9.3.6), whoever meant something else by it. */
  #noFalseTunnel(head: ResponseHead): void {
    if (head.status < 200 || head.status > 299 || !this.down.head.tunnelOnly) return;
    head.status = 502;
    head.phrase = "";
  }

  responseData(chunk: Buffer, start: number, end: number): boolean {
    this.times?.moved(turn.now);
    if (this.filtering) return this.over || this.filtering.responseData(chunk, start, end);
    this.bytesSent += end - start;
    return this.down.write(chunk, start, end);
  }

  // ------------------------------------------------------------------------------------------- answers of the proxy's own

  /** Answers for a reason of the proxy's own. */
  protected answer(reason: Reason): void {
    this.giveUp();
    if (this.status !== 0) {
      this.cutOff(reason);
      return;
    }
    const answer = reasonAnswer(reason);
    if (this.tries > 0 && this.rule!.rule.attemptCount?.response)
      answer.head.headers.add(attemptHeader, String(this.tries));
    this.reply(answer, reason);
  }

  answerLocally(answer: LocalAnswer, reason: Reason): void {
    this.reply(answer, reason);
  }

  sent(bytes: number): void {
    this.bytesSent += bytes;
  }

  failed(reason: Reason): void {
    if (!this.over) this.answer(reason);
  }

  ended(reason: Reason | undefined): void {
    this.finish(reason);
  }

  protected reply(answer: LocalAnswer, reason?: Reason): void {
    const down = this.down;
    const failed = answer.head.status >= 400 && !down.head.tunnelOnly && isGrpc(down.head.headers);
    const { head, body } = failed ? grpcAnswer(down.head.headers, answer, reason) : answer;
    const bodiless = down.head.method === "HEAD" || head.status === 204 || head.status === 304 || body.length === 0;
    if (bodiless) head.length = 0;
    if (this.filtering) {
      this.filtering.respond(head, body, reason);
      return;
    }
    this.#noFalseTunnel(head);
    this.status = head.status;
    this.bytesSent = bodiless ? 0 : body.length;
    this.watched?.answered(head);
    this.finish(reason);
    down.respond(head);
    if (!bodiless) down.write(body, 0, body.length);
    down.end();
  }

  /** The answer has begun and cannot be completed. */
  protected cutOff(reason: Reason): void {
    if (this.#openEnded && isGrpc(this.down.head.headers)) {
      const trailers = grpcEnd(reasons[reason].grpc, reasons[reason].text, reason);
      this.watched?.ending(trailers);
      if (this.filtering) this.filtering.cutOff(trailers, reason);
      else {
        this.finish(reason);
        this.down.end(trailers);
      }
      return;
    }
    this.finish(reason);
    this.down.abort();
  }

  protected finish(reason: Reason | undefined): void {
    if (this.over) return;
    this.over = true;
    this.settle();
    this.filtering?.over();
    this.attempts?.end();
    this.tell(reason);
  }
}
