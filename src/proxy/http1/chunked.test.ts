import { expect, test } from "bun:test";
import fc from "fast-check";
import { Chunk, ChunkedDecoder } from "./chunked.ts";

interface Decoded {
  body: string;
  ended: boolean;
  malformed: boolean;
  trailers: [string, string][];
  rest: string;
}

/** Decodes a text that comes in the given pieces. */
function decode(...pieces: readonly string[]): Decoded {
  const decoder = new ChunkedDecoder();
  const result: Decoded = { body: "", ended: false, malformed: false, trailers: [], rest: "" };
  for (const piece of pieces) {
    const bytes = Buffer.from(piece, "latin1");
    if (result.ended) {
      result.rest += piece;
      continue;
    }
    let position = 0;
    for (;;) {
      const event = decoder.next(bytes, position);
      position = decoder.position;
      if (event === Chunk.data) {
        result.body += bytes.latin1Slice(decoder.start, decoder.stop);
        continue;
      }
      if (event === Chunk.malformed) return { ...result, malformed: true };
      if (event === Chunk.end) {
        result.ended = true;
        result.trailers = decoder.trailers?.entries() ?? [];
        result.rest = bytes.latin1Slice(position);
      }
      break;
    }
  }
  return result;
}

test("chunks are put together and what follows the last one is left", () => {
  expect(decode("5\r\nhello\r\n1;a=b\r\n \r\n6\r\nworld!\r\n0\r\n\r\nGET /")).toMatchObject({
    body: "hello world!",
    ended: true,
    rest: "GET /",
  });
});

test("a trailer section of which nothing may go on is none", () => {
  const decoder = new ChunkedDecoder();
  expect(decoder.next(Buffer.from("0\r\ncontent-length: 5\r\nhost: b\r\n\r\n"), 0)).toBe(Chunk.end);
  expect(decoder.trailers).toBeUndefined();
});

test("trailers are kept, but for those that frame or route", () => {
  const { trailers } = decode("0\r\nX-Sum: 12\r\ncontent-length: 5\r\nhost: b\r\n\r\n");
  expect(trailers).toEqual([["x-sum", "12"]]);
});

test("it does not matter where the pieces are cut", () => {
  const text = "5\r\nhello\r\nA;x\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\nrest";
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 1, max: text.length - 1 }), { maxLength: 8 }), (cuts) => {
      const at = [0, ...cuts.sort((a, b) => a - b), text.length];
      const pieces = at.slice(1).map((end, index) => text.slice(at[index], end));
      expect(decode(...pieces)).toEqual({
        body: "hello0123456789",
        ended: true,
        malformed: false,
        trailers: [["x-sum", "1"]],
        rest: "rest",
      });
    }),
  );
});

test.each([
  ["x\r\n"],
  ["\r\n"],
  ["-1\r\n"],
  ["+1\r\na\r\n"],
  ["0x1\r\na\r\n"],
  ["1\na\r\n"],
  ["1\r\nab"],
  ["1\r\na\n"],
  ["1\r\na\rb"],
  ["1 0\r\na\r\n"],
  ["1 a\r\na\r\n"],
  ["1;a\nb\r\n"],
  ["1;\0\r\n"],
  [`1;${"a".repeat(2000)}\r\n`],
  ["123456789abc\r\n"],
  ["0\r\nx : y\r\n\r\n"],
  ["0\r\n x: y\r\n\r\n"],
  [`0\r\nx: ${"y".repeat(9000)}`],
])("%j is malformed", (text) => {
  expect(decode(text)).toMatchObject({ malformed: true });
});
