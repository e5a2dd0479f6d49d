// The way of one request, top to bottom: find the rule, run its filters, choose a backend, get a connection, send, answer; and
// what becomes of it when any of that fails. Between two codecs, of which it knows only `exchange.ts`.

import { redirectLocation } from "../model/redirect.ts";
import { Attempts, type FailedTry } from "./attempts.ts";
import type { CompiledRule, CompiledShare, RouteTableRuntime } from "./compile.ts";
import { Deadline } from "./deadlines.ts";
import type {
  Downstream,
  DownstreamEvents,
  Repeat,
  RequestHead,
  ResponseHead,
  Upstream,
  UpstreamEvents,
} from "./exchange.ts";
import { type FilteredExchange, Filtering, type LocalAnswer } from "./filtering.ts";
import { addForwardingHeaders } from "./filters/forwarded.ts";
import { grpcTimeout, tellTimeout } from "./grpc-timeout.ts";
import type { HeaderBlock } from "./headers.ts";
import type { ProxyAddresses } from "./listener/proxy-protocol.ts";
import { grpcAnswer, grpcEnd, isGrpc, localAnswer } from "./local-answer.ts";
import { OneTry } from "./one-try.ts";
import { keptBy, tokenFor } from "./persistence.ts";
import { type Reason, reasons } from "./reason.ts";
import { type DueTime, RequestTimes } from "./request-times.ts";
import type { ProxyRuntime } from "./runtime.ts";
import type { Watched } from "./telemetry/watched.ts";
import type { EndpointPool, Waiter } from "./upstream/pool.ts";
import { requestHash } from "./upstream/stickiness.ts";
import { turn } from "./wire.ts";

/** Bytes of a request's body that are kept for another try, and that wait for a connection. */
const maxReplay = 64 * 1024;
/** Bytes of an answer that nobody wants and that are read all the same, so that the connection stays. */
const maxDropped = 64 * 1024;

const noBytes: readonly Buffer[] = [];

export class Forwarding extends Deadline implements DownstreamEvents, UpstreamEvents, Waiter, FilteredExchange {
  readonly #runtime: ProxyRuntime;
  readonly #down: Downstream;
  readonly #path: string;
  readonly #authority: string;
  #port = 0;
  /** Only where the rule has filters. */
  #filtering: Filtering | undefined = undefined;
  #rule: CompiledRule | undefined = undefined;
  #share: CompiledShare | undefined = undefined;
  #connection: Upstream | undefined = undefined;
  #pool: EndpointPool | undefined = undefined;
  #waiting = false;
  #tries = 0;
  /** Only where a policy, or a failure, asks for it. */
  #attempts: Attempts | undefined = undefined;
  /** Where the rule says when to try again: the try under way. */
  #oneTry: OneTry | undefined = undefined;
  /** The cookie that the answer sets, so that a hash stays the same. */
  #hashCookie: string | undefined = undefined;
  /** Body so far, while it may have to be sent (again). */
  #body: Buffer[] | readonly Buffer[] = noBytes;
  #bodyBytes = 0;
  #replayable = true;
  #holding = false;
  #requestDone = false;
  #trailers: HeaderBlock | undefined = undefined;
  /** The head of an answer came that is not for another try to better. */
  #answerCame = false;
  #status = 0;
  #answerBytes = 0;
  readonly #watched: Watched | undefined;
  #over = false;
  /** Among the requests under way. */
  #counted = false;
  /** Only where something is to end at a time. */
  #times: RequestTimes | undefined = undefined;
  /** The caller has said how long it waits, and the backend is told what is left of it. */
  #callTimed = false;
  /** Of an answer that has begun: it says nowhere how long it is. */
  #openEnded = false;

  /** `watched`: who makes the access log's line and the span; undefined where there are none. */
  constructor(runtime: ProxyRuntime, down: Downstream, watched?: Watched) {
    super();
    this.#watched = watched;
    this.#runtime = runtime;
    this.#down = down;
    this.#path = down.head.path;
    this.#authority = down.head.authority;
  }

  // ------------------------------------------------------------------------------------------------------- the way in

