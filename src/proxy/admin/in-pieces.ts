// Answers of the admin interface that may be large: texts in pieces, made in slices of about a millisecond between which requests
// are served, and no faster than who asked reads them.

import { otherTurn } from "../../base/steps.ts";

/** Milliseconds of work between two turns of the event loop. */
const slice = 1;
/** Characters that are handed on at once. */
const pieceLength = 64 * 1024;

/** Of Prometheus' text format. */
export const prometheusType = "text/plain; version=0.0.4; charset=utf-8";

/** An answer of JSON, unless it is of another type. When `pieces` throws, the answer is cut off. */
export function inPieces(pieces: Iterable<string>, type = "application/json;charset=utf-8"): Response {
  const texts = pieces[Symbol.iterator]();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      let text = "";
      for (;;) {
        await otherTurn();
        const end = performance.now() + slice;
        do {
          const next = texts.next();
          if (next.done) {
            if (text !== "") controller.enqueue(Buffer.from(text));
            controller.close();
            return;
          }
          text += next.value;
        } while (text.length < pieceLength && performance.now() < end);
        if (text.length < pieceLength) continue;
        controller.enqueue(Buffer.from(text));
        return;
      }
    },
    cancel() {
      texts.return?.();
    },
  });
  return new Response(body, { headers: { "content-type": type } });
}

/** A list, an element a piece. */
export function* listPieces(values: Iterable<unknown>): Generator<string> {
  yield* listOfPieces(values, function* (value) {
    yield JSON.stringify(value);
  });
}

/** A list whose elements are pieces themselves. */
export function* listOfPieces<T>(values: Iterable<T>, pieces: (value: T) => Iterable<string>): Generator<string> {
  let before = "[";
  for (const value of values) {
    yield before;
    yield* pieces(value);
    before = ",";
  }
  yield before === "[" ? "[]" : "]";
}

/** An object: its fields as they are, and behind them lists by name. */
export function* objectPieces(
  fields: object,
  lists: readonly (readonly [name: string, pieces: Iterable<string>])[],
): Generator<string> {
  const text = JSON.stringify(fields);
  let before = text === "{}" ? "{" : `${text.slice(0, -1)},`;
  for (const [name, pieces] of lists) {
    yield `${before}${JSON.stringify(name)}:`;
    yield* pieces;
    before = ",";
  }
  yield lists.length === 0 ? text : "}";
}
