// WebSocket through the proxy as Autobahn's cases have it (framing, fragments, pings, reserved bits and opcodes, UTF-8, close codes,
// sizes, chopped delivery, compression): a proxy is a tunnel, so that each case is bytes that must come out as they went in, valid
// or not, in both directions. Clients and backends of HTTP/1.1 and HTTP/2 (RFC 8441) in all pairings.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import {
  backend,
  endpoints,
  forwardTo,
  freePort,
  ProxyUnderTest,
  plainListener,
  routeTable,
  rule,
} from "./proxy-harness.ts";
import { type End, type Opener, openHttp1, openHttp2, TunnelBackend } from "./tunnel-ends.ts";

const proxy = new ProxyUnderTest();
const port = freePort();
/** Where the proxy is its own backend over HTTP/2. */
const inner = freePort();
const http1 = new TunnelBackend("http1");
const http2 = new TunnelBackend("h2c");
const library = Bun.serve<undefined>({
  ...{ hostname: "127.0.0.1", port: 0 },
  fetch: (request, server) =>
    server.upgrade(request, { headers: { "sec-websocket-protocol": "v2.chat" } })
      ? undefined
      : new Response("no WebSocket here", { status: 426, headers: { upgrade: "websocket" } }),
  websocket: {
    perMessageDeflate: true,
    maxPayloadLength: 8 << 20,
    message(socket, message) {
      socket.send(message, true);
    },
    close(_socket, code, reason) {
      closed.push(`${code} ${reason}`);
    },
  },
});
const closed: string[] = [];

beforeAll(async () => {
  await proxy.start();
  const to = (name: string) =>
    rule(name, {
      match: { headers: [{ name: "x-to", match: { kind: "exact", value: name } }] },
      action: { kind: "forward", to: [forwardTo(name)] },
    });
  const rejected = await proxy.control.update({
    backends: [
      ...[backend("http1"), backend("http2", { protocol: "h2c" })],
      ...[backend("library"), backend("self", { protocol: "h2c" })],
    ],
    endpoints: [
      ...[endpoints("http1", http1.port), endpoints("http2", http2.port)],
      ...[endpoints("library", library.port!), endpoints("self", inner)],
    ],
    routeTables: [
      routeTable([to("http1"), to("http2"), to("library"), to("self")]),
      { ...routeTable([rule("all", { action: { kind: "forward", to: [forwardTo("library")] } })]), name: "inner" },
    ],
    listeners: [plainListener(port), plainListener(inner, { name: "inner", routes: "inner" })],
  });
  expect(rejected).toEqual([]);
});

afterAll(async () => {
  for (const one of [http1, http2]) one.stop();
  await library.stop(true);
  await proxy.stop();
});

// ------------------------------------------------------------------------------------------------------------- Frames

const Op = { more: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** A frame (RFC 6455 §5.2); `first` replaces the first byte. Clients mask. */
function framed(
  op: number,
  payload: Uint8Array | string,
  options: { mask?: boolean; fin?: boolean; rsv?: number } = {},
) {
  const { mask = false, fin = true, rsv = 0 } = options;
  const content = Buffer.from(payload as string);
  const size = content.length;
  const head = [(fin ? 0x80 : 0) | (rsv << 4) | op];
  const bit = mask ? 0x80 : 0;
  if (size < 126) head.push(bit | size);
  else if (size < 65_536) head.push(bit | 126, size >> 8, size & 255);
  else head.push(bit | 127, 0, 0, 0, 0, size >>> 24, (size >> 16) & 255, (size >> 8) & 255, size & 255);
  if (!mask) return Buffer.concat([Buffer.from(head), content]);
  const key = [0x12, 0x34, 0x56, 0x78];
  const masked = Buffer.from(content.map((byte, index) => byte ^ key[index % 4]!));
  return Buffer.concat([Buffer.from([...head, ...key]), masked]);
}

function closing(code: number, reason: string, mask: boolean): Buffer {
  return framed(Op.close, Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]), { mask });
}

