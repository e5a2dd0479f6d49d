// How a client's HTTP/2 connection ends: drained, idle, silent or vanished.

import { describe, expect, test } from "bun:test";
import { localAnswer } from "../local-answer.ts";
import { defaultClientTimeouts } from "../server.ts";
import { answer, connect, get, post } from "./downstream-cases.ts";
import { clock, eachTest } from "./each-test.ts";
import { ErrorCode, Flag, FrameType, preface, Setting } from "./frame.ts";
import { settingsLimit } from "./liveness.ts";
import { frame, settings } from "./peer.ts";

eachTest();

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
