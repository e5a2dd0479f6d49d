// One exchange's run through its filter chain: the request's handlers in order, with waiting; then the bodies through their
// stages; then the answer's handlers the other way round. It stands between the codecs and `forwarding.ts`, which has one only
// where a rule has filters.

import { copyHead, replaceRepresentation } from "./answer-head.ts";
import { type BodyStage, linkStages } from "./body-stage.ts";
import type { BodySink, Downstream, RequestHead, ResponseHead } from "./exchange.ts";
import { type FilterAnswer, type FilterExchange, type Handlers, type Replacement, waits } from "./filter.ts";
import { HeaderBlock, Kind } from "./headers.ts";
import { HeldBody } from "./held-body.ts";
import { type LocalAnswer, localAnswer } from "./local-answer.ts";
import { type Reason, reasons } from "./reason.ts";
import { inTurn } from "./wire.ts";

/** What filtering needs from `forwarding.ts`. */
export interface FilteredExchange extends BodySink {
  /** The request has passed: on with it. Its body follows by `write` and `end`. */
  passed(): void;
  /** What lines tell of the query. */
  tellQuery(query: string | undefined): void;
  /** Gives an answer of the proxy's own. */
  answerLocally(answer: LocalAnswer, reason: Reason): void;
  /** Ends the exchange for a reason of the proxy's own, whatever has happened so far. */
  failed(reason: Reason): void;
  /** The answer's head goes out now. */
  answered(head: ResponseHead): void;
  /** The backend's answer is not wanted any more, of which so many bytes are still to come (-1 not known). */
  dropAnswer(length: number): void;
  /** So many bytes of its body go out now. */
  sent(bytes: number): void;
  /** The answer is complete. */
  ended(reason: Reason | undefined): void;
  /** The backend may go on sending. */
  resumeAnswer(): void;
}

const noStages: readonly BodyStage[] = [];

const Phase = { request: 0, passing: 1, over: 2 } as const;

export class Filtering implements FilterExchange, BodySink {
  readonly path: string;
  readonly query: string | undefined;
  readonly authority: string;
  bodiless = false;
  delayed = false;
  readonly #handlers: readonly Handlers[];
  readonly #exchange: FilteredExchange;
  readonly #down: Downstream;
  #phase: number = Phase.request;
  #index = 0;
  #kept: Map<object, unknown> | undefined = undefined;

  // The verdict that a handler waits for.
  #running = false;
  #cancel: (() => void) | undefined = undefined;
  #verdict: FilterAnswer | "goOn" | undefined = undefined;

  // The request's body.
  readonly #held = new HeldBody();
  #requestStages: readonly BodyStage[] = noStages;
  #toBackend: BodySink;

  // The answer.
  #answer: ResponseHead | undefined = undefined;
  #localBody: Buffer | undefined = undefined;
  #reason: Reason | undefined = undefined;
  #responseIndex = 0;
  /** The backend's body goes nowhere: another one takes its place. */
  #dropping = false;
  #withheld = false;
  #replacement: Replacement | undefined = undefined;
  #responseStages: readonly BodyStage[] = noStages;
  #toClient: BodySink;

  constructor(handlers: readonly Handlers[], exchange: FilteredExchange, down: Downstream) {
    this.#handlers = handlers;
    this.#exchange = exchange;
    this.#down = down;
    this.#toBackend = exchange;
    this.#toClient = this;
    const { path, query, authority } = down.head;
    this.path = path;
    this.query = query;
    this.authority = authority;
  }

  get protocol(): Downstream["protocol"] {
    return this.#down.protocol;
  }

  get head(): RequestHead {
    return this.#down.head;
  }

  keep(of: object, value: unknown): void {
    this.#kept ??= new Map();
    this.#kept.set(of, value);
  }

  kept<T>(of: object): T | undefined {
    return this.#kept?.get(of) as T | undefined;
  }

  // ------------------------------------------------------------------------------------------------------ the request

