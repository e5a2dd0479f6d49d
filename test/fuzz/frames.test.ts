// Fuzzers of HTTP/2 in one process, both sides: frames changed as frames (order, type, flags, stream, length, content) and as
// bytes, cut anywhere. The reader says the same however its input is cut; a connection throws nothing, writes nothing but frames
// that can be read, and makes the same of its input in one piece and in two. FUZZ_INPUTS and FUZZ_SEED as in `mutate.ts`.

import { afterAll, expect, test } from "bun:test";
import { FakeClock } from "../../src/base/clock.ts";
import { Deadlines } from "../../src/proxy/deadlines.ts";
import type { Downstream, DownstreamEvents, RequestHead, UpstreamEvents } from "../../src/proxy/exchange.ts";
import type { HeaderBlock } from "../../src/proxy/headers.ts";
import { Http1RequestHead, parseRequestHead } from "../../src/proxy/http1/request.ts";
import { Http2Downstream } from "../../src/proxy/http2/downstream.ts";
import { Flag, FrameType, frameHeader, preface, Setting } from "../../src/proxy/http2/frame.ts";
import { flushFrames } from "../../src/proxy/http2/output.ts";
import { frame, number, Peer, settings, settingsAck } from "../../src/proxy/http2/peer.ts";
import { FrameReader, type FrameSink } from "../../src/proxy/http2/reader.ts";
import { Http2Upstream } from "../../src/proxy/http2/upstream.ts";
import { localAnswer } from "../../src/proxy/local-answer.ts";
import { type ClientServer, defaultClientTimeouts } from "../../src/proxy/server.ts";
import { beginTurn, endTurn, turn } from "../../src/proxy/wire.ts";
import { fuzz, mutate, type Random } from "./mutate.ts";

const clock = new FakeClock();
const systemSource = turn.source;
turn.source = () => clock.now();
turn.now = clock.now();
afterAll(() => {
  turn.source = systemSource;
});
const deadlines = new Deadlines(clock);

function during(what: () => void): void {
  beginTurn();
  try {
    what();
  } finally {
    endTurn();
    flushFrames();
  }
}

const peer = new Peer();
const get = { ":method": "GET", ":scheme": "http", ":authority": "a", ":path": "/x" };
const post = { ...get, ":method": "POST" };
const answered = { ":status": "200", "content-type": "text/plain" };
const data = (id: number, text: string, last = true) => frame(FrameType.data, last ? Flag.endStream : 0, id, text);

const fromClients: readonly Buffer[] = [
  [settings(), settingsAck, peer.headers(1, get), peer.headers(3, get), peer.headers(5, post, false), data(5, "hello")],
  [
    settings([Setting.initialWindowSize, 1], [Setting.maxFrameSize, 16_384], [Setting.headerTableSize, 0]),
    peer.headers(1, get),
    frame(FrameType.windowUpdate, 0, 1, number(100)),
    frame(FrameType.windowUpdate, 0, 0, number(0x7fff_0000)),
  ],
  [
    settings(),
    peer.headers(1, { ...post, "content-length": "8" }, false),
    frame(FrameType.data, Flag.padded, 1, "\x03abc\0\0\0"),
    data(1, "defgh", false),
    peer.headers(1, { "x-sum": "7" }),
    frame(FrameType.rstStream, 0, 1, number(8)),
  ],
  [
    settings(),
    frame(FrameType.headers, Flag.endStream | Flag.priority, 1, Buffer.concat([Buffer.alloc(5), peer.block(get)])),
    frame(FrameType.continuation, 0, 1),
    frame(FrameType.continuation, Flag.endHeaders, 1, peer.block({ "x-more": "y" })),
    frame(FrameType.ping, 0, 0, Buffer.alloc(8)),
    frame(FrameType.priority, 0, 3, Buffer.alloc(5)),
    frame(FrameType.goaway, 0, 0, Buffer.alloc(8)),
  ],
  [
    settings([8, 1]),
    peer.headers(1, { ...get, ":method": "CONNECT", ":protocol": "websocket", "sec-websocket-version": "13" }, false),
    data(1, "\x81\x02hi", false),
    data(1, ""),
  ],
].map((frames) => Buffer.concat(frames));

const fromBackends: readonly Buffer[] = [
  [settings(), settingsAck, peer.headers(1, answered, false), data(1, "hello")],
  [
    settings([Setting.maxConcurrentStreams, 1]),
    peer.headers(1, { ":status": "103", link: "x" }, false),
    peer.headers(1, { ...answered, "content-length": "5" }, false),
    frame(FrameType.data, Flag.padded, 1, "\x02he\0\0"),
    data(1, "llo", false),
    peer.headers(1, { "grpc-status": "0" }),
  ],
  [settings(), peer.headers(1, { ":status": "204" }), frame(FrameType.goaway, 0, 0, Buffer.alloc(8))],
  [settings(), frame(FrameType.rstStream, 0, 1, number(7)), frame(FrameType.ping, Flag.ack, 0, Buffer.alloc(8))],
  [
    settings([Setting.initialWindowSize, 0]),
    frame(FrameType.headers, 0, 1, peer.block(answered)),
    frame(FrameType.continuation, Flag.endHeaders, 1),
    frame(FrameType.windowUpdate, 0, 1, number(10)),
    frame(FrameType.pushPromise, Flag.endHeaders, 1, Buffer.concat([number(2), peer.block(get)])),
  ],
].map((frames) => Buffer.concat(frames));

