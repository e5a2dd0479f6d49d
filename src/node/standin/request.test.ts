import { describe, expect, test } from "bun:test";
import { RequestReader, type StandInRequest } from "./request.ts";

function readAll(chunks: readonly string[]): { requests: StandInRequest[]; reader: RequestReader } {
  const reader = new RequestReader();
  const requests: StandInRequest[] = [];
  for (const chunk of chunks) {
    reader.push(Buffer.from(chunk, "latin1"));
    for (let one = reader.next(); one; one = reader.next()) requests.push(one);
  }
  return { requests, reader };
}

describe("reading requests", () => {
  test("keeps headers as they were written and in their order", () => {
    const { requests } = readAll(["GET /a?b=c HTTP/1.1\r\nHost: shop\r\nX-B: 2\r\nx-a:1\r\nX-B: 3\r\n\r\n"]);
    expect(requests[0]).toMatchObject({ method: "GET", target: "/a?b=c", version: "1.1", keepAlive: true });
    expect(requests[0]?.headers).toEqual([
      ["Host", "shop"],
      ["X-B", "2"],
      ["x-a", "1"],
      ["X-B", "3"],
    ]);
  });

  test("does not depend on how the bytes are cut", () => {
    const text =
      "POST /1 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello" +
      "POST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n" +
      "GET /3 HTTP/1.0\r\n\r\n";
    for (let size = 1; size < 40; size++) {
      const chunks: string[] = [];
      for (let at = 0; at < text.length; at += size) chunks.push(text.slice(at, at + size));
      const { requests } = readAll(chunks);
      expect(requests.map(({ target, body, keepAlive }) => [target, body.toString(), keepAlive])).toEqual([
        ["/1", "hello", true],
        ["/2", "abcde", true],
        ["/3", "", false],
      ]);
    }
  });

  test("counts a long body and keeps its beginning", () => {
    const length = 300_000;
    const { requests } = readAll([`PUT / HTTP/1.1\r\nContent-Length: ${length}\r\n\r\n`, "x".repeat(length)]);
    expect(requests[0]?.bodyLength).toBe(length);
    expect(requests[0]?.body.length).toBe(64 * 1024);
  });

  test("asks once for the body of a request that waits for 100 Continue", () => {
    const { reader } = readAll(["PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"]);
    expect([reader.takeContinue(), reader.takeContinue()]).toEqual([true, false]);
  });

  test.each([
    ["GET / HTTP/1.1\nHost: a\n\n\r\n\r\n", 400],
    ["GET  / HTTP/1.1\r\n\r\n", 400],
    ["GET / HTTP/2.0\r\n\r\n", 505],
    ["GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400],
    ["GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400],
    ["GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400],
    ["GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501],
    ["POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400],
    [`GET / HTTP/1.1\r\nX: ${"y".repeat(70_000)}`, 431],
  ])("refuses %j", (text, status) => {
    expect(readAll([text]).reader.error?.status).toBe(status as 400);
  });
});
