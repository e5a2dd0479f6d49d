// The way of one request, top to bottom: find the rule, run its filters, choose a backend, get a connection, send, hand back the
// answer; and what becomes of it when any of that fails. Between two codecs, of which it knows only `exchange.ts`. How an answer
// reaches the client is `answering.ts`, what is told at the end `request-account.ts`: bases of this class, so that a request
// stays one object.

import { redirectLocation } from "../model/redirect.ts";
import { Answering } from "./answering.ts";
import { Attempts, answeredTry, type FailedTry, failedTry, lateTry, unconnectedTry } from "./attempts.ts";
import type { CompiledRule, RouteTableRuntime } from "./compile.ts";
import type { DownstreamEvents, Repeat, ResponseHead, Upstream, UpstreamEvents } from "./exchange.ts";
import { type FilteredExchange, Filtering } from "./filtering.ts";
import { addForwardingHeaders } from "./filters/forwarded.ts";
import { grpcTimeout, tellTimeout } from "./grpc-timeout.ts";
import type { HeaderBlock } from "./headers.ts";
import type { ProxyAddresses } from "./listener/proxy-protocol.ts";
import { localAnswer, respondAnswer } from "./local-answer.ts";
import { OneTry } from "./one-try.ts";
import { keptBy, tokenFor } from "./persistence.ts";
import type { Reason } from "./reason.ts";
import { type DueTime, RequestTimes, type TimedRequest } from "./request-times.ts";
import type { EndpointPool, Waiter } from "./upstream/pool.ts";
import { requestHash } from "./upstream/stickiness.ts";
import { turn } from "./wire.ts";

/** Bytes of a request's body that are kept for another try, and that wait for a connection. */
const maxReplay = 64 * 1024;
/** Bytes of an answer that nobody wants and that are read all the same, so that the connection stays. */
const maxDropped = 64 * 1024;

const noBytes: readonly Buffer[] = [];

