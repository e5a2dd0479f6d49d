// The tries of one request: a connection for each, the request sent on it as far as it has come, and what follows when it gives no
// answer or not one that is wanted: another try, one beside it where the rule hedges, or an answer of the proxy's own. Between two
// codecs, of which it knows only `exchange.ts`. Whether there is another try is `attempts.ts`, the way in is `forwarding.ts`.

import { Answering, attemptHeader } from "./answering.ts";
import { Attempts, answeredTry, type FailedTry, failedTry, lateTry, unconnectedTry } from "./attempts.ts";
import type { Repeat, ResponseHead, Upstream, UpstreamEvents } from "./exchange.ts";
import { tellTimeout } from "./grpc-timeout.ts";
import type { HeaderBlock } from "./headers.ts";
import { type LateOwner, LateTry } from "./late-try.ts";
import type { ProxyAddresses } from "./listener/proxy-protocol.ts";
import { OneTry } from "./one-try.ts";
import { tokenFor } from "./persistence.ts";
import type { Reason } from "./reason.ts";
import { type DueTime, RequestTimes, type TimedRequest } from "./request-times.ts";
import type { EndpointPool, HttpVersion, Waiter } from "./upstream/pool.ts";
import { turn } from "./wire.ts";

/** Bytes of an answer that nobody wants and that are read all the same, so that the connection stays. */
const maxDropped = 64 * 1024;

export const noBytes: readonly Buffer[] = [];

export abstract class Trying extends Answering implements UpstreamEvents, Waiter, TimedRequest, LateOwner {
  protected connection: Upstream | undefined = undefined;
  /** Body so far, while it may have to be sent (again). */
  protected body: Buffer[] | readonly Buffer[] = noBytes;
  protected replayable = true;
  /** Bytes of the request's body that have left the filters. */
  protected bytesPassed = 0;
  protected requestDone = false;
  protected requestTrailers: HeaderBlock | undefined = undefined;
  /** The client's body is held back, until the backend takes it. */
  protected holding = false;
  /** The head of an answer came that is not for another try to better. */
  protected answerCame = false;
  /** The caller has said how long it waits, and the backend is told what is left of it. */
  protected callTimed = false;
  #waiting = false;
  /** Where the rule says when to try again: the try under way. */
  #oneTry: OneTry | undefined = undefined;
  /** Only where the rule hedges and a try was late. */
  #late: Set<LateTry> | undefined = undefined;

  protected newAttempts(): Attempts {
    const { backend } = this.share!;
    this.attempts = new Attempts(backend!, this.rule!.rule.retry, this.down.head, this.runtime.deadlines.now());
    return this.attempts;
  }

  protected timing(): RequestTimes {
    this.times ??= new RequestTimes(this, this.runtime.deadlines, this.rule!.idleTimeout, turn.now);
    return this.times;
  }

  // -------------------------------------------------------------------------------------------------------- one try

  protected try(): void {
    this.tries++;
    if (this.tries > 1) this.runtime.metrics.retries++;
    else this.attempts?.begin(this.runtime.deadlines.now());
    const timeout = this.rule!.tryTimeout;
    if (timeout > 0) this.timing().endAt("try", this.runtime.deadlines.now() + timeout);
    this.#waiting = true;
    const problem = this.share!.backend!.acquire(this, this.attempts);
    if (problem) this.#unanswered(problem);
  }

  connected(connection: Upstream, pool: EndpointPool): void {
    this.#waiting = false;
    this.connection = connection;
    this.pool = pool;
    this.watched?.connected(connection);
    if (this.attempts) this.#begin(this.attempts, connection, pool);
    else connection.begin(this);
    if (this.callTimed) tellTimeout(this.down.head.headers, this.times!.request - this.runtime.deadlines.now());
    connection.send(this.down.head);
    let goOn = true;
    for (let index = 0; index < this.body.length; index++) {
      const chunk = this.body[index]!;
      goOn = connection.write(chunk, 0, chunk.length);
    }
    if (this.requestDone) connection.end(this.requestTrailers);
    else if (goOn) this.upstreamDrained();
    if (this.down.crowded) connection.holdAnswer?.();
  }

  #begin(attempts: Attempts, connection: Upstream, pool: EndpointPool): void {
    attempts.connected(pool);
    if (attempts.retries) {
      this.#oneTry = new OneTry(this);
      connection.begin(this.#oneTry);
    } else connection.begin(this);
    if (this.rule!.rule.attemptCount?.request) this.down.head.headers.set(attemptHeader, String(this.tries));
  }

