import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { FakeClock } from "../../base/clock.ts";
import { Deadlines } from "../deadlines.ts";
import type { Downstream, DownstreamEvents, RequestHead } from "../exchange.ts";
import { HeaderBlock } from "../headers.ts";
import { localAnswer } from "../local-answer.ts";
import type { Reason } from "../reason.ts";
import { type ClientServer, defaultClientTimeouts } from "../server.ts";
import { beginTurn, endTurn, turn } from "../wire.ts";
import { Http2Downstream, maxStreams } from "./downstream.ts";
import { ErrorCode, Flag, FrameType, preface, Setting } from "./frame.ts";
import { settingsLimit } from "./liveness.ts";
import { flushFrames } from "./output.ts";
import { frame, number, Peer, settings, settingsAck } from "./peer.ts";
import { streamWindow } from "./stream.ts";

let clock: FakeClock;
let deadlines: Deadlines;
const systemSource = turn.source;

beforeEach(() => {
  clock = new FakeClock();
  turn.source = () => clock.now();
  turn.now = clock.now();
  deadlines = new Deadlines(clock);
  deadlines.beforehand = beginTurn;
  deadlines.afterwards = () => {
    endTurn();
    flushFrames();
  };
});

afterEach(() => {
  turn.source = systemSource;
  turn.now = systemSource();
});

interface Seen {
  readonly down: Downstream;
  readonly head: { method: string; authority: string; path: string; query: string | undefined; length: number };
  readonly fields: [string, string][];
  body: string;
  ends: number;
  trailers: [string, string][];
  failed: Reason | undefined;
  drained: number;
  crowded: number;
}

/** Keeps what it is told of each request; answers when the test does. */
class FakeServer implements ClientServer {
  timeouts = defaultClientTimeouts;
  draining = false;
  takesBody = true;
  answersAtOnce = false;
  readonly refusals: Reason[] = [];
  readonly seen: Seen[] = [];
  open = 1;

  request(down: Downstream, head: RequestHead): DownstreamEvents {
    const { method, authority, path, query, length } = head;
    const seen: Seen = {
      down,
      head: { method, authority, path, query, length },
      fields: head.headers.entries(),
      body: "",
      ends: 0,
      trailers: [],
      failed: undefined,
      drained: 0,
      crowded: 0,
    };
    this.seen.push(seen);
    if (this.answersAtOnce) answer(down, "hello");
    return {
      requestData: (chunk, start, end) => {
        seen.body += chunk.latin1Slice(start, end);
        return this.takesBody;
      },
      requestEnd: (trailers) => {
        seen.ends++;
        seen.trailers = trailers?.entries() ?? [];
      },
      requestFailed: (reason) => {
        seen.failed = reason;
      },
      downstreamCrowded: () => {
        seen.crowded++;
      },
      downstreamDrained: () => {
        seen.drained++;
      },
    };
  }
  refused(reason: Reason): void {
    this.refusals.push(reason);
  }
  closed(): void {
    this.open--;
  }
  turnedOut(): boolean {
    return false;
  }
}

function answer(down: Downstream, text: string): void {
  const { head, body } = localAnswer(200, text, []);
  down.respond(head);
  down.write(body, 0, body.length);
  down.end();
}

const get = { ":method": "GET", ":scheme": "https", ":authority": "example.com", ":path": "/a?b" };
const post = { ...get, ":method": "POST" };

function connect(greeting = true) {
  const server = new FakeServer();
  const peer = new Peer();
  const connection = new Http2Downstream(peer, server, deadlines, "192.0.2.1", "https");
  const during = (what: () => void) => {
    beginTurn();
    what();
    endTurn();
    flushFrames();
  };
  const send = (...frames: readonly Uint8Array[]) => during(() => connection.onData(Buffer.concat(frames)));
  if (greeting) send(preface, settings(), settingsAck);
  return { server, peer, connection, send, during };
}

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

