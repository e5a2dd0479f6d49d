// How much a client may send and leave lying over HTTP/2: windows both ways, floods, streams at once.

import { describe, expect, test } from "bun:test";
import { localAnswer } from "../local-answer.ts";
import { turn } from "../wire.ts";
import { maxStreams } from "./downstream.ts";
import { connect, get, post } from "./downstream-cases.ts";
import { clock, eachTest } from "./each-test.ts";
import { ErrorCode, Flag, FrameType, Setting } from "./frame.ts";
import { frame, number, type Peer, settings } from "./peer.ts";
import { streamWindow } from "./stream.ts";

eachTest();

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

test("streams above the limit are refused, and the rest goes on", () => {
  const { server, peer, send } = connect();
  for (let index = 0; index <= maxStreams; index++) send(peer.headers(2 * index + 1, get));
  expect(server.seen.length).toBe(maxStreams);
  expect(peer.reset(2 * maxStreams + 1)).toBe(ErrorCode.refusedStream);
  expect(peer.goaway).toBeUndefined();
});