/** Changes frames as frames, so that what is behind the first change is still read; sometimes as bytes. */
function changeFrames(random: Random, seeds: readonly Buffer[]): Buffer {
  if (random.below(4) === 0) return mutate(random, seeds);
  const split = (bytes: Buffer) => {
    const frames: Buffer[] = [];
    for (let at = 0; at < bytes.length; ) {
      const end = at + frameHeader + bytes.readUIntBE(at, 3);
      frames.push(Buffer.from(bytes.subarray(at, end)));
      at = end;
    }
    return frames;
  };
  const frames = split(random.of(seeds));
  for (let change = random.below(4); change >= 0 && frames.length > 0; change--) {
    const at = random.below(frames.length);
    const one = frames[at]!;
    const other = random.of(split(random.of(seeds)));
    const payload = one.subarray(frameHeader);
    switch (random.below(8)) {
      case 0:
        frames.splice(at, 1);
        break;
      case 1:
        frames.splice(random.below(frames.length + 1), 0, other);
        break;
      case 2:
        frames.push(...frames.splice(at, 1));
        break;
      case 3:
        one[3] = random.below(12);
        break;
      case 4:
        one[4] = random.below(2) === 0 ? random.below(256) : one[4]! ^ (1 << random.below(6));
        break;
      case 5:
        one.writeUInt32BE(random.of([0, 1, 2, 3, 5, 7, 257, 0x7fff_ffff, 0xffff_ffff]), 5);
        break;
      default:
        // Its content is another, and its length is right.
        frames[at] = frame(
          one[3]!,
          one[4]!,
          one.readUInt32BE(5),
          mutate(random, [payload, other.subarray(frameHeader)]),
        );
    }
  }
  const bytes = Buffer.concat(frames);
  return bytes.length > 70_000 ? bytes.subarray(0, 70_000) : bytes;
}

/** Gives the input in two pieces, cut anywhere; each is a copy, as a socket's would be. */
function inTwo(bytes: Buffer, cut: number, take: (piece: Buffer) => void): void {
  if (cut > 0) take(Buffer.from(bytes.subarray(0, cut)));
  if (cut < bytes.length) take(Buffer.from(bytes.subarray(cut)));
}

/** What the reader says, pieces of DATA joined. Stops at an error of the connection, as a connection does. */
function readFrames(bytes: Buffer, cut: number): string {
  const said: string[] = [];
  let content = "";
  const say = (...what: readonly unknown[]) => void said.push(what.join(" "));
  const sink: FrameSink = {
    closed: false,
    frameBegins: () => true,
    dataBegins: (id, length, all, last) => {
      say("data of", id, length, all, last);
      content = "";
      return true;
    },
    data: (id, chunk, start, end, last) => {
      expect(start).toBeLessThanOrEqual(end);
      expect(end).toBeLessThanOrEqual(chunk.length);
      content += chunk.latin1Slice(start, end);
      said[said.length - 1] = `data ${id} ${content} ${last}`;
    },
    headers: (id, chunk, start, end, ends, self) => say("headers", id, chunk.latin1Slice(start, end), ends, self),
    priority: (id, self) => say("priority", id, self),
    reset: (id, code) => say("reset", id, code),
    settings: (chunk, start, end) => say("settings", chunk.latin1Slice(start, end)),
    settingsAcknowledged: () => say("ack"),
    ping: (chunk, start, ack) => say("ping", chunk.latin1Slice(start, start + 8), ack),
    goaway: (last, code) => say("goaway", last, code),
    windowUpdate: (id, increment) => say("window", id, increment),
    frameError: (code, what, id) => {
      say("error", code, what, id);
      if (id === undefined) (sink as { closed: boolean }).closed = true;
    },
  };
  const reader = new FrameReader(sink, undefined);
  inTwo(bytes, cut, (piece) => {
    if (!sink.closed) reader.push(piece);
  });
  return said.join("\n");
}

test("frames", async () => {
  const check = (bytes: Buffer, random: Random) => {
    const whole = readFrames(bytes, 0);
    expect(readFrames(bytes, random.below(bytes.length + 1))).toBe(whole);
    expect(whole.length).toBeLessThan(2000 + bytes.length * 40);
  };
  await fuzz("frames", 20_000, [...fromClients, ...fromBackends], check, changeFrames);
});

