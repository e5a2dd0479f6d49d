import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Upstream, UpstreamEvents } from "../exchange.ts";
import type { HeaderBlock } from "../headers.ts";
import { Http1RequestHead, parseRequestHead } from "../http1/request.ts";
import { acceptOf } from "../http1/websocket.ts";
import { clock, deadlines, during, eachTest } from "./each-test.ts";
import { ErrorCode, Flag, FrameType, Setting } from "./frame.ts";
import { frame, number, Peer, settings, settingsAck } from "./peer.ts";
import { Http2Upstream, type Http2Way } from "./upstream.ts";

eachTest();

function connect(...first: readonly (readonly [number, number])[]) {
  const peer = new Peer(true);
  const log: string[] = [];
  const owner = {
    timeouts: { idle: 300_000 },
    requestsPerConnection: Number.POSITIVE_INFINITY,
    http2: undefined as Http2Way | undefined,
    ready: () => void log.push("ready"),
    freed: () => void log.push("freed"),
    leaving: () => void log.push("leaving"),
    gone: () => void log.push("gone"),
  };
  const connection = new Http2Upstream(peer, owner, deadlines, "http");
  const send = (...frames: readonly Uint8Array[]) => during(() => connection.onData(Buffer.concat(frames)));
  send(settings(...first), settingsAck);
  return { peer, log, owner, connection, send };
}

/** One exchange: what it was told, in order. */
class Exchange implements UpstreamEvents {
  readonly log: string[] = [];
  stream: Upstream;
  takes = true;

  constructor(connection: Http2Upstream, text: string, end = true, more: Partial<Http1RequestHead> = {}) {
    const head = new Http1RequestHead();
    expect(parseRequestHead(Buffer.from(text.replaceAll("\n", "\r\n")), 0, head)).toBeGreaterThan(0);
    Object.assign(head, more);
    this.stream = connection.open();
    this.stream.begin(this);
    during(() => {
      this.stream.send(head);
      if (end) this.stream.end();
    });
  }
  informed({ status }: { status: number }): void {
    this.log.push(`informed ${status}`);
  }
  responded({ status, length }: { status: number; length: number }): void {
    this.log.push(`responded ${status} ${length}`);
  }
  responseData(chunk: Buffer, start: number, end: number): boolean {
    this.log.push(`data ${chunk.latin1Slice(start, end)}`);
    return this.takes;
  }
  responseEnd(trailers: HeaderBlock | undefined): void {
    this.log.push(`end${trailers ? ` ${JSON.stringify(trailers.entries())}` : ""}`);
  }
  upstreamFailed(reason: string, repeat: string): void {
    this.log.push(`failed ${reason} ${repeat}`);
  }
  upstreamDrained(): void {
    this.log.push("drained");
  }
}

const get = "GET /a?b HTTP/1.1\nHost: example.com\nX-A: 1\nConnection: keep-alive\nTE: trailers, gzip\nAccept: */*\n\n";
const post = "POST / HTTP/1.1\nhost: a\ntransfer-encoding: chunked\n\n";

test("a request of HTTP/1 becomes one of HTTP/2, without what belongs to its connection", () => {
  const { peer, connection } = connect();
  new Exchange(connection, get);
  expect(peer.heads).toEqual([
    {
      id: 1,
      end: true,
      fields: [
        [":method", "GET"],
        [":scheme", "http"],
        [":authority", "example.com"],
        [":path", "/a?b"],
        ["te", "trailers"],
        ["x-a", "1"],
        ["accept", "*/*"],
      ],
    },
  ]);
});

test("answers come in any order, with interim ones and trailers", () => {
  const { peer, connection, send, log } = connect();
  const one = new Exchange(connection, get);
  const two = new Exchange(connection, get);
  send(
    peer.headers(3, { ":status": "103", link: "</a>" }, false),
    peer.headers(3, { ":status": "200", "content-length": "2" }, false),
    peer.headers(1, { ":status": "204" }),
    frame(FrameType.data, Flag.padded, 3, "\x01hi\0"),
    peer.headers(3, { "grpc-status": "0" }),
  );
  expect(one.log).toEqual(["responded 204 0", "end"]);
  expect(two.log).toEqual(["informed 103", "responded 200 2", "data hi", 'end [["grpc-status","0"]]']);
  expect(log).toEqual(["ready", "freed", "freed"]);
  expect(connection.busy).toBe(0);
});

