// The tries of one request, where a policy has a say in them: whom to ask (hash, session, not those that failed before), what the
// endpoint's health is told of each, and whether there is another and when. `forwarding.ts` makes the tries; the rules themselves
// are in `upstream/`. A request has one of these only where its rule or its backend asks for it, or when its first try has failed.

import type { Retry } from "../model/upstream-policies.ts";
import type { Repeat, RequestHead, ResponseHead } from "./exchange.ts";
import { isGrpc } from "./local-answer.ts";
import type { Reason } from "./reason.ts";
import type { BackendRuntime } from "./upstream/backend.ts";
import { httpStatusOfGrpc } from "./upstream/grpc-status.ts";
import type { EndpointPool } from "./upstream/pool.ts";
import { backoff, retryAfter, retryReason, type TryOutcome } from "./upstream/retry-decision.ts";
import type { Selection } from "./upstream/selection.ts";
import { turn } from "./wire.ts";

/** Further tries that need no policy because they cannot harm: nothing was sent, or nothing was read. */
const maxHarmless = 2;
/** Methods that may be sent twice (RFC 9110 §9.2.2). */
const idempotent = new Set(["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"]);
const nobody: readonly EndpointPool[] = [];
const noPriorities: readonly number[] = [];

/** What a try came to, and what the codec says about doing it again. */
export interface FailedTry {
  readonly outcome: TryOutcome;
  readonly repeat: Repeat;
  /** Of an answer. */
  readonly retryAfter?: string | undefined;
}

export const unconnectedTry: FailedTry = { outcome: { kind: "connect-failure" }, repeat: "never" };
export const lateTry: FailedTry = { outcome: { kind: "timeout" }, repeat: "never" };

/** A try that has an answer, which may not be the one that is wanted. */
export function answeredTry({ status, headers }: ResponseHead): FailedTry {
  const grpc = headers.get("grpc-status");
  const outcome = { kind: "status", status, fields: headers } as const;
  const told = grpc === undefined ? outcome : { ...outcome, grpcStatus: Number(grpc) };
  return { outcome: told, repeat: "never", retryAfter: headers.get("retry-after") };
}

/** A try that the codec gave up; undefined where there is never another after it. */
export function failedTry(reason: Reason, repeat: Repeat): FailedTry | undefined {
  const outcome = repeat === "always" ? refused : failures[reason];
  return outcome && { outcome, repeat };
}

const refused = { kind: "refused" } as const;
const failures: Partial<Readonly<Record<Reason, TryOutcome>>> = {
  upstream_closed: { kind: "reset", sent: true },
  upstream_reset: { kind: "reset", sent: true },
  upstream_malformed: { kind: "reset", sent: true },
};

export class Attempts implements Selection {
  hash: number | undefined = undefined;
  /** The cookie that the answer sets, so that the hash stays the same. */
  setCookie: string | undefined = undefined;
  kept: EndpointPool | undefined = undefined;
  avoid: readonly EndpointPool[] = nobody;
  leftOut: readonly number[] = noPriorities;
  /** Envoy's flag of a request that was not tried again: no try left (URX), or no budget (UO). */
  limited: "URX" | "UO" | undefined = undefined;
  readonly #backend: BackendRuntime;
  readonly #retry: Retry | undefined;
  readonly #head: RequestHead;
  readonly #grpc: boolean;
  /** Where the try under way is, and since when, until its result is told. */
  #at: EndpointPool | undefined = undefined;
  #since = 0;
  #retries = 0;
  /** Priorities of the tries that failed, since some were left out last for want of others. */
  #tried: number[] = [];
  /** When no further try may begin any more. */
  #last = Number.POSITIVE_INFINITY;
  #harmless = 0;
  /** The try under way is in the backend's budget. */
  #budgeted = false;

  constructor(backend: BackendRuntime, retry: Retry | undefined, head: RequestHead, now: number) {
    this.#backend = backend;
    this.#retry = retry;
    this.#head = head;
    this.#grpc = backend.watch !== undefined && isGrpc(head.headers);
    backend.budget.request(now);
  }

  get retries(): boolean {
    return this.#retry !== undefined;
  }

  /** A try whose time is over goes on beside the next one. */
  get hedges(): boolean {
    return this.#retry?.hedge === true && this.#mayRepeat(this.#retry);
  }

  /** The first try begins. */
  begin(now: number): void {
    const within = this.#retry?.within ?? 0;
    if (within > 0) this.#last = now + within;
  }

  // ------------------------------------------------------------------------------------------- what health is told of