describe("flow control", () => {
  test("an answer waits for the stream's and the connection's window", () => {
    const { server, peer, send, during } = connect();
    send(settings([Setting.initialWindowSize, 10]), peer.headers(1, get));
    const { down } = server.seen[0]!;
    during(() => {
      down.respond({ ...localAnswer(200, "x", []).head, length: -1 });
      expect(down.write(Buffer.from("0123456789abcdef"), 0, 16)).toBe(false);
      down.end();
    });
    expect(peer.text(1)).toBe("0123456789");
    send(frame(FrameType.windowUpdate, 0, 1, number(3)));
    expect(peer.text(1)).toBe("0123456789abc");
    send(settings([Setting.initialWindowSize, 20]));
    expect(peer.text(1)).toBe("0123456789abcdef");
    expect(peer.of(FrameType.data, 1).at(-1)!.flags).toBe(Flag.endStream);
  });

  test("the sender is told when it may go on, and streams share the connection's window by turns", () => {
    const { server, peer, send, during } = connect();
    send(settings([Setting.initialWindowSize, 1_000_000]), peer.headers(1, get), peer.headers(3, get));
    const chunk = Buffer.alloc(60_000, "x");
    during(() => {
      for (const { down } of server.seen) {
        down.respond({ ...localAnswer(200, "x", []).head, length: -1 });
        down.write(chunk, 0, chunk.length);
      }
    });
    expect(peer.text(1).length + peer.text(3).length).toBe(65_535);
    expect(server.seen.map(({ drained }) => drained)).toEqual([0, 0]);
    send(frame(FrameType.windowUpdate, 0, 0, number(100_000)));
    expect([peer.text(1).length, peer.text(3).length]).toEqual([60_000, 60_000]);
    expect(server.seen[1]!.drained).toBe(1);
  });

  test("a client that leaves much lying gets no further answers begun until it has read half of it", async () => {
    const { server, peer, send, during } = connect();
    for (let id = 1; id < 42; id += 2) send(peer.headers(id, get));
    const late = server.seen[20]!;
    const size = 512 * 1024;
    for (const { down } of server.seen.slice(0, 16)) {
      during(() => {
        down.respond(localAnswer(200, "", []).head);
        down.write(Buffer.alloc(size), 0, size);
      });
    }
    expect([late.crowded, late.down.crowded]).toEqual([0, false]);
    during(() => {
      server.seen[16]!.down.respond(localAnswer(200, "", []).head);
      server.seen[16]!.down.write(Buffer.alloc(size), 0, size);
    });
    expect([late.crowded, late.drained, late.down.crowded]).toEqual([1, 0, true]);
    // Those that have begun go on by their own windows.
    expect(server.seen[3]!.crowded).toBe(0);
    for (let id = 1; id < 20; id += 2) send(frame(FrameType.rstStream, 0, id, number(ErrorCode.cancel)));
    await new Promise(setImmediate);
    expect([late.crowded, late.drained, late.down.crowded]).toEqual([1, 1, false]);
  });

  test("a full socket holds answers back until it drains", () => {
    const { server, peer, send, connection, during } = connect();
    send(
      settings([Setting.initialWindowSize, 10_000_000]),
      frame(FrameType.windowUpdate, 0, 0, number(10_000_000)),
      peer.headers(1, get),
    );
    const { down } = server.seen[0]!;
    peer.room = 50_000;
    const chunk = Buffer.alloc(1_000_000, "x");
    during(() => {
      down.respond({ ...localAnswer(200, "x", []).head, length: -1 });
      expect(down.write(chunk, 0, chunk.length)).toBe(false);
    });
    expect(server.seen[0]!.drained).toBe(0);
    peer.room = Number.POSITIVE_INFINITY;
    during(() => connection.onDrain());
    expect(peer.text(1).length).toBe(1_000_000);
    expect(server.seen[0]!.drained).toBe(1);
  });

  test("a body that is held keeps the client's window shut, and opens it when it goes on", () => {
    const { server, peer, send, during } = connect();
    server.takesBody = false;
    send(peer.headers(1, post, false));
    const piece = frame(FrameType.data, 0, 1, Buffer.alloc(16_384, "x"));
    for (let sent = 0; sent < streamWindow; sent += 16_384) send(piece);
    expect(peer.of(FrameType.windowUpdate, 1)).toEqual([]);
    expect(server.seen[0]!.body.length).toBe(16_384);
    server.takesBody = true;
    during(() => server.seen[0]!.down.resumeBody());
    expect(server.seen[0]!.body.length).toBe(streamWindow);
    const given = peer.of(FrameType.windowUpdate, 1).reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
    expect(given).toBe(streamWindow);
  });

  test("more than the window is an error of the stream", () => {
    const { server, peer, send } = connect();
    server.takesBody = false;
    send(peer.headers(1, post, false));
    for (let sent = 0; sent <= streamWindow; sent += 16_384) send(frame(FrameType.data, 0, 1, Buffer.alloc(16_384)));
    expect(peer.reset(1)).toBe(ErrorCode.flowControlError);
    expect(server.seen[0]!.failed).toBe("bad_stream");
  });

  test("the connection's window opens again for content that nobody takes any more", () => {
    const { server, peer, send } = connect();
    server.takesBody = false;
    for (let id = 1; id < 200; id += 2) {
      send(peer.headers(id, post, false));
      for (let sent = 0; sent < 10; sent++) send(frame(FrameType.data, 0, id, Buffer.alloc(16_384)));
      send(frame(FrameType.rstStream, 0, id, number(ErrorCode.cancel)));
    }
    expect(peer.goaway).toBeUndefined();
    expect(peer.of(FrameType.windowUpdate, 0).length).toBeGreaterThan(10);
  });
});

