// The way of one request, top to bottom: find the rule, run its filters, choose a backend, get a connection, send, answer; and
// what becomes of it when any of that fails. Between two codecs, of which it knows only `exchange.ts`.

import { redirectLocation } from "../model/redirect.ts";
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
import type { HeaderBlock } from "./headers.ts";
import { grpcAnswer, isGrpc, localAnswer } from "./local-answer.ts";
import { type Reason, reasons } from "./reason.ts";
import type { ProxyRuntime } from "./runtime.ts";
import type { EndpointPool, Waiter } from "./upstream/pool.ts";
import { turn } from "./wire.ts";

/** Bytes of a request's body that are kept for another try, and that wait for a connection. */
const maxReplay = 64 * 1024;
/** Bytes of an answer that nobody wants and that are read all the same, so that the connection stays. */
const maxDropped = 64 * 1024;
/** Tries of one request, the first included. */
const maxAttempts = 3;
/** Methods that may be sent twice (RFC 9110 §9.2.2). */
const idempotent = new Set(["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"]);

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
  #attempts = 0;
  /** Body so far, while it may have to be sent (again). */
  #body: Buffer[] | readonly Buffer[] = noBytes;
  #bodyBytes = 0;
  #replayable = true;
  #holding = false;
  #requestDone = false;
  #trailers: HeaderBlock | undefined = undefined;
  #status = 0;
  #over = false;
  /** Milliseconds by the wheel; 0 when there is none. */
  #requestDue = 0;
  #tryDue = 0;

  constructor(runtime: ProxyRuntime, down: Downstream) {
    super();
    this.#runtime = runtime;
    this.#down = down;
    this.#path = down.head.path;
    this.#authority = down.head.authority;
  }

  // ------------------------------------------------------------------------------------------------------- the way in

  begin(table: RouteTableRuntime, port: number): void {
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
    const filters = this.#share ? this.#share.filters : rule.filters;
    if (!addForwardingHeaders(head, filters === undefined, this.#down.forwardingLines)) {
      this.#answer("loop_detected");
      return;
    }
    if (rule.requestTimeout > 0) {
      this.#requestDue = this.#runtime.deadlines.now() + rule.requestTimeout;
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
    else this.#try(undefined);
  }

  #try(avoid: EndpointPool | undefined): void {
    this.#attempts++;
    if (this.#attempts > 1) this.#runtime.metrics.retries++;
    const timeout = this.#rule!.tryTimeout;
    if (timeout > 0) {
      this.#tryDue = this.#runtime.deadlines.now() + timeout;
      this.#arm();
    }
    this.#waiting = true;
    const problem = this.#share!.backend!.acquire(this, avoid);
    if (problem) this.#answer(problem);
  }

  connected(connection: Upstream, pool: EndpointPool): void {
    this.#waiting = false;
    this.#connection = connection;
    this.#pool = pool;
    connection.begin(this);
    connection.send(this.#down.head);
    let goOn = true;
    for (let index = 0; index < this.#body.length; index++) {
      const chunk = this.#body[index]!;
      goOn = connection.write(chunk, 0, chunk.length);
    }
    if (this.#requestDone) connection.end(this.#trailers);
    else if (goOn) this.upstreamDrained();
  }

  notConnected(reason: Reason, pool: EndpointPool | undefined): void {
    this.#waiting = false;
    if (pool && this.#attempts < maxAttempts && this.#share!.backend!.usable > 0) this.#try(pool);
    else this.#answer(reason);
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
    this.#body = noBytes;
    if (this.#filtering) this.#filtering.respond(head);
    else this.answered(head);
  }

  /** The answer's head, after the filters. */
  answered(head: ResponseHead): void {
    this.#status = head.status;
    this.#down.respond(head);
  }

  responseData(chunk: Buffer, start: number, end: number): boolean {
    if (this.#filtering) return this.#over || this.#filtering.responseData(chunk, start, end);
    return this.#down.write(chunk, start, end);
  }

  responseEnd(trailers: HeaderBlock | undefined): void {
    const connection = this.#connection;
    this.#connection = undefined;
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
    const pool = this.#pool;
    this.#connection = undefined;
    if (this.#over) return;
    // An answer that filters hold back, or have dropped, is as good as none; but its request was served.
    if (this.#status !== 0) {
      this.#cutOff(reason);
      return;
    }
    if (this.#filtering?.dropping) return;
    const again = repeat !== "never" && this.#attempts < maxAttempts && this.#mayRepeat(repeat);
    // Not elsewhere on purpose: the endpoint is well, only the connection was old or about to close.
    if (again) this.#try(undefined);
    else {
      this.#pool = pool;
      this.#answer(reason);
    }
  }

  #mayRepeat(repeat: Repeat): boolean {
    const harmless = repeat === "always" || idempotent.has(this.#down.head.method);
    return harmless && (this.#replayable || this.#bodyBytes === 0);
  }

  // ---------------------------------------------------------------------------------------------------------- the end

  /** The timeouts of the request and of the try share one place in the wheel. */
  #arm(): void {
    const due =
      this.#requestDue === 0
        ? this.#tryDue
        : this.#tryDue === 0
          ? this.#requestDue
          : Math.min(this.#requestDue, this.#tryDue);
    this.#runtime.deadlines.arm(this, Math.max(0, due - this.#runtime.deadlines.now()));
  }

  expired(): void {
    if (this.#over) return;
    const reason =
      this.#requestDue !== 0 && this.#runtime.deadlines.now() >= this.#requestDue ? "request_timeout" : "try_timeout";
    this.#giveUp();
    if (this.#status === 0) {
      this.#answer(reason);
      return;
    }
    this.#cutOff(reason);
  }

  /** The answer has begun and cannot be completed. */
  #cutOff(reason: Reason): void {
    this.#finish(reason);
    this.#down.abort();
  }

  /** Lets go of the backend. */
  #giveUp(): void {
    if (this.#waiting) this.#share?.backend?.forget(this);
    this.#waiting = false;
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
    this.#reply(localAnswer(row.status, `${row.text}\n`, [{ name: "x-fairlead-reason", value: reason }]), reason);
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
    this.#finish(reason);
    down.respond(head);
    if (!bodiless) down.write(body, 0, body.length);
    down.end();
  }

  #finish(reason: Reason | undefined): void {
    if (this.#over) return;
    this.#over = true;
    if (this.wheel) this.#runtime.deadlines.disarm(this);
    this.#filtering?.over();
    const { metrics, accessLog } = this.#runtime;
    const milliseconds = turn.now - this.#down.began;
    const slot = this.#share?.slot ?? this.#rule?.slot ?? this.#runtime.unrouted;
    metrics.record(slot, this.#status, milliseconds);
    if (reason) metrics.ended(reason);
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
      flag: reason ? reasons[reason].flag : "-",
      route: this.#rule?.rule.name ?? "",
      backend: this.#share?.backend?.name ?? "",
      endpoint: this.#pool ? `${this.#pool.address}:${this.#pool.port}` : "",
      source: head.source,
      milliseconds: Math.round(milliseconds * 1000) / 1000,
      attempts: this.#attempts,
      requestId: head.headers.get("x-request-id") ?? head.headers.tailEnd,
    });
  }
}