test("the endpoint's settings say how many exchanges there may be", () => {
  const { peer, connection, send } = connect([Setting.maxConcurrentStreams, 2]);
  expect(connection.hasRoom).toBe(true);
  new Exchange(connection, get);
  new Exchange(connection, get);
  expect(connection.hasRoom).toBe(false);
  send(peer.headers(1, { ":status": "200" }));
  expect(connection.hasRoom).toBe(true);
});

test("a request's body waits for the endpoint's window, and ends with its last DATA", () => {
  const { peer, connection, send } = connect([Setting.initialWindowSize, 4]);
  const one = new Exchange(connection, post, false);
  during(() => {
    expect(one.stream.write(Buffer.from("abcdef"), 0, 6)).toBe(false);
  });
  expect(peer.text(1)).toBe("abcd");
  send(frame(FrameType.windowUpdate, 0, 1, number(100)));
  expect(one.log).toEqual(["drained"]);
  during(() => {
    expect(one.stream.write(Buffer.from("gh"), 0, 2)).toBe(true);
    one.stream.end();
  });
  expect(peer.text(1)).toBe("abcdefgh");
  expect(peer.of(FrameType.data, 1).at(-1)!.flags).toBe(Flag.endStream);
});

test("an answer that is held holds nobody else up", () => {
  const { peer, connection, send } = connect();
  const slow = new Exchange(connection, get);
  slow.takes = false;
  const fast = new Exchange(connection, get);
  send(peer.headers(1, { ":status": "200" }, false), peer.headers(3, { ":status": "200" }, false));
  const piece = (id: number) => frame(FrameType.data, 0, id, Buffer.alloc(16_000, "x"));
  for (let count = 0; count < 4; count++) send(piece(1));
  for (let count = 0; count < 400; count++) send(piece(3));
  expect(slow.log.length).toBe(2);
  expect(fast.log.length).toBe(401);
  expect(peer.goaway).toBeUndefined();
  // Its own window stays shut until it goes on.
  expect(peer.of(FrameType.windowUpdate, 1)).toEqual([]);
  slow.takes = true;
  during(() => slow.stream.resumeBody());
  expect(slow.log.length).toBe(5);
  expect(peer.of(FrameType.windowUpdate, 1).length).toBeGreaterThan(0);
  // The other one's window has grown, because what came was taken.
  const opened = peer.of(FrameType.windowUpdate, 3).reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
  expect(64 * 1024 + opened - 400 * 16_000).toBeGreaterThan(64 * 1024);
});

describe("what may be sent again", () => {
  test("a refused stream, always", () => {
    const { connection, send } = connect();
    const one = new Exchange(connection, post);
    send(frame(FrameType.rstStream, 0, 1, number(ErrorCode.refusedStream)));
    expect(one.log).toEqual(["failed upstream_reset always"]);
  });

  test("streams above a GOAWAY's, always; those below are finished, and no new ones begin", () => {
    const { peer, connection, send, log } = connect();
    const one = new Exchange(connection, get);
    const two = new Exchange(connection, post);
    send(frame(FrameType.goaway, 0, 0, Buffer.concat([number(1), number(0)])));
    expect(two.log).toEqual(["failed upstream_reset always"]);
    expect(connection.hasRoom).toBe(false);
    expect(log).toContain("leaving");
    send(peer.headers(1, { ":status": "200" }));
    expect(one.log).toEqual(["responded 200 0", "end"]);
    expect(peer.state).toBe("ended");
    expect(log.filter((one) => one === "gone").length).toBe(1);
  });

  test("what was on a connection that had served and is lost, if it does no harm; never what was answered", () => {
    const { peer, connection, send } = connect();
    const done = new Exchange(connection, get);
    send(peer.headers(1, { ":status": "200" }));
    const lost = new Exchange(connection, get);
    const half = new Exchange(connection, get);
    send(peer.headers(5, { ":status": "200" }, false));
    during(() => connection.onClose());
    expect(done.log.at(-1)).toBe("end");
    expect(lost.log).toEqual(["failed upstream_closed idempotent"]);
    expect(half.log.at(-1)).toBe("failed upstream_closed never");
  });

  test("a reset in the midst of an answer, never", () => {
    const { peer, connection, send } = connect();
    const one = new Exchange(connection, get);
    send(
      peer.headers(1, { ":status": "200" }, false),
      frame(FrameType.rstStream, 0, 1, number(ErrorCode.internalError)),
    );
    expect(one.log).toEqual(["responded 200 -1", "failed upstream_reset never"]);
  });
});

