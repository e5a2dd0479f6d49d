// The way of one request, top to bottom: find the rule, run its filters, choose a backend, and hand its body on. Between two codecs,
// of which it knows only `exchange.ts`. Connections, tries and what becomes of them are `trying.ts`, how an answer reaches the
// client is `answering.ts`, what is told at the end `request-account.ts`: bases of this class, so that a request stays one object.

import { redirectLocation } from "../model/redirect.ts";
import type { CompiledRule, RouteTableRuntime } from "./compile.ts";
import type { DownstreamEvents } from "./exchange.ts";
import { type FilteredExchange, Filtering } from "./filtering.ts";
import { addForwardingHeaders } from "./filters/forwarded.ts";
import { grpcTimeout } from "./grpc-timeout.ts";
import type { HeaderBlock } from "./headers.ts";
import { localAnswer, respondAnswer } from "./local-answer.ts";
import { spendForward } from "./max-forwards.ts";
import { keptBy } from "./persistence.ts";
import { type Reason, reasons } from "./reason.ts";
import { noBytes, Trying } from "./trying.ts";
import { requestHash } from "./upstream/stickiness.ts";
import { turn } from "./wire.ts";

/** Bytes of a request's body that are kept for another try, and that wait for a connection. */
const maxReplay = 64 * 1024;

export class Forwarding extends Trying implements DownstreamEvents, FilteredExchange {
  #port = 0;
  /** Among the requests under way. */
  #counted = false;

  // ------------------------------------------------------------------------------------------------------- the way in

  begin(table: RouteTableRuntime, port: number): void {
    this.#counted = this.runtime.overload.enter();
    if (!this.#counted) {
      this.answer("overloaded");
      return;
    }
    const head = this.down.head;
    const router = table.router;
    if (router === undefined) {
      this.answer("no_table");
      return;
    }
    const rule = router.find(head);
    if (typeof rule === "string") {
      this.answer(rule);
      return;
    }
    this.rule = rule;
    this.#port = port;
    if (rule.choice) this.share = rule.shares[rule.choice.next()]!;
    const persistence = rule.rule.persistence;
    const kept = persistence && this.share && keptBy(persistence, rule.shares, head);
    if (kept === "gone") {
      if (persistence!.fallback === false) {
        this.answer("kept_gone");
        return;
      }
    } else if (kept) {
      this.share = kept.share;
      this.newAttempts().kept = kept.pool;
    }
    const { filters, looksAtForwarding } = this.share ?? rule;
    if (!addForwardingHeaders(head, !looksAtForwarding, this.down.forwardingLines)) {
      this.answer("loop_detected");
      return;
    }
    this.watched?.passOn(head.headers, !looksAtForwarding);
    const called = grpcTimeout(head);
    if (rule.requestTimeout > 0 || called !== undefined) {
      this.callTimed = called !== undefined;
      if (called !== undefined && called <= 0) {
        this.answer("request_timeout");
        return;
      }
      const timeout = Math.min(rule.requestTimeout || Number.POSITIVE_INFINITY, called ?? Number.POSITIVE_INFINITY);
      this.timing().endAt("request", this.runtime.deadlines.now() + timeout);
    }
    if (rule.streamTimeout > 0) this.timing().endAt("stream", this.runtime.deadlines.now() + rule.streamTimeout);
    if (rule.idleTimeout > 0) this.timing().arm();
    if (filters === undefined) this.passed();
    else {
      this.filtering = new Filtering(filters, this, this.down);
      this.filtering.request();
    }
  }

  tellQuery(query: string | undefined): void {
    if (this.watched) this.watched.query = query;
  }