export class Forwarding
  extends Answering
  implements DownstreamEvents, UpstreamEvents, Waiter, FilteredExchange, TimedRequest
{
  #port = 0;
  #connection: Upstream | undefined = undefined;
  #waiting = false;
  /** Where the rule says when to try again: the try under way. */
  #oneTry: OneTry | undefined = undefined;
  /** Body so far, while it may have to be sent (again). */
  #body: Buffer[] | readonly Buffer[] = noBytes;
  #replayable = true;
  #holding = false;
  #requestDone = false;
  #trailers: HeaderBlock | undefined = undefined;
  /** The head of an answer came that is not for another try to better. */
  #answerCame = false;
  /** Among the requests under way. */
  #counted = false;
  /** The caller has said how long it waits, and the backend is told what is left of it. */
  #callTimed = false;

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
      this.#newAttempts().kept = kept.pool;
    }
    const { filters, looksAtForwarding } = this.share ?? rule;
    if (!addForwardingHeaders(head, !looksAtForwarding, this.down.forwardingLines)) {
      this.answer("loop_detected");
      return;
    }
    const called = grpcTimeout(head);
    if (rule.requestTimeout > 0 || called !== undefined) {
      this.#callTimed = called !== undefined;
      if (called !== undefined && called <= 0) {
        this.answer("request_timeout");
        return;
      }
      const timeout = Math.min(rule.requestTimeout || Number.POSITIVE_INFINITY, called ?? Number.POSITIVE_INFINITY);
      this.#timing().endAt("request", this.runtime.deadlines.now() + timeout);
    }
    if (rule.idleTimeout > 0) this.#timing().arm();
    if (filters === undefined) this.passed();
    else {
      this.filtering = new Filtering(filters, this, this.down);
      this.filtering.request();
    }
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
      if (rule.hasPolicies || this.share.backend!.isTold) this.#prepare(rule);
      this.#try();
    }
  }

  #newAttempts(): Attempts {
    const { backend } = this.share!;
    this.attempts = new Attempts(backend!, this.rule!.rule.retry, this.down.head, this.runtime.deadlines.now());
    return this.attempts;
  }

  #prepare({ rule }: CompiledRule): void {
    const attempts = this.attempts ?? this.#newAttempts();
    const hash = rule.hash && requestHash(rule.hash, this.down.head, crypto.randomUUID.bind(crypto));
    attempts.hash = hash?.hash;
    attempts.setCookie = hash?.setCookie;
  }

  #try(): void {
    this.tries++;
    if (this.tries > 1) this.runtime.metrics.retries++;
    const timeout = this.rule!.tryTimeout;
    if (timeout > 0) this.#timing().endAt("try", this.runtime.deadlines.now() + timeout);
    this.#waiting = true;
    const problem = this.share!.backend!.acquire(this, this.attempts);
    if (problem) this.answer(problem);
  }

  connected(connection: Upstream, pool: EndpointPool): void {
    this.#waiting = false;
    this.#connection = connection;
    this.pool = pool;
    this.attempts?.connected(pool);
    if (this.attempts?.retries) {
      this.#oneTry = new OneTry(this);
      connection.begin(this.#oneTry);
    } else connection.begin(this);
    if (this.#callTimed) {
      tellTimeout(this.down.head.headers, this.times!.end - this.runtime.deadlines.now());
    }
    connection.send(this.down.head);
    let goOn = true;
    for (let index = 0; index < this.#body.length; index++) {
      const chunk = this.#body[index]!;
      goOn = connection.write(chunk, 0, chunk.length);
    }
    if (this.#requestDone) connection.end(this.#trailers);
    else if (goOn) this.upstreamDrained();
    if (this.down.crowded) connection.holdAnswer?.();
  }

  addresses(): ProxyAddresses {
    return this.down.forwardingLines.addresses!;
  }

  notConnected(reason: Reason, pool: EndpointPool | undefined): void {
    this.#waiting = false;
    if (!pool) {
      this.answer(reason);
      return;
    }
    this.pool = pool;
    this.attempts?.failed(pool, "connectFailure");
    if (!this.#again(unconnectedTry)) this.answer(reason);
  }

  /** Tries again now or later, if it may. */
  #again(failed: FailedTry): boolean {
    const { deadlines } = this.runtime;
    const attempts = this.attempts ?? this.#newAttempts();
    const whole = this.#replayable || this.bytesReceived === 0;
    const pause = attempts.again(this.pool!, failed, whole, deadlines.now());
    if (pause === undefined) return false;
    if (this.times) this.times.try = Number.POSITIVE_INFINITY;
    if (pause === 0) this.#try();
    else this.#timing().endAt("again", deadlines.now() + pause);
    return true;
  }

  // ------------------------------------------------------------------------------------------ events from the client

  requestData(chunk: Buffer, start: number, end: number): boolean {
    if (this.over) return true;
    return this.filtering ? this.filtering.requestData(chunk, start, end) : this.write(chunk, start, end);
  }

  requestEnd(trailers: HeaderBlock | undefined): void {
    if (this.filtering) this.filtering.requestEnd(trailers);
    else this.end(trailers);
  }

  /** The request's body, after the filters. */
  write(chunk: Buffer, start: number, end: number): boolean {
    if (this.over) return true;
    this.times?.moved(turn.now);
    this.bytesReceived += end - start;
    if (this.#replayable && this.status === 0) {
      if (this.bytesReceived <= maxReplay || this.#connection === undefined) {
        if (this.#body === noBytes) this.#body = [];
        (this.#body as Buffer[]).push(chunk.subarray(start, end));
      }
      if (this.bytesReceived > maxReplay && this.#connection !== undefined) {
        this.#replayable = false;
        this.#body = noBytes;
      }
    }
    const goOn = this.#connection ? this.#connection.write(chunk, start, end) : this.bytesReceived < maxReplay;
    if (!goOn) this.#holding = true;
    return goOn;
  }

  end(trailers?: HeaderBlock): void {
    this.#requestDone = true;
    this.#trailers = trailers;
    this.#connection?.end(trailers);
  }

  requestFailed(reason: Reason): void {
    if (this.over) return;
    this.giveUp();
    if (reason !== "client_closed") {
      this.answer(reason);
      return;
    }
    this.finish(reason);
  }

  downstreamDrained(): void {
    if (this.filtering) this.filtering.responseDrained();
    else this.resumeAnswer();
  }

  downstreamCrowded(): void {
    if (!this.#answerCame) this.#connection?.holdAnswer?.();
  }

  resumeAnswer(): void {
    this.#connection?.resumeBody();
  }

  // ----------------------------------------------------------------------------------------- events from the backend

  upstreamDrained(): void {
    if (!this.#holding) return;
    this.#holding = false;
    if (this.filtering) this.filtering.requestDrained();
    else this.down.resumeBody();
  }

  informed(head: ResponseHead): void {
    this.down.inform(head);
  }

  responded(head: ResponseHead): void {
    this.times?.moved(turn.now);
    const attempts = this.attempts;
    if (attempts) {
      attempts.responded(head);
      if (attempts.retries && this.#againAfter(head)) return;
      this.#tell(head);
    }
    this.#answerCame = true;
    this.watched?.responded();
    this.#body = noBytes;
    if (this.filtering) this.filtering.respond(head);
    else this.answered(head);
  }

  /** Whether the policy wants another answer than this one: then its rest goes nowhere. */
  #againAfter(head: ResponseHead): boolean {
    if (head.status < 200) return false;
    const connection = this.#connection;
    const oneTry = this.#oneTry;
    // Never within the codec that is at work: a pause of 0 is one of a tick of the wheel.
    if (!this.#again(answeredTry(head))) return false;
    oneTry?.dismiss();
    if (this.#connection === connection) this.#connection = undefined;
    if (!this.#requestDone || head.length < 0 || head.length > maxDropped) connection?.cancel();
    return true;
  }

  /** What the answer must tell the client, so that it stays with what it got. */
  #tell({ headers }: ResponseHead): void {
    const cookie = this.attempts!.setCookie;
    if (cookie !== undefined) headers.add("set-cookie", cookie);
    const persistence = this.rule!.rule.persistence;
    const field = persistence && tokenFor(persistence, this.share!, this.pool!, this.down.head);
    if (field) headers.add(field[0], field[1]);
  }

  responseEnd(trailers: HeaderBlock | undefined): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.attempts?.completed(trailers?.get("grpc-status"));
    // The rest of the request's body has nowhere to go.
    if (!this.#requestDone) connection?.cancel();
    if (this.filtering) {
      if (!this.over) this.filtering.responseEnd(trailers);
      return;
    }
    this.finish(undefined);
    this.down.end(trailers);
  }

  /** The filters have answered something else. Reading a short rest costs less than a new connection. */
  dropAnswer(length: number): void {
    if (length >= 0 && length <= maxDropped) return;
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.cancel();
  }

  upstreamFailed(reason: Reason, repeat: Repeat): void {
    this.#connection = undefined;
    if (this.over) return;
    if (repeat === "never") this.attempts?.failed(undefined, reason === "upstream_idle" ? "timeout" : "connectFailure");
    // An answer that filters hold back, or have dropped, is as good as none; but its request was served.
    if (this.status !== 0) {
      this.cutOff(reason);
      return;
    }
    if (this.filtering?.dropping) return;
    const failed = failedTry(reason, repeat);
    if (!failed || this.#answerCame || !this.#again(failed)) this.answer(reason);
  }

  // ------------------------------------------------------------------------------------------- times, and letting go

  #timing(): RequestTimes {
    this.times ??= new RequestTimes(this, this.runtime.deadlines, this.rule!.idleTimeout, turn.now);
    return this.times;
  }

  tryAgain(): void {
    if (!this.over) this.#try();
  }

  timedOut(reason: Exclude<DueTime, "again">): void {
    if (this.over) return;
    this.attempts?.failed(undefined, "timeout");
    this.giveUp();
    if (this.status !== 0) this.cutOff(reason);
    else if (reason !== "try_timeout" || !this.#again(lateTry)) this.answer(reason);
  }

  /** Lets go of the backend. */
  protected giveUp(): void {
    if (this.#waiting) this.share?.backend?.forget(this);
    this.#waiting = false;
    if (this.times) this.times.again = Number.POSITIVE_INFINITY;
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.cancel();
  }

  protected settle(): void {
    if (this.#counted) this.runtime.overload.leave();
    this.times?.disarm();
  }
}
