// Holds bodies back until they are whole: a request's, so that a backend is not kept busy by a slow client, and an answer's, so
// that one that breaks off never reaches the client half. A longer request is refused, a longer answer flows from there on.

import { BodyStage } from "../body-stage.ts";
import type { Filter, FilterExchange } from "../filter.ts";
import type { HeaderBlock } from "../headers.ts";

export const buffering: Filter<"buffering"> = {
  kind: "buffering",
  compile: ({ request, response }) => ({
    ...(request === undefined
      ? {}
      : {
          request(head, exchange) {
            if (head.upgrade !== undefined || head.length === 0) return undefined;
            if (head.length > request) return { reason: "body_too_large" };
            return exchange.readBody(request, (_chunks, whole) => {
              if (whole) exchange.goOn();
              else exchange.answer({ reason: "body_too_large" });
            });
          },
        }),
    ...(response === undefined
      ? {}
      : {
          response(head, exchange) {
            // Server-sent events never end, and what is known to be longer need not wait.
            const type = head.headers.get("content-type") ?? "";
            if (exchange.bodiless || head.length > response || type.startsWith("text/event-stream")) return undefined;
            exchange.holdAnswer();
            exchange.putResponseStage(new Holding(response, exchange));
            return undefined;
          },
        }),
  }),
};

class Holding extends BodyStage {
  readonly #bytes: number;
  readonly #exchange: FilterExchange;
  #held: { chunk: Buffer; start: number; end: number }[] | undefined = [];
  #heldBytes = 0;

  constructor(bytes: number, exchange: FilterExchange) {
    super();
    this.#bytes = bytes;
    this.#exchange = exchange;
  }

  override write(chunk: Buffer, start: number, end: number): boolean {
    if (this.#held === undefined) return this.next.write(chunk, start, end);
    this.#held.push({ chunk, start, end });
    this.#heldBytes += end - start;
    return this.#heldBytes <= this.#bytes || this.#release();
  }

  override end(trailers?: HeaderBlock): void {
    if (this.#held) this.#release();
    this.next.end(trailers);
  }

  #release(): boolean {
    const held = this.#held!;
    this.#held = undefined;
    this.#exchange.releaseAnswer();
    let goOn = true;
    for (const { chunk, start, end } of held) goOn = this.next.write(chunk, start, end);
    return goOn;
  }

  override cancel(): void {
    this.#held = [];
  }
}
