import { expect, test } from "bun:test";
import { malformed, more } from "./fields.ts";
import { Http1ResponseHead, parseResponseHead } from "./response.ts";

function parse(text: string, toHead = false): Http1ResponseHead & { result: number } {
  const head = new Http1ResponseHead() as Http1ResponseHead & { result: number };
  head.result = parseResponseHead(Buffer.from(text, "latin1"), 0, toHead, head);
  return head;
}

test("a response head is taken apart", () => {
  const head = parse("HTTP/1.1 200 Very good\r\ncontent-length: 5\r\nx-a: b\r\n\r\nhello");
  expect(head).toMatchObject({ status: 200, phrase: "Very good", length: 5, keepAlive: true });
  expect(head.headers.get("x-a")).toBe("b");
});

test("a phrase may be missing, with or without its space", () => {
  expect(parse("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n")).toMatchObject({ status: 200, phrase: "" });
  expect(parse("HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n")).toMatchObject({ status: 200, phrase: "" });
});

test("it needs more at every place where it is cut", () => {
  const text = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
  for (let cut = 0; cut < text.length; cut++) expect(parse(text.slice(0, cut)).result).toBe(more);
});

test("where the body ends", () => {
  expect(parse("HTTP/1.1 200 OK\r\n\r\n")).toMatchObject({ untilClose: true, keepAlive: false, length: -1 });
  expect(parse("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")).toMatchObject({ chunked: true, length: -1 });
  expect(parse("HTTP/1.1 204 No Content\r\n\r\n")).toMatchObject({ length: 0, untilClose: false });
  expect(parse("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n")).toMatchObject({ length: 0, keepAlive: true });
  expect(parse("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", true)).toMatchObject({ length: 0, keepAlive: true });
});

test("HTTP/1.0 backends close unless they say otherwise", () => {
  expect(parse("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n").keepAlive).toBe(false);
  expect(parse("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\n").keepAlive).toBe(true);
  expect(parse("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\n").keepAlive).toBe(false);
});

test.each([
  ["HTTP/2 200 OK\r\n\r\n      "],
  ["xyz\r\n\r\n"],
  ["ICY "],
  [`HTTP/1.1 200 OK\r\nx: ${"y".repeat(64 * 1024)}\r\n\r\n`],
  ["HTTP/1.1 20 OK\r\n\r\n"],
  ["HTTP/1.1 2000 OK\r\n\r\n"],
  ["HTTP/1.1 099 OK\r\n\r\n"],
  ["HTTP/1.1 200 OK\nx: y\r\n\r\n"],
  ["HTTP/1.1 200 OK\r\nx : y\r\n\r\n"],
  ["HTTP/1.1 200 OK\r\nx: y\r\n z\r\n\r\n"],
  ["HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n"],
  ["HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"],
  ["HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"],
  ["HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n"],
  ["HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"],
  ["HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n"],
])("%j is malformed", (text) => {
  expect(parse(text).result).toBe(malformed);
});
