// What a client of HTTP/2 can do to cost the proxy more than itself (CVE-2019-9511 to -9518, CVE-2023-44487, CVE-2024-27316, CVE-2025-8671),
// each through a real socket until the connection is ended, while another client asks. The numbers are those of
// `src/proxy/http2/allowance.ts`, whose edges are tested beside it. Over loopback, no privileges.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { ErrorCode, Flag, FrameType } from "../../src/proxy/http2/frame.ts";
import { frame, number, settings } from "../../src/proxy/http2/peer.ts";
import { forwardAll, freePort, ProxyUnderTest } from "./proxy-harness.ts";
import { RawHttp2 } from "./raw-http2.ts";

const proxy = new ProxyUnderTest();
const port = freePort();
const head = "v".repeat(12 * 1024);
let server: ReturnType<typeof Bun.serve>;
/** Requests for a large head that the backend has answered. */
let large = 0;

beforeAll(async () => {
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      await request.text();
      if (!request.url.endsWith("/large")) return new Response("ok");
      large++;
      return new Response(null, { headers: { "x-large": head } });
    },
  });
  await proxy.start();
  await forwardAll(proxy, port, server.port!);
});

afterAll(async () => {
  await proxy.stop();
  server.stop(true);
});

const get = { ":method": "GET", ":scheme": "http", ":authority": "a.example", ":path": "/" };
const post = { ...get, ":method": "POST" };

interface Flood {
  /** What is sent again and again; `index` counts from 0. */
  readonly next: (client: RawHttp2, index: number) => Uint8Array;
  /** Frames, before which it is ended. */
  readonly most: number;
  /** It does not read, and sends no more than there is room for streams. */
  readonly deaf?: true;
}

/** A request that is opened and not finished, then one frame of it again and again. */
const within =
  (open: (client: RawHttp2) => Uint8Array, again: Uint8Array): Flood["next"] =>
  (client, index) =>
    index === 0 ? open(client) : again;

const stream = (index: number) => 2 * index + 1;
const opened = (client: RawHttp2) => client.headers(1, post, false);
const unfinished = (client: RawHttp2) => frame(FrameType.headers, 0, 1, client.block(get));
/** An entry of 4,000 bytes put in the table (RFC 7541 §6.2.1), and a byte for each time that it is meant. */
const bomb = Buffer.concat([Buffer.from("4001617fa11e", "hex"), Buffer.alloc(4000, "v"), Buffer.alloc(2000, 0xbe)]);
const padding = Buffer.concat([Buffer.from([255]), Buffer.alloc(255)]);

const floods: Readonly<Record<string, Flood>> = {
  "rapid reset": {
    most: 5000,
    next: (client, index) =>
      Buffer.concat([
        client.headers(stream(index), get),
        frame(FrameType.rstStream, 0, stream(index), number(ErrorCode.cancel)),
      ]),
  },
  // We reset the stream ourselves, by an error that the client makes.
  MadeYouReset: {
    most: 5000,
    next: (client, index) =>
      Buffer.concat([
        client.headers(stream(index), post, false),
        frame(FrameType.windowUpdate, 0, stream(index), number(0)),
      ]),
  },
  "streams above the limit": { most: 5000, next: (client, index) => client.headers(stream(index), post, false) },
  PING: { most: 5000, next: () => frame(FrameType.ping, 0, 0, Buffer.alloc(8)) },
  SETTINGS: { most: 5000, next: () => settings() },
  PRIORITY: { most: 6000, next: () => frame(FrameType.priority, 0, 1, Buffer.alloc(5)) },
  "frames of unknown types": { most: 6000, next: () => frame(200, 0, 0, "x") },
  WINDOW_UPDATE: { most: 10_000, next: () => frame(FrameType.windowUpdate, 0, 0, number(1)) },
  "empty DATA": { most: 6000, next: within(opened, frame(FrameType.data, 0, 1)) },
  "DATA with nothing but padding": { most: 6000, next: within(opened, frame(FrameType.data, Flag.padded, 1, padding)) },
  "empty CONTINUATION": { most: 100, next: within(unfinished, frame(FrameType.continuation, 0, 1)) },
  "CONTINUATION of 16 KiB": {
    most: 100,
    next: within(unfinished, frame(FrameType.continuation, 0, 1, Buffer.alloc(16_000))),
  },
  "fields that unpack to a thousand times their size": {
    most: 2,
    next: (client) =>
      frame(FrameType.headers, Flag.endHeaders | Flag.endStream, 1, Buffer.concat([client.block(get), bomb])),
  },
  // Heads are bound by no window. They fill what the kernel has for both sides (up to 10 MiB), then our memory.
  "a client that does not read": {
    most: 4000,
    deaf: true,
    next: (client, index) => client.headers(stream(index), { ...get, ":path": "/large" }),
  },
};

/** Milliseconds without any progress, on a busy machine. */
const patience = 1000;

/** Until the connection is closed by the proxy: with which GOAWAY, if one was heard. Throws when it never is closed. */
async function run({ next, most, deaf }: Flood): Promise<number | undefined> {
  const client = await RawHttp2.connect(port);
  if (deaf) client.socket.pause();
  const before = large;
  let sent = 0;
  const over = () => client.goaway !== undefined || client.closed;
  while (!over() && sent < most) {
    for (let some = 0; some < 50 && sent < most; some++) client.send(next(client, sent++));
    let waited = 0;
    do await Bun.sleep(1);
    while (!over() && (client.waiting > 0 || (deaf && sent - (large - before) > 10)) && waited++ < patience);
    // A socket that does not read does not see its end either.
    if (waited > patience) client.socket.resume();
  }
  for (let waited = 0; !client.closed; waited++) {
    if (waited > patience) throw new Error(`still open after ${sent} frames, GOAWAY ${client.goaway}`);
    await Bun.sleep(1);
  }
  return client.goaway;
}

/** Another client's request, on a connection of its own. */
async function ask(): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${port}/`, { headers: { host: "a.example" }, keepalive: false });
  await answer.text();
  return answer.status;
}

async function figures(): Promise<{ readonly megabytes: number; readonly connections: number }> {
  const text = await (await proxy.get("/metrics")).text();
  const of = (name: string) => Number(new RegExp(`^fairlead_proxy_${name} (\\d+)$`, "m").exec(text)?.[1]);
  return { megabytes: of("memory_bytes") / 2 ** 20, connections: of("connections") };
}

describe("a flood ends its connection, and costs others nothing:", () => {
  for (const [name, flood] of Object.entries(floods)) {
    test(name, async () => {
      const ended = run(flood);
      let isOver = false;
      const over = () => {
        isOver = true;
      };
      void ended.then(over, over);
      // Meanwhile, and after it.
      do expect(await ask()).toBe(200);
      while (!isOver);
      expect(await ask()).toBe(200);
      const goaway = await ended;
      if (flood.deaf) expect(goaway).toBeUndefined();
      // A GOAWAY that is followed by a reset may not be heard.
      else expect(goaway ?? ErrorCode.enhanceYourCalm).toBe(ErrorCode.enhanceYourCalm);
    });
  }
});

test("memory is what it was, however often they come", async () => {
  const round = async () => {
    let most = 0;
    for (const flood of Object.values(floods)) {
      await run(flood);
      most = Math.max(most, (await figures()).megabytes);
    }
    return most;
  };
  // The first round grows what is kept: compiled code, spare buffers.
  const first = await round();
  let last = 0;
  for (let count = 0; count < 4; count++) last = await round();
  expect(last).toBeLessThan(first + 32);
  while ((await figures()).connections > 0) await Bun.sleep(20);
}, 60_000);
