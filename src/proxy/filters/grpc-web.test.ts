import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { HeaderBlock } from "../headers.ts";
import { decode, trailersMessage } from "./grpc-web.ts";

describe("base64 of the text form", () => {
  test("comes in pieces that each have their padding", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 20 })), (pieces) => {
        const text = pieces.map((piece) => Buffer.from(piece).toString("base64")).join("");
        expect(decode(text)).toEqual(Buffer.concat(pieces));
      }),
    );
  });

  test.each(["AAA\n", "AA=A", "====", "A===", "AAAA====", "AA-_", "AA==A=AA", "\u00e4AAA"])("%p is none", (text) => {
    expect(decode(text)).toBeUndefined();
  });
});

test("trailers are a message with their flag", () => {
  const trailers = new HeaderBlock();
  trailers.add("grpc-status", "0");
  trailers.add("x-more", "a");
  const text = "grpc-status: 0\r\nx-more: a\r\n";
  expect(trailersMessage(trailers)).toEqual(
    Buffer.concat([Buffer.from([0x80, 0, 0, 0, text.length]), Buffer.from(text)]),
  );
});