  took(pool: EndpointPool): void {
    if (this.#at && this.#at !== pool) this.#backend.watch?.abandoned(this.#at);
    this.#at = pool;
    this.#backend.watch?.taken(pool);
  }

  /** The request goes to this endpoint now, which may be another than the one that was chosen. */
  connected(pool: EndpointPool): void {
    if (pool !== this.#at) this.took(pool);
    this.#since = turn.now;
  }

  /** The head of the answer is there. */
  responded(head: ResponseHead): void {
    const status = this.#statusOf(head);
    if (status !== undefined) this.#told(status);
  }

  /** What health is told; undefined where a call of gRPC says only at its end what it came to. */
  #statusOf({ status, headers }: ResponseHead): number | undefined {
    if (!this.#grpc) return status;
    const code = headers.get("grpc-status");
    if (status !== 200) return status;
    return code === undefined ? undefined : httpStatusOfGrpc(Number(code));
  }

  /** A try that was late has an answer. `counts`: it is the one that is wanted, and the try under way is given up. */
  lateAnswer(pool: EndpointPool, since: number, head: ResponseHead, counts: boolean): void {
    if (counts) this.#abandon();
    const status = this.#statusOf(head);
    if (status !== undefined) this.#backend.watch?.answered(pool, status, turn.now - since);
    else if (counts) {
      this.#at = pool;
      this.#since = since;
    }
  }

  /** The answer is complete. `code` is the grpc-status of its trailers. */
  completed(code: string | undefined): void {
    if (this.#at) this.#told(code === undefined ? 200 : httpStatusOfGrpc(Number(code)));
  }

  #told(status: number): void {
    const pool = this.#at;
    this.#at = undefined;
    if (pool) this.#backend.watch?.answered(pool, status, turn.now - this.#since);
  }

  /** The try has failed, before or after it began; when that was, by `turn.now`. */
  failed(pool: EndpointPool | undefined, kind: "connectFailure" | "timeout"): number {
    const at = pool ?? this.#at;
    this.#at = undefined;
    if (at) this.#backend.watch?.failed(at, kind, turn.now - this.#since);
    return this.#since;
  }

  #abandon(): void {
    if (this.#at) this.#backend.watch?.abandoned(this.#at);
    this.#at = undefined;
  }

  /** The request is over. */
  end(): void {
    this.giveBack(this.leaveBudgeted());
    this.#abandon();
  }

  // ------------------------------------------------------------------------------------------------------- the budget

  /** Whether the try under way is in the backend's budget; whoever asks gives it back. */
  leaveBudgeted(): boolean {
    const budgeted = this.#budgeted;
    this.#budgeted = false;
    return budgeted;
  }

  /** A try is over that was in the budget, or not. */
  giveBack(budgeted: boolean): void {
    if (budgeted) this.#backend.budget.done();
  }

  // -------------------------------------------------------------------------------------------------- another try

  /**
   * Milliseconds until the next try; undefined when there is none. `whole`: the request's body can be sent again from its
   * beginning. `pool` is where the try was.
   */
  again(
    pool: EndpointPool,
    { outcome, repeat, retryAfter: field }: FailedTry,
    whole: boolean,
    now: number,
  ): number | undefined {
    this.giveBack(this.leaveBudgeted());
    const unsent = outcome.kind === "connect-failure";
    if (!whole && !unsent) return undefined;
    if (now > this.#last) {
      this.limited = "URX";
      return undefined;
    }
    // The endpoint is well, only the connection was old or about to close: it is asked again.
    const stale = repeat === "always" || (repeat === "idempotent" && idempotent.has(this.#head.method));
    if (stale || (unsent && this.#retry === undefined)) {
      if (this.#harmless < maxHarmless) {
        this.#harmless++;
        if (unsent) this.#elsewhere(pool);
        return this.#backend.usable > 0 ? 0 : undefined;
      }
    }
    const retry = this.#retry;
    return retry && this.#wants(retry, outcome) ? this.#next(retry, pool, field, now) : undefined;
  }

  /**
   * The same beside a try at `pool` whose time is over, for rules that hedge: under whatever condition (Envoy:
   * shouldHedgeRetryPerTryTimeout).
   */
  hedge(pool: EndpointPool | undefined, now: number): number | undefined {
    this.giveBack(this.leaveBudgeted());
    return this.#next(this.#retry!, pool, undefined, now);
  }

  /** Whether the policy wants another answer than this one, tries being left or not. */
  wantsOther({ outcome }: FailedTry): boolean {
    return this.#retry !== undefined && this.#wants(this.#retry, outcome);
  }

  #wants(retry: Retry, outcome: TryOutcome): boolean {
    return this.#mayRepeat(retry) && retryReason(retry, outcome) !== undefined;
  }

  #mayRepeat({ methods }: Retry): boolean {
    return !methods || methods.includes(this.#head.method);
  }

  #next(retry: Retry, pool: EndpointPool | undefined, field: string | undefined, now: number): number | undefined {
    if (this.#retries >= retry.attempts) {
      this.limited = "URX";
      return undefined;
    }
    const asked = retry.retryAfter === undefined ? undefined : retryAfter(field, now);
    const pause = asked !== undefined && asked <= retry.retryAfter! ? asked : backoff(retry.backoff, this.#retries + 1);
    if (now + pause > this.#last) {
      this.limited = "URX";
      return undefined;
    }
    const backend = this.#backend;
    if (!backend.budget.retry(backend.active, now)) {
      this.limited = "UO";
      backend.retryOverflows++;
      return undefined;
    }
    this.#budgeted = true;
    this.#retries++;
    if (retry.elsewhere && pool) this.#elsewhere(pool);
    if (retry.otherPriorities !== undefined && pool) this.#atOtherPriorities(pool.priority, retry.otherPriorities);
    return pause;
  }

  /** `each`: after so many tries. When all have been tried it begins anew (Envoy: PreviousPrioritiesRetryPriority). */
  #atOtherPriorities(priority: number, each: number): void {
    this.#tried.push(priority);
    if (this.#tried.length % each !== 0) return;
    this.leftOut = [...new Set(this.#tried)];
    if (this.#backend.usableBeside(this.leftOut)) return;
    this.leftOut = noPriorities;
    this.#tried = [];
  }

  #elsewhere(pool: EndpointPool): void {
    this.avoid = [...this.avoid, pool];
  }
}