test("a complete answer with NO_ERROR behind it is complete, also while it is held", () => {
  const { peer, connection, send } = connect();
  const one = new Exchange(connection, post, false);
  one.takes = false;
  send(
    peer.headers(1, { ":status": "413" }, false),
    frame(FrameType.data, 0, 1, "too "),
    frame(FrameType.data, Flag.endStream, 1, "large"),
    frame(FrameType.rstStream, 0, 1, number(ErrorCode.noError)),
  );
  one.takes = true;
  during(() => one.stream.resumeBody());
  expect(one.log).toEqual(["responded 413 -1", "data too ", "data large", "end"]);
  expect(connection.busy).toBe(0);
});

test("a cancelled exchange resets its stream and leaves the others alone", () => {
  const { peer, connection, send } = connect();
  const one = new Exchange(connection, get);
  const two = new Exchange(connection, get);
  during(() => one.stream.cancel());
  expect(peer.reset(1)).toBe(ErrorCode.cancel);
  send(peer.headers(1, { ":status": "200" }), peer.headers(3, { ":status": "200" }));
  expect(one.log).toEqual([]);
  expect(two.log).toEqual(["responded 200 0", "end"]);
});

test("a connection on which much was given up is replaced before the endpoint takes it for an attack", () => {
  const { peer, connection, send, log } = connect();
  const last = new Exchange(connection, get);
  let count = 0;
  while (connection.hasRoom) {
    count++;
    const one = new Exchange(connection, get);
    during(() => one.stream.cancel());
  }
  expect(count).toBeLessThan(500);
  expect(log).toContain("leaving");
  send(peer.headers(1, { ":status": "200" }));
  expect(last.log).toEqual(["responded 200 0", "end"]);
  expect(log).toContain("gone");
});

describe("malformed answers", () => {
  const wrong: [string, (peer: Peer) => Uint8Array[]][] = [
    ["no status", (peer) => [peer.headers(1, { x: "y" })]],
    ["a status that is none", (peer) => [peer.headers(1, { ":status": "20" })]],
    ["101", (peer) => [peer.headers(1, { ":status": "101" }, false)]],
    ["an interim answer that is the last", (peer) => [peer.headers(1, { ":status": "100" })]],
    ["a request's pseudo-header field", (peer) => [peer.headers(1, { ":status": "200", ":path": "/" })]],
    ["connection", (peer) => [peer.headers(1, { ":status": "200", connection: "close" })]],
    ["a line end in a value", (peer) => [peer.headers(1, { ":status": "200", x: "a\r\nset-cookie: b" })]],
    ["a content-length without content", (peer) => [peer.headers(1, { ":status": "200", "content-length": "1" })]],
    ["DATA before the head", () => [frame(FrameType.data, 0, 1, "x")]],
    ["an end before the head", () => [frame(FrameType.data, Flag.endStream, 1)]],
  ];
  for (const [what, frames] of wrong) {
    test(what, () => {
      const { peer, connection, send } = connect();
      const one = new Exchange(connection, get);
      send(...frames(peer));
      expect(one.log).toEqual(["failed upstream_malformed never"]);
      expect(peer.reset(1)).toBe(ErrorCode.protocolError);
      expect(connection.closed).toBe(false);
    });
  }

  test("more content than the content-length says", () => {
    const { peer, connection, send } = connect();
    const one = new Exchange(connection, get);
    send(peer.headers(1, { ":status": "200", "content-length": "1" }, false), frame(FrameType.data, 0, 1, "ab"));
    expect(one.log).toEqual(["responded 200 1", "failed upstream_malformed never"]);
  });

  test("a pushed stream ends the connection", () => {
    const { peer, connection, send } = connect();
    const one = new Exchange(connection, get);
    send(frame(FrameType.pushPromise, 4, 1, Buffer.concat([number(2), peer.block({ ":status": "200" })])));
    expect(peer.goaway).toBe(ErrorCode.protocolError);
    expect(one.log).toEqual(["failed upstream_closed never"]);
  });
});

