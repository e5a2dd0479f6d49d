// What a client asks over HTTP/2 and what it hears: requests, answers, tunnels.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { HeaderBlock } from "../headers.ts";
import { localAnswer } from "../local-answer.ts";
import { answer, connect, get, post } from "./downstream-cases.ts";
import { eachTest } from "./each-test.ts";
import { ErrorCode, Flag, FrameType, preface, Setting } from "./frame.ts";
import { frame, number, settings } from "./peer.ts";

eachTest();

describe("requests and answers", () => {
  test("a request is handed on, and its answer ends the stream with its last DATA", () => {
    const { server, peer, send, during } = connect();
    send(peer.headers(1, { ...get, "x-a": "1", cookie: "c=1" }));
    expect(server.seen[0]).toMatchObject({
      head: { method: "GET", authority: "example.com", path: "/a", query: "b", length: 0 },
      fields: [
        ["x-a", "1"],
        ["cookie", "c=1"],
      ],
      ends: 1,
    });
    during(() => answer(server.seen[0]!.down, "hello"));
    expect(peer.heads[0]!.fields).toContainEqual([":status", "200"]);
    expect(peer.heads[0]!.fields.map(([name]) => name)).toContain("date");
    expect(peer.text(1)).toBe("hello");
    expect(peer.of(FrameType.data, 1).at(-1)!.flags).toBe(Flag.endStream);
    expect(peer.goaway).toBeUndefined();
  });

  test("many streams are served at once, in any order", () => {
    const { server, peer, send, during } = connect();
    send(...[1, 3, 5].map((id) => peer.headers(id, { ...get, ":path": `/${id}` })));
    expect(server.seen.map(({ head }) => head.path)).toEqual(["/1", "/3", "/5"]);
    during(() => [2, 0, 1].map((index) => answer(server.seen[index]!.down, server.seen[index]!.head.path)));
    expect([1, 3, 5].map((id) => peer.text(id))).toEqual(["/1", "/3", "/5"]);
  });

  test("bodies and trailers go on, padding does not", () => {
    const { server, peer, send } = connect();
    send(
      peer.headers(1, post, false),
      frame(FrameType.data, Flag.padded, 1, "\x03abc\0\0\0"),
      frame(FrameType.data, 0, 1, "def"),
      peer.headers(1, { "x-sum": "7", host: "evil" }),
    );
    expect(server.seen[0]).toMatchObject({ body: "abcdef", ends: 1, trailers: [["x-sum", "7"]] });
  });

  test("frames may come in any pieces", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (sizes) => {
        const { server, peer, connection, during } = connect(false);
        const bytes = Buffer.concat([
          preface,
          settings([Setting.initialWindowSize, 1000]),
          peer.headers(1, post, false),
          frame(FrameType.data, Flag.padded, 1, "\x05hello\0\0\0\0\0"),
          frame(FrameType.data, Flag.endStream, 1, " world"),
          frame(FrameType.headers, Flag.endStream, 3, peer.block(get).subarray(0, 3)),
        ]);
        for (let at = 0, turn = 0; at < bytes.length; turn++) {
          const size = sizes[turn % sizes.length]!;
          during(() => connection.onData(Buffer.from(bytes.subarray(at, at + size))));
          at += size;
        }
        expect(server.seen[0]).toMatchObject({ body: "hello world", ends: 1 });
        expect(peer.goaway).toBeUndefined();
      }),
      { numRuns: 50 },
    );
  });

  test("100 and 103 come before the answer, and a trailer section after it", () => {
    const { server, peer, send, during } = connect();
    send(peer.headers(1, { ...post, expect: "100-continue" }, false));
    const { down } = server.seen[0]!;
    const trailers = new HeaderBlock();
    trailers.add("grpc-status", "0");
    during(() => {
      down.inform({ ...localAnswer(100, "", []).head });
      down.respond(localAnswer(200, "x", []).head);
      down.write(Buffer.from("x"), 0, 1);
      down.end(trailers);
    });
    expect(peer.heads.map(({ fields, end }) => [fields[0]![1], end])).toEqual([
      ["100", false],
      ["200", false],
      ["0", true],
    ]);
  });

  test("a head that is larger than a frame goes on in CONTINUATION, and can still be the end", () => {
    const { server, peer, send, during } = connect();
    send(peer.headers(1, get), peer.headers(3, get));
    const long = "abcdefgh".repeat(5_000);
    during(() => {
      const { head } = localAnswer(204, "", [{ name: "x-long", value: long }]);
      server.seen[0]!.down.respond(head);
      server.seen[0]!.down.end();
      answer(server.seen[1]!.down, "next");
    });
    expect(peer.of(FrameType.continuation, 1).length).toBeGreaterThan(0);
    expect(peer.of(FrameType.headers, 1)[0]!.flags).toBe(Flag.endStream);
    expect(peer.heads[0]!.fields).toContainEqual(["x-long", long]);
    expect(peer.text(3)).toBe("next");
  });

  test("an answer before the end of the request ends the stream without an error", () => {
    const { server, peer, send, during } = connect();
    send(peer.headers(1, post, false));
    during(() => answer(server.seen[0]!.down, "no"));
    expect(peer.reset(1)).toBe(ErrorCode.noError);
    send(frame(FrameType.data, 0, 1, "late"), peer.headers(1, { late: "1" }));
    expect(peer.goaway).toBeUndefined();
  });

  test("an answer that is cut off is reset", () => {
    const { server, peer, send, during } = connect();
    send(peer.headers(1, get));
    during(() => {
      server.seen[0]!.down.respond({ ...localAnswer(200, "hello", []).head });
      server.seen[0]!.down.abort();
    });
    expect(peer.reset(1)).toBe(ErrorCode.internalError);
  });

  test("a POST without content says so, because HTTP/1 behind would not know", () => {
    const { server, peer, send } = connect();
    send(peer.headers(1, post));
    expect(server.seen[0]!.fields).toEqual([["content-length", "0"]]);
  });

  test("a client's reset ends its exchange", () => {
    const { server, peer, send } = connect();
    send(peer.headers(1, get), frame(FrameType.rstStream, 0, 1, number(ErrorCode.cancel)));
    expect(server.seen[0]!.failed).toBe("client_closed");
  });

  test("the end of the connection ends all exchanges", () => {
    const { server, peer, send, connection, during } = connect();
    send(peer.headers(1, get), peer.headers(3, get));
    during(() => connection.onClose());
    expect(server.seen.map(({ failed }) => failed)).toEqual(["client_closed", "client_closed"]);
    expect(server.open).toBe(0);
  });
});

