// 413 for requests whose body is longer than allowed: at once where the length is given, else as soon as it is passed.

import { BodyStage } from "../body-stage.ts";
import type { Filter, FilterExchange } from "../filter.ts";

export const bodyLimit: Filter<"bodyLimit"> = {
  kind: "bodyLimit",
  compile: ({ bytes }) => ({
    request(head, exchange) {
      if (head.length > bytes) return { reason: "body_too_large" };
      if (head.length < 0) exchange.putRequestStage(new Counting(bytes, exchange));
      return undefined;
    },
  }),
};

class Counting extends BodyStage {
  #left: number;
  readonly #exchange: FilterExchange;

  constructor(bytes: number, exchange: FilterExchange) {
    super();
    this.#left = bytes;
    this.#exchange = exchange;
  }

  override write(chunk: Buffer, start: number, end: number): boolean {
    this.#left -= end - start;
    if (this.#left >= 0) return this.next.write(chunk, start, end);
    this.#exchange.fail("body_too_large");
    return true;
  }
}