test("an endpoint that speaks HTTP/1 is told from one that does not answer", () => {
  const peer = new Peer(true);
  const log: string[] = [];
  const owner = {
    timeouts: { idle: 1000 },
    requestsPerConnection: Number.POSITIVE_INFINITY,
    ready: () => void log.push("ready"),
    freed: () => {},
    leaving: () => {},
    gone: () => void log.push("gone"),
  };
  const connection = new Http2Upstream(peer, owner, deadlines, "http");
  during(() => connection.onData(Buffer.from("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")));
  expect(log).toEqual(["gone"]);
});

test("an endpoint that is silent is asked, and given up when it does not answer", () => {
  const { peer, connection, log } = connect();
  const one = new Exchange(connection, get);
  clock.advance(45_000);
  expect(peer.of(FrameType.ping).length).toBe(1);
  clock.advance(30_000);
  expect(one.log).toEqual(["failed upstream_closed never"]);
  expect(log).toContain("gone");
});

test("with a policy an endpoint is asked after its interval without streams, too, and given up after its time", () => {
  const { peer, owner, log, send } = connect();
  owner.http2 = { streams: undefined, keepalive: { interval: 12_000, timeout: 3_000 } };
  const asked = () => peer.of(FrameType.ping).length;
  clock.advance(11_900);
  expect(asked()).toBe(0);
  clock.advance(200);
  expect(asked()).toBe(1);
  send(frame(FrameType.ping, Flag.ack, 0, Buffer.alloc(8)));
  clock.advance(11_900);
  expect(asked()).toBe(1);
  clock.advance(200);
  expect(asked()).toBe(2);
  clock.advance(2_800);
  expect(log).not.toContain("gone");
  clock.advance(400);
  expect(log).toContain("gone");
});

test("without a policy one that is not used is let be", () => {
  const { peer, log } = connect();
  clock.advance(600_000);
  expect([peer.of(FrameType.ping).length, log]).toEqual([0, ["ready"]]);
});

test("no more streams are open at once than the backend says", () => {
  const { owner, connection } = connect();
  owner.http2 = { streams: 2, keepalive: undefined };
  new Exchange(connection, get);
  expect(connection.hasRoom).toBe(true);
  new Exchange(connection, get);
  expect(connection.hasRoom).toBe(false);
  owner.http2 = { streams: 3, keepalive: undefined };
  expect(connection.hasRoom).toBe(true);
});

test("an answer that stops is given up after the idle time, though the connection lives", () => {
  const { peer, connection, send } = connect();
  const one = new Exchange(connection, get);
  for (let second = 0; second < 320; second++) {
    clock.advance(1_000);
    send(frame(FrameType.ping, Flag.ack, 0, Buffer.alloc(8)));
  }
  expect(one.log).toEqual(["failed upstream_idle never"]);
  expect(peer.reset(1)).toBe(ErrorCode.cancel);
  expect(connection.hasRoom).toBe(true);
});