  /** Runs the request's handlers, from where they are. */
  request(): void {
    const head = this.#down.head;
    this.#running = true;
    while (this.#index < this.#handlers.length) {
      const handler = this.#handlers[this.#index++]!.request;
      if (handler === undefined) continue;
      this.#verdict = undefined;
      const verdict = handler(head, this);
      if (this.#phase !== Phase.request) return;
      const settled = verdict === waits ? this.#takeVerdict() : verdict;
      if (settled === "goOn" || settled === undefined) {
        if (verdict === waits && settled === undefined) {
          this.#running = false;
          return;
        }
        continue;
      }
      this.#running = false;
      this.#refuse(settled);
      return;
    }
    this.#running = false;
    this.#pass();
  }

  /** What a waiting handler said before it returned. */
  #takeVerdict(): FilterAnswer | "goOn" | undefined {
    const verdict = this.#verdict;
    this.#verdict = undefined;
    if (verdict !== undefined) this.#cancel = undefined;
    return verdict;
  }

  wait(cancel: () => void): typeof waits {
    this.#cancel = cancel;
    return waits;
  }

  goOn(): void {
    if (this.#phase !== Phase.request) return;
    this.#cancel = undefined;
    if (this.#running) this.#verdict = "goOn";
    else inTurn(() => this.request());
  }

  answer(answer: FilterAnswer): void {
    if (this.#phase !== Phase.request) return;
    this.#cancel = undefined;
    if (this.#running) this.#verdict = answer;
    else inTurn(() => this.#refuse(answer));
  }

  #refuse(answer: FilterAnswer): void {
    const row = reasons[answer.reason];
    const headers = [...(answer.headers ?? []), { name: "x-fairlead-reason", value: answer.reason }];
    const body = answer.body ?? (row.text === "" ? "" : `${row.text}\n`);
    this.#stopRequest();
    this.#exchange.answerLocally(localAnswer(answer.status ?? row.status, body, headers), answer.reason);
  }

  /** The request goes on to the backend, and what came of its body follows. */
  #pass(): void {
    this.#phase = Phase.passing;
    const stages = this.#requestStages;
    if (stages.length > 0) {
      this.#toBackend = linkStages(stages, this.#exchange, () => this.#down.resumeBody());
    }
    this.#exchange.passed();
    if (this.#held.passTo(this.#toBackend, () => this.#isOver())) this.#down.resumeBody();
  }

  #isOver(): boolean {
    return this.#phase === Phase.over;
  }

  requestData(chunk: Buffer, start: number, end: number): boolean {
    if (this.#phase === Phase.passing) return this.#toBackend.write(chunk, start, end);
    if (this.#phase === Phase.over) return true;
    return this.#held.push(chunk, start, end);
  }

  requestEnd(trailers: HeaderBlock | undefined): void {
    if (this.#phase === Phase.passing) this.#toBackend.end(trailers);
    else if (this.#phase === Phase.request) this.#held.end(trailers);
  }

  /** The backend takes the request's body again. */
  requestDrained(): void {
    const last = this.#requestStages.at(-1);
    if (last) last.drained();
    else this.#down.resumeBody();
  }

  tellQuery(query: string | undefined): void {
    this.#exchange.tellQuery(query);
  }

  readBody(bytes: number, then: (chunks: readonly Buffer[], whole: boolean) => void): typeof waits {
    this.#cancel = () => {};
    const { headers, length } = this.#down.head;
    if (!this.#held.read(bytes, length === 0, then)) return waits;
    // A client that waits to be asked for its body is asked here, not by the backend.
    const expect = headers.at(Kind.expect);
    if (expect >= 0) {
      headers.drop(expect);
      this.#down.inform({ status: 100, phrase: "", headers: new HeaderBlock(), length: 0 });
    }
    if (this.#held.release()) this.#down.resumeBody();
    return waits;
  }

  putRequestStage(stage: BodyStage): void {
    if (this.#phase === Phase.request && this.head.upgrade === undefined)
      this.#requestStages = [...this.#requestStages, stage];
  }

  // ------------------------------------------------------------------------------------------------------- the answer

  /** The head of an answer: the backend's, or with `body` the proxy's own. */
  respond(head: ResponseHead, body?: Buffer, reason?: Reason): void {
    this.#stopRequest();
    this.#resetAnswer();
    this.#answer = head;
    this.#localBody = body;
    this.#reason = reason;
    this.bodiless = this.head.method === "HEAD" || head.status < 200 || head.status === 204 || head.status === 304;
    this.#responseIndex = this.#handlers.length - 1;
    this.#runResponse();
  }

  #runResponse(): void {
    this.#running = true;
    while (this.#responseIndex >= 0) {
      const handler = this.#handlers[this.#responseIndex--]!.response;
      if (handler === undefined) continue;
      this.#replacement = undefined;
      const verdict = handler(this.#answer!, this);
      if (verdict === undefined) continue;
      const replacement = verdict === waits ? this.#replacement : verdict;
      this.#dropBody();
      if (replacement === undefined) {
        this.#running = false;
        return;
      }
      this.#replaceBody(replacement);
    }
    this.#running = false;
    this.#sendAnswer();
  }

  replace(replacement: Replacement): void {
    if (this.#phase === Phase.over) return;
    this.#cancel = undefined;
    if (this.#running) this.#replacement = replacement;
    else
      inTurn(() => {
        this.#replaceBody(replacement);
        this.#runResponse();
      });
  }

  /** The body that came is not wanted. The head is kept, also when the backend's codec goes on to another answer. */
  #dropBody(): void {
    const head = this.#answer!;
    if (this.#localBody === undefined && !this.#dropping) {
      this.#answer = copyHead(head);
      this.#dropping = true;
      this.#exchange.dropAnswer(head.length);
    }
  }

  #replaceBody(replacement: Replacement): void {
    this.bodiless = this.head.method === "HEAD" || replacement.status === 204 || replacement.status === 304;
    replaceRepresentation(this.#answer!, replacement, this.bodiless);
    this.#localBody = replacement.body;
  }

  #sendAnswer(): void {
    const stages = this.#responseStages;
    if (stages.length > 0) this.#toClient = linkStages(stages, this, () => this.#writerResume());
    const body = this.#localBody;
    if (this.#withheld) this.#answer = body === undefined ? copyHead(this.#answer!) : this.#answer;
    else this.#answerNow();
    if (body === undefined || this.#isOver()) return;
    if (!this.bodiless && body.length > 0) this.#toClient.write(body, 0, body.length);
    if (!this.#isOver()) this.#toClient.end();
  }

  #answerNow(): void {
    this.#exchange.answered(this.#answer!);
  }

  putResponseStage(stage: BodyStage): void {
    if (!this.bodiless) this.#responseStages = [...this.#responseStages, stage];
  }

  holdAnswer(): void {
    if (!this.bodiless) this.#withheld = true;
  }

  releaseAnswer(): void {
    if (!this.#withheld) return;
    this.#withheld = false;
    this.#answerNow();
  }

  /** Whether the backend's answer was thrown away for another one. */
  get dropping(): boolean {
    return this.#dropping;
  }

  responseData(chunk: Buffer, start: number, end: number): boolean {
    return this.#dropping || this.#toClient.write(chunk, start, end);
  }

  responseEnd(trailers: HeaderBlock | undefined): void {
    if (!this.#dropping) this.#toClient.end(trailers);
  }

  /** The answer ends here and not well, which its trailers say. */
  cutOff(trailers: HeaderBlock, reason: Reason): void {
    this.#reason = reason;
    this.#toClient.end(trailers);
  }

  /** The client takes again. */
  responseDrained(): void {
    const last = this.#responseStages.at(-1);
    if (last) last.drained();
    else this.#writerResume();
  }

  #writerResume(): void {
    if (this.#localBody === undefined) this.#exchange.resumeAnswer();
  }

  /** Where answers leave the filters. */
  write(chunk: Buffer, start: number, end: number): boolean {
    this.#exchange.sent(end - start);
    return this.#down.write(chunk, start, end);
  }

  end(trailers?: HeaderBlock): void {
    this.#phase = Phase.over;
    this.#exchange.ended(this.#reason);
    this.#down.end(trailers);
  }

  // ---------------------------------------------------------------------------------------------------------- the end

  fail(reason: Reason): void {
    if (this.#phase !== Phase.over) inTurn(() => this.#exchange.failed(reason));
  }

  /** No verdict is waited for any more, and no body is wanted. */
  #stopRequest(): void {
    if (this.#phase === Phase.request) this.#phase = Phase.passing;
    this.#running = false;
    this.#held.drop();
    const cancel = this.#cancel;
    this.#cancel = undefined;
    cancel?.();
  }

  #resetAnswer(): void {
    for (const stage of this.#responseStages) stage.cancel();
    this.#responseStages = noStages;
    this.#toClient = this;
    this.#withheld = false;
    this.#dropping = false;
  }

  /** The exchange is over. */
  over(): void {
    this.#phase = Phase.over;
    this.#stopRequest();
    for (const stage of this.#requestStages) stage.cancel();
    for (const stage of this.#responseStages) stage.cancel();
  }
}