test("WebSocket by CONNECT is an upgrade to the middle: held until the backend agrees, a tunnel after that", () => {
  const { server, peer, send, during } = connect();
  expect(peer.of(FrameType.settings)[0]!.payload.toString("hex")).toContain("000800000001");
  send(
    peer.headers(1, { ...get, ":method": "CONNECT", ":protocol": "websocket", "sec-websocket-version": "13" }, false),
    frame(FrameType.data, 0, 1, "early"),
  );
  const seen = server.seen[0]!;
  expect(seen).toMatchObject({ head: { method: "GET", path: "/a" }, ends: 1, body: "" });
  expect(seen.down.head).toMatchObject({ upgrade: "websocket", tunnelOnly: true });
  during(() => {
    const headers = new HeaderBlock();
    headers.add("sec-websocket-accept", "x");
    seen.down.respond({ status: 101, phrase: "", headers, length: 0 });
    seen.down.write(Buffer.from("from the backend"), 0, 16);
  });
  expect(seen.body).toBe("early");
  expect(peer.heads[0]!.fields[0]).toEqual([":status", "200"]);
  expect(peer.heads[0]!.fields.map(([name]) => name)).not.toContain("sec-websocket-accept");
  expect(peer.text(1)).toBe("from the backend");
  send(frame(FrameType.data, Flag.endStream, 1, "bye"));
  expect(seen).toMatchObject({ body: "earlybye", ends: 2 });
});

test("CONNECT to a place has neither path nor protocol, and may be at its end when the tunnel begins", () => {
  const { server, peer, send, during } = connect();
  send(peer.headers(1, { ":method": "CONNECT", ":authority": "db.example:5432" }));
  const seen = server.seen[0]!;
  expect(seen.down.head).toMatchObject({
    ...{ method: "CONNECT", authority: "db.example:5432", path: "", upgrade: "", tunnelOnly: true },
  });
  expect(seen.ends).toBe(1);
  during(() => seen.down.respond({ status: 101, phrase: "", headers: new HeaderBlock(), length: 0 }));
  expect(peer.heads[0]!.fields[0]).toEqual([":status", "200"]);
  expect(seen.ends).toBe(2);
  send(peer.headers(3, { ...get, ":method": "CONNECT", ":protocol": "connect-udp" }, false));
  expect(server.seen[1]!.down.head).toMatchObject({ method: "CONNECT", path: "/a", upgrade: "connect-udp" });
});