/** What a client's connection makes of bytes: requests with bodies and ends, what was reset and how it ended. */
function asClient(bytes: Buffer, cut: number, answers: boolean): string {
  const said: string[] = [];
  const downs: Downstream[] = [];
  const server: ClientServer = {
    timeouts: defaultClientTimeouts,
    draining: false,
    request(down: Downstream, head: RequestHead): DownstreamEvents {
      const at = downs.push(down) - 1;
      let body = "";
      said[at] = `${head.method} ${head.authority} ${head.path} ${head.length} ${head.headers.entries().join("|")}`;
      const is = (more: string) => {
        said[at] = `${said[at]!.split("\n")[0]}\n${body} ${more}`;
      };
      return {
        requestData(chunk, start, end) {
          body += chunk.latin1Slice(start, end);
          is("…");
          return true;
        },
        requestEnd: (trailers) => is(`end ${trailers?.entries().join("|")}`),
        // How much of a body was taken until it turned out to be malformed depends on the pieces.
        requestFailed: (reason) => {
          body = "";
          is(`failed ${reason}`);
        },
        downstreamCrowded() {},
        downstreamDrained() {},
      };
    },
    refused: (reason) => void said.push(`refused ${reason}`),
    closed() {},
    turnedOut: () => false,
  };
  const mine = new Peer();
  const connection = new Http2Downstream(mine, server, deadlines, "192.0.2.1", "http");
  during(() => connection.onData(Buffer.from(preface)));
  inTwo(bytes, cut, (piece) => {
    if (!connection.closed) during(() => connection.onData(piece));
  });
  const seen = `${said.join("\n")}\n${resets(mine)}`;
  if (answers) {
    during(() => {
      for (const down of downs) {
        if (connection.closed) break;
        const { head, body } = localAnswer(200, "hello", []);
        down.respond(head);
        down.write(body, 0, body.length);
        down.end();
      }
    });
  }
  if (!connection.closed) during(() => connection.onClose());
  return seen;
}

/** What a connection has said of errors: of streams in any order, and its own. */
function resets(mine: Peer): string {
  const streams = mine.of(FrameType.rstStream).map(({ id, payload }) => `${id} ${payload.readUInt32BE(0)}`);
  return `${[...new Set(streams)].sort().join()} goaway ${mine.goaway} ${mine.state}`;
}

test("a client's connection", async () => {
  const check = (bytes: Buffer, random: Random) => {
    const whole = asClient(bytes, 0, random.below(2) === 0);
    expect(asClient(bytes, random.below(bytes.length + 1), random.below(2) === 0)).toBe(whole);
  };
  await fuzz("http2-client", 5_000, fromClients, check, changeFrames);
});

/** What an exchange over a backend's connection is told of these bytes. */
function asBackend(bytes: Buffer, cut: number): string {
  const mine = new Peer(true);
  const owner = {
    timeouts: { idle: 300_000 },
    requestsPerConnection: Number.POSITIVE_INFINITY,
    ready() {},
    freed() {},
    leaving() {},
    gone() {},
  };
  const connection = new Http2Upstream(mine, owner, deadlines, "http");
  const head = new Http1RequestHead();
  const text = Buffer.from("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n");
  expect(parseRequestHead(text, 0, head)).toBe(text.length);
  let said = "";
  let body = "";
  let over = false;
  const stream = connection.open();
  const told = (what: string) => {
    // Nothing may be told of an exchange that is over.
    expect(over).toBe(false);
    said += what;
  };
  const events: UpstreamEvents = {
    informed: ({ status }) => told(`informed ${status}\n`),
    responded: ({ status, length }) => told(`responded ${status} ${length}\n`),
    responseData: (chunk, start, end) => {
      told("");
      body += chunk.latin1Slice(start, end);
      return true;
    },
    responseEnd: (trailers: HeaderBlock | undefined) => {
      told(`${body}\nend ${trailers?.entries().join("|")}`);
      over = true;
    },
    upstreamFailed: (reason, repeat) => {
      // How much of a body was taken until it turned out to be malformed depends on the pieces.
      told(`failed ${reason} ${repeat}`);
      over = true;
    },
    upstreamDrained() {},
  };
  stream.begin(events);
  during(() => {
    stream.send(head);
    stream.write(Buffer.from("hello"), 0, 5);
    stream.end();
  });
  inTwo(bytes, cut, (piece) => {
    if (!connection.closed) during(() => connection.onData(piece));
  });
  const seen = `${said}\n${resets(mine)}`;
  if (!connection.closed) during(() => connection.onClose());
  // However it ended, the exchange knows.
  expect(over).toBe(true);
  return seen;
}

test("a backend's connection", async () => {
  const check = (bytes: Buffer, random: Random) => {
    const whole = asBackend(bytes, 0);
    expect(asBackend(bytes, random.below(bytes.length + 1))).toBe(whole);
  };
  await fuzz("http2-backend", 5_000, fromBackends, check, changeFrames);
});