  get clientProtocol(): HttpVersion {
    return this.down.protocol === "HTTP/2" ? "h2c" : "http1";
  }

  addresses(): ProxyAddresses {
    return this.down.forwardingLines.addresses!;
  }

  notConnected(reason: Reason, pool: EndpointPool | undefined): void {
    this.#waiting = false;
    if (!pool) {
      this.#unanswered(reason);
      return;
    }
    this.pool = pool;
    this.attempts?.failed(pool, "connectFailure");
    if (!this.#again(unconnectedTry)) this.#unanswered(reason);
  }

  // ---------------------------------------------------------------------------------------------------- another try

  /** Tries again now or later, if it may. */
  #again(failed: FailedTry): boolean {
    const attempts = this.attempts ?? this.newAttempts();
    return this.#next(attempts.again(this.pool!, failed, this.#whole, this.runtime.deadlines.now()));
  }

  /** The request can be sent from its beginning. */
  get #whole(): boolean {
    return this.replayable || this.bytesPassed === 0;
  }

  /** The next try is in so many milliseconds, or (false) not at all. */
  #next(pause: number | undefined): boolean {
    if (pause === undefined) return false;
    if (this.times) this.times.try = Number.POSITIVE_INFINITY;
    if (pause === 0) this.try();
    else this.timing().endAt("again", this.runtime.deadlines.now() + pause);
    return true;
  }

  tryAgain(): void {
    if (!this.over) this.try();
  }

  /** The last try has no answer, and there is no other: that is the end, unless a late one goes on. */
  #unanswered(reason: Reason): void {
    this.#waiting = false;
    if (this.#late === undefined || this.#late.size === 0) this.answer(reason);
    else if (this.times) this.times.try = Number.POSITIVE_INFINITY;
  }

  // -------------------------------------------------------------------------------------------------------- hedging

  /** The try's time is over: it goes on beside the next one, if the rule hedges. True: something may still come. */
  #hedge(): boolean {
    const { attempts } = this;
    // With some of the body still to come two backends would have to take it at once.
    if (!attempts?.hedges || !this.requestDone || !this.#whole || this.down.head.upgrade !== undefined) return false;
    this.times!.try = Number.POSITIVE_INFINITY;
    const since = attempts.failed(undefined, "timeout");
    const { pool, connection } = this;
    if (connection) {
      this.#late ??= new Set();
      const late = { since, budgeted: attempts.leaveBudgeted() };
      this.#late.add(new LateTry(this, this.#oneTry!, connection, pool!, late));
      this.connection = undefined;
    } else this.#letGo();
    this.times!.arm();
    const goesOn = this.#next(attempts.hedge(pool, this.runtime.deadlines.now())) || connection !== undefined;
    // Its answer may have been held back for a crowded client: nobody would let it go on.
    connection?.resumeBody();
    return goesOn || (this.#late !== undefined && this.#late.size > 0);
  }

  lateAnswered(late: LateTry, head: ResponseHead): void {
    const attempts = this.attempts!;
    this.times!.moved(turn.now);
    this.#late!.delete(late);
    attempts.giveBack(late.budgeted);
    const others = this.#late!.size > 0 || this.connection || this.#waiting || this.times!.isPausing;
    const counts = !others || !attempts.wantsOther(answeredTry(head));
    attempts.lateAnswer(late.pool, late.since, head, counts);
    if (!counts) {
      late.oneTry.dismiss();
      if (isLong(head)) late.connection.cancel();
      return;
    }
    this.#letGo();
    this.connection = late.connection;
    this.pool = late.pool;
    this.#oneTry = late.oneTry;
    late.oneTry.goTo(this);
    this.#takeAnswer(head);
  }

  lateFailed(late: LateTry, reason: Reason): void {
    this.#late!.delete(late);
    this.attempts!.giveBack(late.budgeted);
    if (!this.connection && !this.#waiting && !this.times!.isPausing) this.#unanswered(reason);
  }

  #cancelLate(): void {
    for (const late of this.#late!) {
      this.#late!.delete(late);
      this.attempts!.giveBack(late.budgeted);
      late.cancel();
    }
  }

  // ----------------------------------------------------------------------------------------- events from the backend

  abstract upstreamDrained(): void;

  informed(head: ResponseHead): void {
    this.down.inform(head);
  }

  responded(head: ResponseHead): void {
    this.times?.moved(turn.now);
    const { attempts } = this;
    if (attempts) {
      attempts.responded(head);
      if (attempts.retries && this.#againAfter(attempts, head)) return;
    }
    this.#takeAnswer(head);
  }

  /** Whether the policy wants another answer than this one: then its rest goes nowhere. */
  #againAfter(attempts: Attempts, head: ResponseHead): boolean {
    if (head.status < 200) return false;
    const { connection } = this;
    const oneTry = this.#oneTry;
    const answered = answeredTry(head);
    // Never within the codec that is at work: a pause of 0 is one of a tick of the wheel.
    if (!this.#again(answered)) {
      if (!this.#late?.size || !attempts.wantsOther(answered)) return false;
      this.times!.try = Number.POSITIVE_INFINITY;
    }
    oneTry?.dismiss();
    if (this.connection === connection) this.connection = undefined;
    if (!this.requestDone || isLong(head)) connection?.cancel();
    return true;
  }

  /** This is the answer that the client gets: no other is waited for, and no try's time ends it. */
  #takeAnswer(head: ResponseHead): void {
    this.answerCame = true;
    if (this.#late?.size) this.#cancelLate();
    if (this.times) this.#untime(this.times, head.status);
    if (this.attempts) this.#tell(head);
    this.watched?.responded();
    this.body = noBytes;
    if (this.filtering) this.filtering.respond(head);
    else this.answered(head);
  }

  #untime(times: RequestTimes, status: number): void {
    times.try = Number.POSITIVE_INFINITY;
    // A tunnel is no request any more: `idle` and `stream` are its times.
    if (status === 101) times.request = times.response = Number.POSITIVE_INFINITY;
  }

  /** What the answer must tell the client, so that it stays with what it got. */
  #tell({ headers }: ResponseHead): void {
    const cookie = this.attempts!.setCookie;
    if (cookie !== undefined) headers.add("set-cookie", cookie);
    const { persistence, attemptCount } = this.rule!.rule;
    const field = persistence && tokenFor(persistence, this.share!, this.pool!, this.down.head);
    if (field) headers.add(field[0], field[1]);
    if (attemptCount?.response) headers.set(attemptHeader, String(this.tries));
  }

  responseHalfEnd(): void {
    // Where something else was answered nobody sends any more.
    if (this.over) this.dropAnswer(-1);
    else this.down.halfEnd();
  }

  responseEnd(trailers: HeaderBlock | undefined): void {
    const { connection } = this;
    this.connection = undefined;
    this.attempts?.completed(trailers?.get("grpc-status"));
    if (trailers !== undefined && !this.filtering?.dropping) this.watched?.ending(trailers);
    // The rest of the request's body has nowhere to go.
    if (!this.requestDone) connection?.cancel();
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
    const { connection } = this;
    this.connection = undefined;
    connection?.cancel();
  }

  upstreamFailed(reason: Reason, repeat: Repeat): void {
    this.connection = undefined;
    if (this.over) return;
    if (repeat === "never") this.attempts?.failed(undefined, reason === "upstream_idle" ? "timeout" : "connectFailure");
    // An answer that filters hold back, or have dropped, is as good as none; but its request was served.
    if (this.status !== 0) {
      this.cutOff(reason);
      return;
    }
    if (this.filtering?.dropping) return;
    const failed = failedTry(reason, repeat);
    if (!failed || this.answerCame || !this.#again(failed)) this.#unanswered(reason);
  }

  // ------------------------------------------------------------------------------------------- times, and letting go

  timedOut(reason: Exclude<DueTime, "again">): void {
    if (this.over || (reason === "try_timeout" && this.#hedge())) return;
    this.attempts?.failed(undefined, "timeout");
    this.giveUp();
    if (this.status !== 0) this.cutOff(reason);
    else if (reason !== "try_timeout" || !this.#again(lateTry)) this.answer(reason);
  }

  protected giveUp(): void {
    this.#letGo();
    if (this.#late?.size) this.#cancelLate();
  }

  /** Lets go of the try under way, or the pause before it. */
  #letGo(): void {
    if (this.#waiting) this.share?.backend?.forget(this);
    this.#waiting = false;
    if (this.times) this.times.again = Number.POSITIVE_INFINITY;
    const { connection } = this;
    this.connection = undefined;
    connection?.cancel();
  }
}

function isLong({ length }: ResponseHead): boolean {
  return length < 0 || length > maxDropped;
}
