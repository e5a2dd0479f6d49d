// What a client may not say over HTTP/2, and what becomes of it; bytes of any kind.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Reason } from "../reason.ts";
import { connect, get, post } from "./downstream-cases.ts";
import { eachTest } from "./each-test.ts";
import { ErrorCode, Flag, FrameType } from "./frame.ts";
import { frame, number } from "./peer.ts";

eachTest();

describe("malformed requests are errors of their stream", () => {
  const wrong: [string, [string, string][]][] = [
    ["no method", Object.entries({ ":scheme": "https", ":authority": "a", ":path": "/" })],
    ["no scheme", Object.entries({ ":method": "GET", ":authority": "a", ":path": "/" })],
    ["no path", Object.entries({ ":method": "GET", ":scheme": "https", ":authority": "a" })],
    ["an empty path", Object.entries({ ...get, ":path": "" })],
    ["a path that is none", Object.entries({ ...get, ":path": "a" })],
    ["a space in the path", Object.entries({ ...get, ":path": "/a HTTP/1.1" })],
    ["a status", Object.entries({ ...get, ":status": "200" })],
    ["an unknown pseudo-header field", Object.entries({ ...get, ":x": "y" })],
    ["a repeated one", [...Object.entries(get), [":path", "/"]]],
    ["one behind a field", [["x", "y"], ...Object.entries(get)]],
    ["connection", Object.entries({ ...get, connection: "close" })],
    ["keep-alive", Object.entries({ ...get, "keep-alive": "1" })],
    ["proxy-connection", Object.entries({ ...get, "proxy-connection": "close" })],
    ["transfer-encoding", Object.entries({ ...get, "transfer-encoding": "chunked" })],
    ["upgrade", Object.entries({ ...get, upgrade: "websocket" })],
    ["te other than trailers", Object.entries({ ...get, te: "gzip" })],
    ["te twice", [...Object.entries(get), ["te", "trailers"], ["te", "trailers"]]],
    ["a host that is another", Object.entries({ ...get, host: "other" })],
    ["two hosts", [...Object.entries(get), ["host", "example.com"], ["host", "example.com"]]],
    ["a line end in a value", Object.entries({ ...get, x: "a\r\ntransfer-encoding: chunked" })],
    ["a zero in a value", Object.entries({ ...get, x: "a\0" })],
    ["a colon in a name", Object.entries({ ...get, "x:y": "a" })],
    ["a line end in the authority", Object.entries({ ...get, ":authority": "a\r\nx: y" })],
    ["a space in the authority", Object.entries({ ...get, ":authority": "a b" })],
    ["two content-lengths", [...Object.entries(post), ["content-length", "1"], ["content-length", "1"]]],
    ["a content-length that is none", Object.entries({ ...post, "content-length": "+1" })],
    ["a content-length without content", Object.entries({ ...post, "content-length": "1" })],
    [":protocol without CONNECT", Object.entries({ ...get, ":protocol": "websocket" })],
    ["CONNECT with a path", Object.entries({ ":method": "CONNECT", ":authority": "a:1", ":path": "/" })],
    ["CONNECT without an authority", Object.entries({ ":method": "CONNECT" })],
    ["CONNECT without a port", Object.entries({ ":method": "CONNECT", ":authority": "a" })],
    ["CONNECT with content", Object.entries({ ":method": "CONNECT", ":authority": "a:1", "content-length": "1" })],
    ["CONNECT for what is no protocol", Object.entries({ ...get, ":method": "CONNECT", ":protocol": "a b" })],
  ];
  for (const [what, fields] of wrong) {
    test(what, () => {
      const { server, peer, send } = connect();
      send(peer.headers(1, fields), peer.headers(3, get));
      expect(peer.reset(1)).toBe(ErrorCode.protocolError);
      expect(server.refusals).toEqual(["bad_request"]);
      // The connection goes on.
      expect(server.seen.length).toBe(1);
    });
  }

  test("a name with capital letters", () => {
    const { server, peer, send } = connect();
    const literal = Buffer.from("\0\x01X\x01y", "latin1");
    send(frame(FrameType.headers, 5, 1, Buffer.concat([peer.block(get), literal])));
    expect(peer.reset(1)).toBe(ErrorCode.protocolError);
    expect(server.seen).toEqual([]);
  });

  test("more or less content than the content-length says", () => {
    for (const [content, flags] of [
      ["abc", Flag.endStream],
      ["abcde", 0],
    ] as const) {
      const { server, peer, send } = connect();
      send(peer.headers(1, { ...post, "content-length": "4" }, false), frame(FrameType.data, flags, 1, content));
      expect(peer.reset(1)).toBe(ErrorCode.protocolError);
      expect(server.seen[0]!.failed).toBe("bad_stream");
    }
  });

  test("what can be understood and not be served is answered", () => {
    const answers: [object, string, Reason][] = [
      [{ ...get, ":authority": "" }, "400", "bad_host"],
      [{ ...get, ":method": "CONNECT", ":protocol": "h2c" }, "501", "method_not_supported"],
      [{ ...get, ":path": `/${"a".repeat(17_000)}` }, "414", "target_too_long"],
      [{ ...get, expect: "miracles" }, "417", "expectation_failed"],
      [
        Object.fromEntries([...Object.entries(get), ...Array.from({ length: 300 }, (_, i) => [`x-${i}`, "v"])]),
        "431",
        "head_too_large",
      ],
    ];
    for (const [fields, status, reason] of answers) {
      const { server, peer, send } = connect();
      const block = peer.block(fields as Record<string, string>);
      send(
        frame(FrameType.headers, Flag.endStream, 1, block.subarray(0, 10)),
        frame(FrameType.continuation, Flag.endHeaders, 1, block.subarray(10)),
      );
      expect(peer.heads[0]!.fields[0]).toEqual([":status", status]);
      expect(server.refusals).toEqual([reason]);
    }
  });
});

test("any bytes behind the preface are served or refused, and nothing throws", () => {
  const id = fc.constantFrom(0, 1, 2, 3, 5);
  const one = fc.record({ type: fc.nat(10), flags: fc.nat(255), id, payload: fc.uint8Array({ maxLength: 60 }) });
  const valid = fc.constantFrom("get", "post", "data", "reset", "window");
  fc.assert(
    fc.property(fc.array(fc.oneof(one, valid), { maxLength: 20 }), (frames) => {
      const { peer, server, send, during, connection } = connect();
      server.answersAtOnce = frames.length % 2 === 0;
      let next = 1;
      for (const one of frames) {
        if (one === "get") send(peer.headers(next, get));
        else if (one === "post") send(peer.headers(next, post, false));
        else if (one === "data") send(frame(FrameType.data, 0, next - 2 > 0 ? next - 2 : 1, "abc"));
        else if (one === "reset") send(frame(FrameType.rstStream, 0, 1, number(8)));
        else if (one === "window") send(frame(FrameType.windowUpdate, 0, 1, number(100)));
        else send(frame(one.type, one.flags, one.id, one.payload));
        if (one === "get" || one === "post") next += 2;
      }
      during(() => connection.onClose());
      expect(server.open).toBe(0);
    }),
    { numRuns: Number(process.env["FUZZ_RUNS"] ?? 500) },
  );
});
