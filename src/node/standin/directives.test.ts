import { describe, expect, test } from "bun:test";
import { readDirectives } from "./directives.ts";

describe("what a request asks of a stand-in", () => {
  test("is read from the query", () => {
    expect(readDirectives("status=503&delay=200ms&size=4k&x=1", undefined)).toEqual({
      status: 503,
      delay: 200,
      size: 4096,
    });
    expect(readDirectives("header=X-A%3A+b&header=X-C:d&chunked", undefined)).toEqual({
      headers: [
        ["X-A", "b"],
        ["X-C", "d"],
      ],
      chunked: true,
    });
  });

  test("is read from the header, which wins", () => {
    expect(readDirectives("status=404", "status=503, delay=1.5s")).toEqual({ status: 503, delay: 1500 });
  });

  test("is passed over in a query that means something else", () => {
    expect(readDirectives("status=open&delay=long&size=huge&header=x", undefined)).toEqual({});
  });

  test("must be understood in the header", () => {
    expect(() => readDirectives("", "status=open")).toThrow('x-stand-in: "status=open" is not understood');
    expect(() => readDirectives("", "constructor=1")).toThrow("is not understood");
    expect(() => readDirectives("", "header=Content-Length: 3")).toThrow("is not understood");
  });
});