describe("floods are told to calm down", () => {
  const floods: [string, (peer: Peer, turn: number) => Uint8Array][] = [
    ["PING", () => frame(FrameType.ping, 0, 0, Buffer.alloc(8))],
    ["SETTINGS", () => settings()],
    ["PRIORITY", () => frame(FrameType.priority, 0, 1, Buffer.alloc(5))],
    ["unknown frames", () => frame(200, 0, 0, "x")],
    ["WINDOW_UPDATE", () => frame(FrameType.windowUpdate, 0, 0, number(1))],
    ["empty DATA", (peer, turn) => (turn === 0 ? peer.headers(1, post, false) : frame(FrameType.data, 0, 1))],
    [
      "rapid reset",
      (peer, turn) =>
        Buffer.concat([peer.headers(2 * turn + 1, get), frame(FrameType.rstStream, 0, 2 * turn + 1, number(8))]),
    ],
    [
      "resets that the client makes us send",
      (peer, turn) =>
        Buffer.concat([
          peer.headers(2 * turn + 1, post, false),
          frame(FrameType.windowUpdate, 0, 2 * turn + 1, number(0)),
        ]),
    ],
    ["streams above the limit", (peer, turn) => peer.headers(2 * turn + 1, post, false)],
    ["malformed requests", (peer, turn) => peer.headers(2 * turn + 1, { ":method": "GET" })],
  ];
  for (const [what, one] of floods) {
    test(what, () => {
      const { server, peer, send, connection } = connect();
      let count = 0;
      while (!connection.closed && count < 10_000) send(one(peer, count++));
      expect(peer.goaway).toBe(ErrorCode.enhanceYourCalm);
      expect(count).toBeGreaterThan(100);
      expect(count).toBeLessThan(5_000);
      expect(peer.state).toBe("ended");
      expect(server.seen.every(({ failed }) => failed !== undefined)).toBe(true);
    });
  }

  test("CONTINUATION without end, with and without content", () => {
    for (const content of [Buffer.alloc(0), Buffer.alloc(16_000)]) {
      const { peer, send, connection } = connect();
      send(frame(FrameType.headers, 0, 1, peer.block(get)));
      for (let count = 0; count < 100 && !connection.closed; count++)
        send(frame(FrameType.continuation, 0, 1, content));
      expect(peer.goaway).toBe(ErrorCode.enhanceYourCalm);
    }
  });

  test("a field section that unpacks to far more than it is", () => {
    const { peer, send } = connect();
    const entry = Buffer.concat([Buffer.from("4001617fa11e", "hex"), Buffer.alloc(4000, "v")]);
    send(frame(FrameType.headers, 5, 1, Buffer.concat([peer.block(get), entry, Buffer.alloc(2000, 0xbe)])));
    expect(peer.goaway).toBe(ErrorCode.enhanceYourCalm);
  });

  test("a peer that does not read what it makes us send is cut off", () => {
    const { peer, send, connection } = connect();
    peer.room = 0;
    for (let count = 0; count < 200_000 && peer.state === "open"; count++) {
      clock.advance(20);
      turn.now = clock.now();
      send(frame(FrameType.ping, 0, 0, Buffer.alloc(8)));
    }
    expect(peer.state).toBe("terminated");
    expect(connection.closed).toBe(true);
  });

  test("what a busy client does in time is no flood", () => {
    const { server, peer, send, connection } = connect();
    server.answersAtOnce = true;
    for (let count = 0; count < 3_000; count++) {
      clock.advance(30);
      send(
        frame(FrameType.ping, 0, 0, Buffer.alloc(8)),
        peer.headers(2 * count + 1, get),
        frame(FrameType.windowUpdate, 0, 0, number(5)),
      );
    }
    expect(connection.closed).toBe(false);
    expect(server.seen.length).toBe(3_000);
  });
});

