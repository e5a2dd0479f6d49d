import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { encodeFrame, FrameDecoder } from "./frame.ts";

describe("frames", () => {
  test("messages come out as they went in, however the stream is cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.jsonValue(), { maxLength: 5 }),
        fc.array(fc.integer({ min: 1, max: 9 })),
        (sent, cuts) => {
          const messages = sent.map((one) => JSON.parse(JSON.stringify(one)));
          const stream = Buffer.concat(messages.map((one) => encodeFrame(one)));
          const decoder = new FrameDecoder();
          const received: unknown[] = [];
          let at = 0;
          for (const cut of cuts) {
            received.push(...decoder.push(stream.subarray(at, at + cut)));
            at = Math.min(stream.length, at + cut);
          }
          received.push(...decoder.push(stream.subarray(at)));
          expect(received).toEqual(messages);
          expect(decoder.idle).toBe(true);
        },
      ),
    );
  });

  test("a frame above the limit is refused at both ends, before its body is read", () => {
    expect(() => encodeFrame("x".repeat(20), 10)).toThrow(RangeError);
    expect(() => new FrameDecoder(10).push(new Uint8Array([0, 0, 0, 11]))).toThrow("announces a frame of 11 bytes");
  });

  test("what is not JSON is an error", () => {
    expect(() => new FrameDecoder().push(new Uint8Array([0, 0, 0, 1, 0x7b]))).toThrow();
  });

  test("half a frame is known to be half", () => {
    const decoder = new FrameDecoder();
    decoder.push(encodeFrame({ a: 1 }).subarray(0, 6));
    expect(decoder.idle).toBe(false);
  });
});