  begin(table: RouteTableRuntime, port: number): void {
    this.#counted = this.#runtime.overload.enter();
    if (!this.#counted) {
      this.#answer("overloaded");
      return;
    }
    const head = this.#down.head;
    const router = table.router;
    if (router === undefined) {
      this.#answer("no_table");
      return;
    }
    const rule = router.find(head);
    if (typeof rule === "string") {
      this.#answer(rule);
      return;
    }
    this.#rule = rule;
    this.#port = port;
    if (rule.choice) this.#share = rule.shares[rule.choice.next()]!;
    const persistence = rule.rule.persistence;
    const kept = persistence && this.#share && keptBy(persistence, rule.shares, head);
    if (kept === "gone") {
      if (persistence!.fallback === false) {
        this.#answer("kept_gone");
        return;
      }
    } else if (kept) {
      this.#share = kept.share;
      this.#newAttempts().kept = kept.pool;
    }
    const { filters, looksAtForwarding } = this.#share ?? rule;
    if (!addForwardingHeaders(head, !looksAtForwarding, this.#down.forwardingLines)) {
      this.#answer("loop_detected");
      return;
    }
    const called = grpcTimeout(head);
    if (rule.requestTimeout > 0 || called !== undefined) {
      this.#callTimed = called !== undefined;
      if (called !== undefined && called <= 0) {
        this.#answer("request_timeout");
        return;
      }
      const timeout = Math.min(rule.requestTimeout || Number.POSITIVE_INFINITY, called ?? Number.POSITIVE_INFINITY);
      this.#newTimes().request = this.#runtime.deadlines.now() + timeout;
      this.#arm();
    }
    if (rule.idleTimeout > 0) {
      this.#newTimes();
      this.#arm();
    }
    if (filters === undefined) this.passed();
    else {
      this.#filtering = new Filtering(filters, this, this.#down);
      this.#filtering.request();
    }
  }

  /** The filters have let the request pass: what the rule says is done. */
  passed(): void {
    const rule = this.#rule!;
    const action = rule.rule.action;
    if (action.kind === "redirect") {
      const head = this.#down.head;
      const location = redirectLocation(action, {
        scheme: head.scheme,
        authority: this.#authority,
        path: this.#path,
        query: this.#filtering ? this.#filtering.query : head.query,
        port: this.#port,
        match: rule.rule.match.path,
      });
      const headers = [{ name: "location", value: location }];
      this.#reply(localAnswer(action.status, "", headers));
    } else if (action.kind === "respond") this.#respond(action);
    else if (this.#share === undefined) this.#answer("no_weight");
    else if (this.#share.respond) this.#respond(this.#share.respond);
    else {
      if (rule.hasPolicies || this.#share.backend!.isTold) this.#prepare(rule);
      this.#try();
    }
  }

  #newAttempts(): Attempts {
    const { backend } = this.#share!;
    this.#attempts = new Attempts(backend!, this.#rule!.rule.retry, this.#down.head, this.#runtime.deadlines.now());
    return this.#attempts;
  }

  #prepare({ rule }: CompiledRule): void {
    const attempts = this.#attempts ?? this.#newAttempts();
    const hash = rule.hash && requestHash(rule.hash, this.#down.head, crypto.randomUUID.bind(crypto));
    attempts.hash = hash?.hash;
    this.#hashCookie = hash?.setCookie;
  }

  #try(): void {
    this.#tries++;
    if (this.#tries > 1) this.#runtime.metrics.retries++;
    const timeout = this.#rule!.tryTimeout;
    if (timeout > 0) {
      this.#newTimes().try = this.#runtime.deadlines.now() + timeout;
      this.#arm();
    }
    this.#waiting = true;
    const problem = this.#share!.backend!.acquire(this, this.#attempts);
    if (problem) this.#answer(problem);
  }

  connected(connection: Upstream, pool: EndpointPool): void {
    this.#waiting = false;
    this.#connection = connection;
    this.#pool = pool;
    this.#attempts?.connected(pool);
    if (this.#attempts?.retries) {
      this.#oneTry = new OneTry(this);
      connection.begin(this.#oneTry);
    } else connection.begin(this);
    if (this.#callTimed) {
      tellTimeout(this.#down.head.headers, this.#times!.end - this.#runtime.deadlines.now());
    }
    connection.send(this.#down.head);
    let goOn = true;
    for (let index = 0; index < this.#body.length; index++) {
      const chunk = this.#body[index]!;
      goOn = connection.write(chunk, 0, chunk.length);
    }
    if (this.#requestDone) connection.end(this.#trailers);
    else if (goOn) this.upstreamDrained();
    if (this.#down.crowded) connection.holdAnswer?.();
  }

  addresses(): ProxyAddresses {
    return this.#down.forwardingLines.addresses!;
  }

  notConnected(reason: Reason, pool: EndpointPool | undefined): void {
    this.#waiting = false;
    if (!pool) {
      this.#answer(reason);
      return;
    }
    this.#pool = pool;
    this.#attempts?.failed(pool, "connectFailure");
    if (!this.#again({ outcome: { kind: "connect-failure" }, repeat: "never" })) this.#answer(reason);
  }

  /** Tries again now or later, if it may. */
  #again(failed: FailedTry): boolean {
    const { deadlines } = this.#runtime;
    const attempts = this.#attempts ?? this.#newAttempts();
    const whole = this.#replayable || this.#bodyBytes === 0;
    const pause = attempts.again(this.#pool!, failed, whole, deadlines.now());
    if (pause === undefined) return false;
    if (this.#times) this.#times.try = Number.POSITIVE_INFINITY;
    if (pause === 0) this.#try();
    else {
      this.#newTimes().again = deadlines.now() + pause;
      this.#arm();
    }
    return true;
  }

  // ------------------------------------------------------------------------------------------ events from the client

  requestData(chunk: Buffer, start: number, end: number): boolean {
    if (this.#over) return true;
    return this.#filtering ? this.#filtering.requestData(chunk, start, end) : this.write(chunk, start, end);
  }

  requestEnd(trailers: HeaderBlock | undefined): void {
    if (this.#filtering) this.#filtering.requestEnd(trailers);
    else this.end(trailers);
  }

  /** The request's body, after the filters. */
  write(chunk: Buffer, start: number, end: number): boolean {
    if (this.#over) return true;
    this.#times?.moved(turn.now);
    this.#bodyBytes += end - start;
    if (this.#replayable && this.#status === 0) {
      if (this.#bodyBytes <= maxReplay || this.#connection === undefined) {
        if (this.#body === noBytes) this.#body = [];
        (this.#body as Buffer[]).push(chunk.subarray(start, end));
      }
      if (this.#bodyBytes > maxReplay && this.#connection !== undefined) {
        this.#replayable = false;
        this.#body = noBytes;
      }
    }
    const goOn = this.#connection ? this.#connection.write(chunk, start, end) : this.#bodyBytes < maxReplay;
    if (!goOn) this.#holding = true;
    return goOn;
  }

  end(trailers?: HeaderBlock): void {
    this.#requestDone = true;
    this.#trailers = trailers;
    this.#connection?.end(trailers);
  }

  requestFailed(reason: Reason): void {
    if (this.#over) return;
    this.#giveUp();
    if (reason !== "client_closed") {
      this.#answer(reason);
      return;
    }
    this.#finish(reason);
  }

  downstreamDrained(): void {
    if (this.#filtering) this.#filtering.responseDrained();
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
    if (this.#filtering) this.#filtering.requestDrained();
    else this.#down.resumeBody();
  }

  informed(head: ResponseHead): void {
    this.#down.inform(head);
  }

  responded(head: ResponseHead): void {
    this.#times?.moved(turn.now);
    const attempts = this.#attempts;
    if (attempts) {
      attempts.responded(head);
      if (attempts.retries && this.#againAfter(head)) return;
      this.#tell(head);
    }
    this.#answerCame = true;
    this.#watched?.responded();
    this.#body = noBytes;
    if (this.#filtering) this.#filtering.respond(head);
    else this.answered(head);
  }

  /** Whether the policy wants another answer than this one: then its rest goes nowhere. */
  #againAfter(head: ResponseHead): boolean {
    if (head.status < 200) return false;
    const grpc = head.headers.get("grpc-status");
    const outcome = {
      kind: "status",
      status: head.status,
      ...(grpc === undefined ? {} : { grpcStatus: Number(grpc) }),
    } as const;
    const field = head.headers.get("retry-after");
    const connection = this.#connection;
    const oneTry = this.#oneTry;
    // Never within the codec that is at work: a pause of 0 is one of a tick of the wheel.
    if (!this.#again({ outcome, repeat: "never", retryAfter: field })) return false;
    oneTry?.dismiss();
    if (this.#connection === connection) this.#connection = undefined;
    if (!this.#requestDone || head.length < 0 || head.length > maxDropped) connection?.cancel();
    return true;
  }

  /** What the answer must tell the client, so that it stays with what it got. */
  #tell({ headers }: ResponseHead): void {
    if (this.#hashCookie !== undefined) headers.add("set-cookie", this.#hashCookie);
    const persistence = this.#rule!.rule.persistence;
    const field = persistence && tokenFor(persistence, this.#share!, this.#pool!, this.#down.head);
    if (field) headers.add(field[0], field[1]);
  }

  /** The answer's head, after the filters. */
  answered(head: ResponseHead): void {
    this.#watched?.answered(head);
    this.#status = head.status;
    this.#openEnded = head.length < 0;
    this.#down.respond(head);
  }

  responseData(chunk: Buffer, start: number, end: number): boolean {
    this.#times?.moved(turn.now);
    this.#answerBytes += end - start;
    if (this.#filtering) return this.#over || this.#filtering.responseData(chunk, start, end);
    return this.#down.write(chunk, start, end);
  }

  responseEnd(trailers: HeaderBlock | undefined): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#attempts?.completed(trailers?.get("grpc-status"));
    // The rest of the request's body has nowhere to go.
    if (!this.#requestDone) connection?.cancel();
    if (this.#filtering) {
      if (!this.#over) this.#filtering.responseEnd(trailers);
      return;
    }
    this.#finish(undefined);
    this.#down.end(trailers);
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
    if (this.#over) return;
    if (repeat === "never")
      this.#attempts?.failed(undefined, reason === "upstream_idle" ? "timeout" : "connectFailure");
    // An answer that filters hold back, or have dropped, is as good as none; but its request was served.
    if (this.#status !== 0) {
      this.#cutOff(reason);
      return;
    }
    if (this.#filtering?.dropping) return;
    const outcome = repeat === "always" ? refused : failures[reason];
    if (!outcome || this.#answerCame || !this.#again({ outcome, repeat })) this.#answer(reason);
  }

  // ---------------------------------------------------------------------------------------------------------- the end

  #newTimes(): RequestTimes {
    this.#times ??= new RequestTimes(this.#rule!.idleTimeout, turn.now);
    return this.#times;
  }

  /** All times of the request share one place in the wheel. */
  #arm(): void {
    const { deadlines } = this.#runtime;
    const left = this.#times!.left(deadlines.now(), turn.now);
    if (left < Number.POSITIVE_INFINITY) deadlines.arm(this, left);
  }

  expired(): void {
    if (this.#over) return;
    const times = this.#times!;
    const due = times.due(this.#runtime.deadlines.now(), turn.now);
    if (due !== undefined && due !== "again") {
      this.#timedOut(due);
      return;
    }
    if (due === "again") times.again = Number.POSITIVE_INFINITY;
    this.#arm();
    if (due === "again") this.#try();
  }

  #timedOut(reason: Exclude<DueTime, "again">): void {
    this.#attempts?.failed(undefined, "timeout");
    this.#giveUp();
    if (this.#status !== 0) this.#cutOff(reason);
    else if (reason !== "try_timeout" || !this.#again({ outcome: { kind: "timeout" }, repeat: "never" }))
      this.#answer(reason);
  }

  /** The answer has begun and cannot be completed. */
  #cutOff(reason: Reason): void {
    if (this.#openEnded && isGrpc(this.#down.head.headers)) {
      const trailers = grpcEnd(reasons[reason].grpc, reasons[reason].text, reason);
      if (this.#filtering) this.#filtering.cutOff(trailers, reason);
      else {
        this.#finish(reason);
        this.#down.end(trailers);
      }
      return;
    }
    this.#finish(reason);
    this.#down.abort();
  }

  /** Lets go of the backend. */
  #giveUp(): void {
    if (this.#waiting) this.#share?.backend?.forget(this);
    this.#waiting = false;
    if (this.#times) this.#times.again = Number.POSITIVE_INFINITY;
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.cancel();
  }

  /** Answers for a reason of the proxy's own. */
  #answer(reason: Reason): void {
    this.#giveUp();
    if (this.#status !== 0) {
      this.#cutOff(reason);
      return;
    }
    const row = reasons[reason];
    const headers = [{ name: "x-fairlead-reason", value: reason as string }];
    // Envoy's, by which its like in front knows not to try again.
    if (reason === "overflow") headers.push({ name: "x-envoy-overloaded", value: "true" });
    this.#reply(localAnswer(row.status, `${row.text}\n`, headers), reason);
  }

  #respond(respond: {
    readonly status: number;
    readonly reason: string;
    readonly body?: string;
    readonly headers?: readonly { readonly name: string; readonly value: string }[];
  }): void {
    const body = respond.body ?? (respond.reason === "" ? "" : `${respond.reason}\n`);
    this.#reply(localAnswer(respond.status, body, respond.headers ?? []));
  }

  answerLocally(answer: LocalAnswer, reason: Reason): void {
    this.#reply(answer, reason);
  }

  failed(reason: Reason): void {
    if (!this.#over) this.#answer(reason);
  }

  ended(reason: Reason | undefined): void {
    this.#finish(reason);
  }

  #reply(answer: LocalAnswer, reason?: Reason): void {
    const down = this.#down;
    const failed = answer.head.status >= 400 && isGrpc(down.head.headers);
    const { head, body } = failed ? grpcAnswer(down.head.headers, answer, reason && reasons[reason].grpc) : answer;
    const bodiless = down.head.method === "HEAD" || head.status === 204 || head.status === 304 || body.length === 0;
    if (bodiless) head.length = 0;
    if (this.#filtering) {
      this.#filtering.respond(head, body, reason);
      return;
    }
    this.#status = head.status;
    this.#answerBytes = bodiless ? 0 : body.length;
    this.#watched?.answered(head);
    this.#finish(reason);
    down.respond(head);
    if (!bodiless) down.write(body, 0, body.length);
    down.end();
  }

  #finish(reason: Reason | undefined): void {
    if (this.#over) return;
    this.#over = true;
    if (this.#counted) this.#runtime.overload.leave();
    if (this.wheel) this.#runtime.deadlines.disarm(this);
    this.#filtering?.over();
    this.#attempts?.end();
    const { metrics, accessLog } = this.#runtime;
    const milliseconds = turn.now - this.#down.began;
    const slot = this.#share?.slot ?? this.#rule?.slot ?? this.#runtime.unrouted;
    metrics.record(slot, this.#status, milliseconds, this.#bodyBytes, this.#answerBytes);
    if (reason) metrics.ended(reason, slot);
    if (this.#watched) {
      this.#watched.finished({
        status: this.#status,
        reason,
        flags: flagsOf(reason, this.#attempts),
        bytesReceived: this.#bodyBytes,
        bytesSent: this.#answerBytes,
        attempts: this.#tries,
        route: this.#rule?.rule.name,
        backend: this.#share?.backend?.name,
        endpoint: this.#pool,
      });
    }
    if (accessLog) this.#log(reason, milliseconds);
  }

  #log(reason: Reason | undefined, milliseconds: number): void {
    const head: RequestHead = this.#down.head;
    this.#runtime.accessLog!.write({
      time: new Date(this.#runtime.clock.now()).toISOString(),
      method: head.method,
      authority: this.#authority,
      path: this.#path,
      status: this.#status,
      reason: reason ?? "-",
      flag: flagsOf(reason, this.#attempts),
      route: this.#rule?.rule.name ?? "",
      backend: this.#share?.backend?.name ?? "",
      endpoint: this.#pool ? `${this.#pool.address}:${this.#pool.port}` : "",
      source: head.source,
      ...(head.client ? { peer: head.client.name } : {}),
      milliseconds: Math.round(milliseconds * 1000) / 1000,
      attempts: this.#tries,
      requestId: head.headers.get("x-request-id") ?? head.headers.tailEnd,
    });
  }
}

/** What retries take a failure for; those that are not here are never tried again. */
const refused = { kind: "refused" } as const;
const failures: Partial<Readonly<Record<Reason, FailedTry["outcome"]>>> = {
  upstream_closed: { kind: "reset", sent: true },
  upstream_reset: { kind: "reset", sent: true },
  upstream_malformed: { kind: "reset", sent: true },
};

function flagsOf(reason: Reason | undefined, attempts: Attempts | undefined): string {
  const flag: string = reason ? reasons[reason].flag : "-";
  const limited = attempts?.limited;
  if (limited === undefined) return flag;
  return flag === "-" ? limited : `${flag},${limited}`;
}