describe("the end of a connection", () => {
  test("a drain lets a round trip pass, then serves what has begun and nothing else", () => {
    const { server, peer, send, connection, during } = connect();
    send(peer.headers(1, get));
    during(() => connection.closeWhenIdle());
    expect(peer.of(FrameType.goaway)[0]!.payload.readUInt32BE(0)).toBe(0x7fffffff);
    // Begun before the client knew.
    send(peer.headers(3, get));
    expect(server.seen.length).toBe(2);
    send(frame(FrameType.ping, Flag.ack, 0, Buffer.alloc(8)));
    expect(peer.of(FrameType.goaway)[1]!.payload.readUInt32BE(0)).toBe(3);
    send(peer.headers(5, get));
    expect(server.seen.length).toBe(2);
    during(() => server.seen.map(({ down }) => answer(down, "done")));
    expect(peer.text(3)).toBe("done");
    expect(peer.goaway).toBe(ErrorCode.noError);
    expect(peer.state).toBe("ended");
  });

  test("a client that does not answer the drain's PING has a second", () => {
    const { peer, connection, during } = connect();
    during(() => connection.closeWhenIdle());
    clock.advance(1_100);
    expect(peer.of(FrameType.goaway).length).toBe(2);
    expect(peer.state).toBe("ended");
    clock.advance(1_100);
    expect(peer.state).toBe("terminated");
  });

  test("a client that does not acknowledge our SETTINGS is told so, and others are not", () => {
    const { peer, send } = connect(false);
    send(preface, settings(), peer.headers(1, post, false));
    clock.advance(settingsLimit - 1_000);
    send(frame(FrameType.data, 0, 1, "x"));
    expect(peer.goaway).toBeUndefined();
    clock.advance(12_000);
    expect(peer.goaway).toBe(ErrorCode.settingsTimeout);
    const good = connect();
    good.send(good.peer.headers(1, get));
    clock.advance(settingsLimit - 1_000);
    good.send(frame(FrameType.ping, Flag.ack, 0, Buffer.alloc(8)));
    clock.advance(12_000);
    expect(good.peer.goaway).toBeUndefined();
  });

  test("a connection without streams ends after its idle time, one without a preface after that of a head", () => {
    const idle = connect();
    clock.advance(defaultClientTimeouts.idle + 1_000);
    expect(idle.peer.goaway).toBe(ErrorCode.noError);
    const silent = connect(false);
    silent.send(preface.subarray(0, 5));
    clock.advance(defaultClientTimeouts.head + 1_000);
    expect(silent.peer.goaway).toBe(ErrorCode.enhanceYourCalm);
    expect(silent.peer.state).not.toBe("open");
  });

  test("a body that stops coming fails the request, and an answer that is not read ends the stream", () => {
    const { server, peer, send, during } = connect();
    send(settings([Setting.initialWindowSize, 1]), peer.headers(1, post, false), peer.headers(3, get));
    during(() => {
      server.seen[1]!.down.respond({ ...localAnswer(200, "x", []).head, length: -1 });
      server.seen[1]!.down.write(Buffer.from("abc"), 0, 3);
    });
    // Alive, but not reading.
    for (let second = 0; second < 80; second++) {
      clock.advance(1_000);
      send(frame(FrameType.ping, Flag.ack, 0, Buffer.alloc(8)));
    }
    expect(server.seen[0]!.failed).toBe("request_slow");
    expect(peer.reset(3)).toBe(ErrorCode.cancel);
    expect(server.seen[1]!.failed).toBe("client_closed");
  });

  test("a client that vanishes while it waits is noticed", () => {
    const { server, peer, send } = connect();
    send(peer.headers(1, get));
    clock.advance(70_000);
    expect(peer.of(FrameType.ping).length).toBe(1);
    expect(server.seen[0]!.failed).toBe("client_closed");
    expect(peer.state).toBe("terminated");
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

test("streams above the limit are refused, and the rest goes on", () => {
  const { server, peer, send } = connect();
  for (let index = 0; index <= maxStreams; index++) send(peer.headers(2 * index + 1, get));
  expect(server.seen.length).toBe(maxStreams);
  expect(peer.reset(2 * maxStreams + 1)).toBe(ErrorCode.refusedStream);
  expect(peer.goaway).toBeUndefined();
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