test("a CONNECT is passed on with nothing but its target, and for a protocol only where the endpoint takes that", async () => {
  const { peer, connection, send } = connect();
  const one = new Exchange(connection, "CONNECT db:5432 HTTP/1.1\nhost: db:5432\nx-a: b\n\n");
  expect(peer.heads[0]).toMatchObject({ end: false });
  expect(peer.heads[0]!.fields).toEqual([
    [":method", "CONNECT"],
    [":authority", "db:5432"],
    ["x-a", "b"],
  ]);
  send(peer.headers(1, { ":status": "200" }, false), frame(FrameType.data, 0, 1, "hello"));
  expect(one.log).toEqual(["responded 101 0", "data hello"]);
  const other = new Exchange(connection, "CONNECT db:5432 HTTP/1.1\nhost: db:5432\n\n", true, {
    ...{ path: "/p", upgrade: "p" },
  });
  await Promise.resolve();
  expect(other.log).toEqual(["failed upgrade_refused never"]);
});

describe("WebSocket", () => {
  const upgrade =
    "GET /chat HTTP/1.1\nhost: a\nconnection: upgrade\nupgrade: websocket\nsec-websocket-version: 13\nsec-websocket-key: abc\n\n";

  test("an upgrade becomes a CONNECT, and its answer the handshake's", () => {
    const { peer, connection, send } = connect([Setting.enableConnectProtocol, 1]);
    const one = new Exchange(connection, upgrade);
    expect(peer.heads[0]).toMatchObject({ end: false });
    expect(peer.heads[0]!.fields.slice(0, 5)).toEqual([
      [":method", "CONNECT"],
      [":scheme", "http"],
      [":authority", "a"],
      [":path", "/chat"],
      [":protocol", "websocket"],
    ]);
    let accept: string | undefined;
    one.responded = ({ status, headers }: { status: number; headers?: HeaderBlock }) => {
      one.log.push(`responded ${status}`);
      accept = headers?.get("sec-websocket-accept");
    };
    send(peer.headers(1, { ":status": "200" }, false), frame(FrameType.data, 0, 1, "hello"));
    expect(one.log).toEqual(["responded 101", "data hello"]);
    expect(accept).toBe(acceptOf("abc"));
    during(() => {
      one.stream.write(Buffer.from("hi"), 0, 2);
      one.stream.end();
    });
    expect(peer.text(1)).toBe("hi");
    expect(peer.of(FrameType.data, 1).at(-1)!.flags).toBe(Flag.endStream);
  });

  describe("whose endpoint says no more", () => {
    /** An endpoint whose END_STREAM has come; `half`: who is told of halves. */
    function halfEnded() {
      const { peer, connection, send } = connect([Setting.enableConnectProtocol, 1]);
      const one = new Exchange(connection, upgrade);
      const told = one as UpstreamEvents & Exchange;
      told.responseHalfEnd = () => void one.log.push("half end");
      send(peer.headers(1, { ":status": "200" }, false), frame(FrameType.data, Flag.endStream, 1, "bye"));
      expect(one.log.splice(0)).toEqual(["responded 101 0", "data bye", "half end"]);
      return { one, peer, connection, send };
    }

    test("goes on until the client has said all, also what a window holds back", () => {
      const { one, peer, send } = halfEnded();
      during(() => {
        one.stream.write(Buffer.alloc(65_535, "a"), 0, 65_535);
        one.stream.write(Buffer.from("more"), 0, 4);
        one.stream.end();
      });
      expect(peer.text(1)).toHaveLength(65_535);
      expect(one.log).toEqual([]);
      send(frame(FrameType.windowUpdate, 0, 0, number(10)), frame(FrameType.windowUpdate, 0, 1, number(10)));
      expect(peer.text(1)).toEndWith("amore");
      expect(peer.of(FrameType.data, 1).at(-1)!.flags).toBe(Flag.endStream);
      expect(one.log).toEqual(["end"]);
      expect(peer.of(FrameType.rstStream, 1)).toEqual([]);
    });

    test("is over when the endpoint wants to hear no more, and broken when it breaks", () => {
      for (const [code, end] of [
        [ErrorCode.noError, "end"],
        [ErrorCode.cancel, "failed upstream_reset never"],
      ] as const) {
        const { one, send } = halfEnded();
        send(frame(FrameType.rstStream, 0, 1, number(code)));
        expect(one.log).toEqual([end]);
      }
    });

    test("ends when nothing moves any more", () => {
      const { one, peer, send } = halfEnded();
      const pass = (seconds: number) => {
        for (let second = 0; second < seconds; second++) {
          clock.advance(1_000);
          send(frame(FrameType.ping, Flag.ack, 0, Buffer.alloc(8)));
        }
      };
      pass(290);
      during(() => one.stream.write(Buffer.from("still here"), 0, 10));
      pass(290);
      expect(one.log).toEqual([]);
      pass(30);
      expect(one.log).toEqual(["failed upstream_idle never"]);
      expect(peer.reset(1)).toBe(ErrorCode.cancel);
    });
  });

  test("an endpoint that does not take it costs the request and nothing else", async () => {
    const { peer, connection } = connect();
    const one = new Exchange(connection, upgrade);
    await Promise.resolve();
    expect(one.log).toEqual(["failed upgrade_refused never"]);
    expect(peer.heads).toEqual([]);
    expect(connection.hasRoom).toBe(true);
  });

  test("an offer of another protocol is passed over", () => {
    const { peer, connection, send } = connect();
    const one = new Exchange(connection, upgrade.replace("upgrade: websocket", "upgrade: foo/2"));
    expect(peer.heads[0]).toMatchObject({ end: true });
    expect(peer.heads[0]!.fields.map(([name]) => name)).not.toContain("upgrade");
    send(peer.headers(1, { ":status": "204" }));
    expect(one.log).toEqual(["responded 204 0", "end"]);
  });

  test("a refusal is an answer as any other", () => {
    const { peer, connection, send } = connect([Setting.enableConnectProtocol, 1]);
    const one = new Exchange(connection, upgrade);
    send(peer.headers(1, { ":status": "403" }));
    expect(one.log).toEqual(["responded 403 0", "end"]);
  });
});

