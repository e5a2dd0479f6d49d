// A filter: one kind of the model's `Filter` made ready to run. What it needs is computed when a route table is compiled; a
// rule's chain holds exactly the handlers it needs, so a filter that is not configured costs nothing. How a chain is run for
// one exchange is `filtering.ts`, in which order is `filters/order.ts`.

import type { Filter as FilterConfig, HeaderValue, PathMatch } from "../model/model.ts";
import type { BodyStage } from "./body-stage.ts";
import type { Downstream, RequestHead, ResponseHead } from "./exchange.ts";
import type { FilterRuntime } from "./filters/runtime.ts";
import type { Reason } from "./reason.ts";

/** What a handler returns that has begun something, and will call `goOn` or `answer`. */
export const waits = Symbol("waits");

/** An answer instead of going on, or in place of the one that came. */
export interface FilterAnswer {
  /** For logs, metrics and `x-fairlead-reason`. */
  readonly reason: Reason;
  /** Absent: the reason's. */
  readonly status?: number;
  readonly headers?: readonly HeaderValue[];
  /** Absent: the reason's text. */
  readonly body?: string | Buffer;
}

/** Another body (and perhaps status) for an answer; fields that do not speak of the body stay (`www-authenticate`, cookies). */
export interface Replacement {
  readonly status: number;
  readonly headers: readonly HeaderValue[];
  readonly body: Buffer;
}

/** `undefined` goes on to the next filter. */
export type RequestVerdict = undefined | FilterAnswer | typeof waits;
export type ResponseVerdict = undefined | Replacement | typeof waits;

/** The exchange that a chain runs for, as handlers see it. Valid until the exchange is over; calls after that do nothing. */
export interface FilterExchange {
  /** As it is now; other filters may have changed it. */
  readonly head: RequestHead;
  /** The request as it came: rewrites start from it, also after another rewrite. */
  readonly path: string;
  readonly query: string | undefined;
  readonly authority: string;
  readonly protocol: Downstream["protocol"];
  /** Whether the answer in hand has no body, whatever its fields say (HEAD, 1xx, 204, 304). */
  readonly bodiless: boolean;
  /** Set by who holds the request back on purpose: it is told of with it. */
  delayed: boolean;

  /** Lines tell this as the request's query: what was taken out of it was a secret. */
  tellQuery(query: string | undefined): void;

  /** What a filter knows from the request when the answer comes. `of` is what tells it from other filters. */
  keep(of: object, value: unknown): void;
  kept<T>(of: object): T | undefined;

  /**
   * To be returned by a handler whose verdict comes later; `goOn` or `answer` (in an answer's handler: `replace`) must follow,
   * also before it returns. `cancel` is called when the client leaves or the request's time is over, and nothing must follow.
   */
  wait(cancel: () => void): typeof waits;
  goOn(): void;
  answer(answer: FilterAnswer): void;
  /** Undefined leaves the answer as it is, if its body was not thrown away meanwhile: then it goes without. */
  replace(replacement: Replacement): void;

  /** Reads the request's body, up to `bytes` of it, before it goes on. `whole` is false when there is more. Returns `waits`. */
  readBody(bytes: number, then: (chunks: readonly Buffer[], whole: boolean) => void): typeof waits;
  /** Puts a stage behind those that are there, into the way of the request's body or of the answer's. */
  putRequestStage(stage: BodyStage): void;
  putResponseStage(stage: BodyStage): void;
  /** The answer's head waits until a stage calls `releaseAnswer`. */
  holdAnswer(): void;
  releaseAnswer(): void;
  /** Of a stage: the exchange cannot go on. */
  fail(reason: Reason): void;
}

export interface Handlers {
  readonly request?: (head: RequestHead, exchange: FilterExchange) => RequestVerdict;
  readonly response?: (head: ResponseHead, exchange: FilterExchange) => ResponseVerdict;
}

export interface Filter<Kind extends FilterConfig["kind"]> {
  readonly kind: Kind;
  /** `match` is the path condition of the rule that it is for. Throws an Error when the filter cannot be taken. */
  compile(
    config: Extract<FilterConfig, { kind: Kind }>,
    runtime: FilterRuntime,
    match: PathMatch | undefined,
  ): Handlers;
}