/** What each side says, by Autobahn's chapters; `mask` is true for what clients say. */
const chapters: Readonly<Record<string, (mask: boolean) => readonly Buffer[]>> = {
  "1: framing, by every length of the length": (mask) =>
    [0, 125, 126, 127, 128, 65_535, 65_536, 1 << 20].flatMap((size) => [
      framed(Op.text, Buffer.alloc(size, "*"), { mask }),
      framed(Op.binary, Buffer.alloc(size, 0xfe), { mask }),
    ]),
  "2: pings and pongs, with and without words, asked for or not, and one that is too long": (mask) => [
    framed(Op.ping, "", { mask }),
    framed(Op.ping, "Hello, world!", { mask }),
    framed(Op.ping, Buffer.from([0, 0xff, 0xfe, 0xfd]), { mask }),
    framed(Op.ping, Buffer.alloc(125, 0xfe), { mask }),
    framed(Op.ping, Buffer.alloc(126, 0xfe), { mask }),
    framed(Op.pong, "", { mask }),
    framed(Op.pong, "unsolicited", { mask }),
  ],
  "3: reserved bits": (mask) => [1, 2, 3, 4, 5, 6, 7].map((rsv) => framed(Op.text, "Hello", { mask, rsv })),
  "4: reserved opcodes, of data and of control": (mask) =>
    [3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((op) => framed(op, "x", { mask })),
  "5: fragments, with control frames between, and out of their order": (mask) => [
    framed(Op.text, "frag", { mask, fin: false }),
    framed(Op.ping, "between", { mask }),
    framed(Op.more, "ment", { mask, fin: false }),
    framed(Op.pong, "", { mask }),
    framed(Op.more, "", { mask }),
    framed(Op.ping, "fragmented ping", { mask, fin: false }),
    framed(Op.more, "of nothing", { mask }),
    framed(Op.text, "begun", { mask, fin: false }),
    framed(Op.text, "again", { mask }),
  ],
  "6: text that is no UTF-8": (mask) => [
    framed(Op.text, Buffer.from("cebae1bdb9cf83cebcceb5eda080656469746564", "hex"), { mask }),
    framed(Op.text, Buffer.from([0xf8, 0x88, 0x80, 0x80, 0x80]), { mask }),
    framed(Op.text, Buffer.from([0xce]), { mask, fin: false }),
    framed(Op.more, Buffer.from([0xba]), { mask }),
  ],
  "7: close frames with every code, valid or not, and what comes behind them": (mask) => [
    framed(Op.close, "", { mask }),
    framed(Op.close, "x", { mask }),
    ...[0, 999, 1000, 1001, 1004, 1005, 1006, 1007, 1011, 1015, 1016, 2999, 3000, 3999, 4000, 4999, 5000, 65_535].map(
      (code) => closing(code, "bye", mask),
    ),
    closing(1000, "x".repeat(124), mask),
    framed(Op.text, "behind", { mask }),
  ],
  "9: one message of 4 MiB in fragments of 64 KiB": (mask) => [
    framed(Op.binary, Buffer.alloc(65_536, 1), { mask, fin: false }),
    ...Array.from({ length: 62 }, (_, index) => framed(Op.more, Buffer.alloc(65_536, index), { mask, fin: false })),
    framed(Op.more, Buffer.alloc(65_536, 255), { mask }),
  ],
  "no frames at all: masked by who must not, not masked by who must, and noise": (mask) => [
    framed(Op.text, "the other way", { mask: !mask }),
    Buffer.from(Array.from({ length: 1_000 }, (_, index) => (index * 37) & 255)),
    Buffer.from("GET / HTTP/1.1\r\n\r\n"),
  ],
};

const pairings: readonly (readonly [string, Opener, TunnelBackend, string])[] = [
  ["HTTP/1.1 to HTTP/1.1", openHttp1, http1, "http1"],
  ["HTTP/2 to HTTP/1.1", openHttp2, http1, "http1"],
  ["HTTP/1.1 to HTTP/2", openHttp1, http2, "http2"],
  ["HTTP/2 to HTTP/2", openHttp2, http2, "http2"],
];

for (const [pairing, open, server, name] of pairings) {
  describe(pairing, () => {
    const ends: End[] = [];
    afterEach(() => {
      for (const end of ends.splice(0)) end.vanish();
      server.fields = {};
    });

    async function tunnel(fields: Readonly<Record<string, string>> = {}): Promise<{ client: End; backend: End }> {
      const accepted = server.accepted();
      const { end: client, status } = await open(port, { "x-to": name, ...fields });
      expect(status).toBe(open === openHttp1 ? 101 : 200);
      const backend = await accepted;
      ends.push(client, backend);
      return { client, backend };
    }

    async function arrives(to: End, bytes: Buffer): Promise<void> {
      await to.until(() => to.length >= bytes.length);
      // Not by the matcher: what differs in a MiB is nothing to print.
      expect(to.bytes.equals(bytes)).toBe(true);
    }

    test("what both sides say comes out as it went in, chapter by chapter", async () => {
      for (const [chapter, say] of Object.entries(chapters)) {
        const { client, backend } = await tunnel();
        const [up, down] = [say(true), say(false)];
        for (let index = 0; index < Math.max(up.length, down.length); index++) {
          if (up[index]) client.send(up[index]!);
          if (down[index]) backend.send(down[index]!);
        }
        await Promise.all([arrives(backend, Buffer.concat(up)), arrives(client, Buffer.concat(down))]).catch(
          (error) => {
            throw new Error(`${chapter}: ${String(error)}`);
          },
        );
        expect([client.ended, backend.ended]).toEqual([false, false]);
        client.vanish();
        await backend.untilEnd();
      }
    }, 60_000);

    test("byte by byte, each in a packet of its own", async () => {
      const { client, backend } = await tunnel();
      const text = Buffer.concat([
        framed(Op.text, "chopped", { mask: true, fin: false }),
        framed(Op.ping, "p", { mask: true }),
        framed(Op.more, "€".repeat(50), { mask: true }),
      ]);
      for (const byte of text) {
        client.send(Buffer.from([byte]));
        backend.send(Buffer.from([byte]));
        await Bun.sleep(0);
      }
      await Promise.all([arrives(backend, text), arrives(client, text)]);
    });

    test("5,000 pings each way, every one in a piece of its own", async () => {
      const { client, backend } = await tunnel();
      const [up, down] = [framed(Op.ping, "flood", { mask: true }), framed(Op.ping, "flood")];
      for (let count = 0; count < 5_000; count++) {
        client.send(up);
        backend.send(down);
      }
      const all = (one: Buffer) => Buffer.concat(Array.from({ length: 5_000 }, () => one));
      await Promise.all([arrives(backend, all(up)), arrives(client, all(down))]);
    });

    test("who closes is heard, from either side, after what was said", async () => {
      const first = await tunnel();
      first.backend.send(closing(1001, "going away", false));
      first.backend.end();
      await first.client.untilEnd();
      expect(first.client.bytes).toEqual(closing(1001, "going away", false));
      const second = await tunnel();
      second.client.send(closing(1000, "", true));
      second.client.end();
      await second.backend.untilEnd();
      expect(second.backend.bytes).toEqual(closing(1000, "", true));
    });

    test("who vanishes is missed, from either side", async () => {
      const first = await tunnel();
      first.client.send(framed(Op.text, "half", { mask: true }).subarray(0, 5));
      await first.backend.until(() => first.backend.length === 5);
      first.client.vanish();
      await first.backend.untilEnd();
      const second = await tunnel();
      second.backend.vanish();
      await second.client.untilEnd();
    });

    test("protocols and extensions are for the two ends to agree on", async () => {
      server.fields = {
        "sec-websocket-protocol": "v2.chat",
        "sec-websocket-extensions": "permessage-deflate; server_no_context_takeover",
      };
      const offer = "permessage-deflate; client_max_window_bits, x-other";
      const { client, backend } = await tunnel({
        ...{ "sec-websocket-protocol": "v1.chat, v2.chat", "sec-websocket-extensions": offer },
        origin: "https://example.com",
      });
      expect(backend.told).toMatchObject({
        ...{ "sec-websocket-protocol": "v1.chat, v2.chat", "sec-websocket-extensions": offer },
        ...{ "sec-websocket-version": "13", origin: "https://example.com" },
      });
      expect(client.told).toMatchObject(server.fields);
      const compressed = framed(Op.text, Buffer.from("f248cdc9c90700", "hex"), { mask: true, rsv: 4 });
      client.send(compressed);
      await arrives(backend, compressed);
    });
  });
}

/** With the runtime's own client and server, over HTTP/1.1 and over HTTP/2 between two turns through the proxy. */
describe.each(["library", "self"])("a client and a server that know the protocol, by %s", (to) => {
  const headers = { "x-to": to };

  test("agree on compression and a protocol, and echo texts and bytes of every size", async () => {
    const options = { headers, protocols: ["v1.chat", "v2.chat"], perMessageDeflate: true };
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`, options as unknown as string[]);
    socket.binaryType = "arraybuffer";
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = () => reject(new Error("no WebSocket"));
    });
    expect(socket.protocol).toBe("v2.chat");
    expect(socket.extensions).toContain("permessage-deflate");
    const echo = (message: string | Uint8Array<ArrayBuffer>) =>
      new Promise<unknown>((resolve) => {
        socket.onmessage = ({ data }) => resolve(typeof data === "string" ? data : new Uint8Array(data as ArrayBuffer));
        socket.send(message);
      });
    for (const size of [0, 1, 125, 126, 65_535, 65_536, 1 << 20]) {
      const text = "ü😈x".repeat(Math.ceil(size / 7)).slice(0, size);
      expect((await echo(text)) === text).toBe(true);
      const bytes = crypto.getRandomValues(new Uint8Array(Math.min(size, 65_536)));
      expect(Buffer.from((await echo(bytes)) as Uint8Array).equals(Buffer.from(bytes))).toBe(true);
    }
    const before = closed.length;
    const over = new Promise<number>((resolve) => {
      socket.onclose = ({ code }) => resolve(code);
    });
    socket.close(3001, "enough");
    expect(await over).toBe(3001);
    while (closed.length === before) await Bun.sleep(5);
    expect(closed.at(-1)).toBe("3001 enough");
  });
});

test("an upgrade that the backend refuses is answered as it answers, and the connection serves the next request", async () => {
  const { end, status } = await openHttp1(port, { "x-to": "library", "sec-websocket-version": "1" });
  expect([status, end.told["upgrade"]]).toEqual([426, undefined]);
  expect(await (await fetch(`http://127.0.0.1:${port}/`, { headers: { "x-to": "library" } })).text()).toBe(
    "no WebSocket here",
  );
  end.vanish();
});