  /** The filters have let the request pass: what the rule says is done. */
  passed(): void {
    const rule = this.rule!;
    const action = rule.rule.action;
    if (action.kind === "redirect") {
      const head = this.down.head;
      const location = redirectLocation(action, {
        scheme: head.scheme,
        authority: this.authority,
        path: this.path,
        query: this.filtering ? this.filtering.query : head.query,
        port: this.#port,
        match: rule.rule.match.path,
      });
      this.reply(localAnswer(action.status, "", [{ name: "location", value: location }]));
    } else if (action.kind === "respond") this.reply(respondAnswer(action));
    else if (this.share === undefined) this.answer("no_weight");
    else if (this.share.respond) this.reply(respondAnswer(this.share.respond));
    else {
      const { head } = this.down;
      const last = head.method === "OPTIONS" || head.method === "TRACE" ? spendForward(head) : undefined;
      if (last) {
        this.reply(last, "last_hop");
        return;
      }
      if (rule.hasPolicies || this.share.backend!.isTold) this.#prepare(rule);
      this.try();
    }
  }

  #prepare({ rule }: CompiledRule): void {
    const attempts = this.attempts ?? this.newAttempts();
    const hash = rule.hash && requestHash(rule.hash, this.down.head, crypto.randomUUID.bind(crypto));
    attempts.hash = hash?.hash;
    attempts.setCookie = hash?.setCookie;
  }

  /** The backend is connected to for the bytes of a tunnel. */
  get tunnels(): boolean {
    const { action } = this.rule!.rule;
    return action.kind === "forward" && action.connect === "terminate";
  }

  // ------------------------------------------------------------------------------------------ events from the client

  requestData(chunk: Buffer, start: number, end: number): boolean {
    if (this.over) return true;
    this.bytesReceived += end - start;
    return this.filtering ? this.filtering.requestData(chunk, start, end) : this.write(chunk, start, end);
  }

  requestEnd(trailers: HeaderBlock | undefined): void {
    this.watched?.requested();
    if (this.filtering) this.filtering.requestEnd(trailers);
    else this.end(trailers);
  }

  /** The request's body, after the filters. */
  write(chunk: Buffer, start: number, end: number): boolean {
    if (this.over) return true;
    this.times?.moved(turn.now);
    this.bytesPassed += end - start;
    if (this.replayable && this.status === 0) {
      if (this.bytesPassed <= maxReplay || this.connection === undefined) {
        if (this.body === noBytes) this.body = [];
        (this.body as Buffer[]).push(chunk.subarray(start, end));
      }
      if (this.bytesPassed > maxReplay && this.connection !== undefined) {
        this.replayable = false;
        this.body = noBytes;
      }
    }
    const goOn = this.connection ? this.connection.write(chunk, start, end) : this.bytesPassed < maxReplay;
    if (!goOn) this.holding = true;
    return goOn;
  }

  end(trailers?: HeaderBlock): void {
    this.requestDone = true;
    this.requestTrailers = trailers;
    // The end of what a client says in a tunnel is none of its request.
    const responseTimeout = this.rule?.responseTimeout ?? 0;
    if (responseTimeout > 0 && !this.over && this.down.head.upgrade === undefined)
      this.timing().endAt("response", this.runtime.deadlines.now() + responseTimeout);
    this.connection?.end(trailers);
  }

  requestFailed(reason: Reason): void {
    if (this.over) return;
    this.giveUp();
    // Some leave nobody to answer.
    if (reasons[reason].status === 0) this.finish(reason);
    else this.answer(reason);
  }

  downstreamDrained(): void {
    if (this.filtering) this.filtering.responseDrained();
    else this.resumeAnswer();
  }

  downstreamCrowded(): void {
    if (!this.answerCame) this.connection?.holdAnswer?.();
  }

  resumeAnswer(): void {
    this.connection?.resumeBody();
  }

  upstreamDrained(): void {
    if (!this.holding) return;
    this.holding = false;
    if (this.filtering) this.filtering.requestDrained();
    else this.down.resumeBody();
  }

  protected settle(): void {
    if (this.#counted) this.runtime.overload.leave();
    this.times?.disarm();
  }
}