test("the key's answer is the one of RFC 6455, §1.3", () => {
  expect(acceptOf("dGhlIHNhbXBsZSBub25jZQ==")).toBe("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
});

test("any frames of an endpoint are answers or failures, each exchange ends once, and nothing throws", () => {
  const id = fc.constantFrom(0, 1, 2, 3, 5, 7);
  const one = fc.record({ type: fc.nat(10), flags: fc.nat(255), id, payload: fc.uint8Array({ maxLength: 40 }) });
  const valid = fc.record({ what: fc.constantFrom("answer", "head", "data", "last", "refuse", "goaway"), id });
  fc.assert(
    fc.property(fc.array(fc.oneof(one, valid), { maxLength: 20 }), (frames) => {
      const { peer, connection, send, log } = connect([Setting.enableConnectProtocol, 1]);
      const exchanges = [get, post, get, post].map((text, index) => new Exchange(connection, text, index % 2 === 0));
      for (const one of frames) {
        if (!("what" in one)) send(frame(one.type, one.flags, one.id, one.payload));
        else if (one.what === "answer") send(peer.headers(one.id, { ":status": "200" }));
        else if (one.what === "head") send(peer.headers(one.id, { ":status": "200", "content-length": "3" }, false));
        else if (one.what === "data") send(frame(FrameType.data, 0, one.id, "a"));
        else if (one.what === "last") send(frame(FrameType.data, Flag.endStream, one.id, "ab"));
        else if (one.what === "refuse") send(frame(FrameType.rstStream, 0, one.id, number(ErrorCode.refusedStream)));
        else send(frame(FrameType.goaway, 0, 0, Buffer.concat([number(one.id), number(0)])));
      }
      during(() => connection.onClose());
      for (const { log } of exchanges) expect(log.filter((line) => /^(end|failed)/.test(line)).length).toBe(1);
      expect(log.filter((line) => line === "gone").length).toBe(1);
      expect(log.filter((line) => line === "freed").length).toBe(4);
    }),
    { numRuns: Number(process.env["FUZZ_RUNS"] ?? 300) },
  );
});
