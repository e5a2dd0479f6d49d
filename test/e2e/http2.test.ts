// HTTP/2 through the proxy as clients and backends speak it: curl, nghttp, raw frames and node's own server, in any combination
// with HTTP/1.1, with trailers, interim answers, WebSocket, back-pressure and drain. Needs curl and openssl, no privileges.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http2 from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Socket } from "bun";
import { Flag, FrameType, Setting } from "../../src/proxy/http2/frame.ts";
import { frame, number, Peer, settings } from "../../src/proxy/http2/peer.ts";
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
import { makeSecret, tlsListener } from "./proxy-secrets.ts";
import { RawHttp2 } from "./raw-http2.ts";

let proxy: ProxyUnderTest;
let folder: string;
let plain: number;
let secure: number;
const cleanups: (() => unknown)[] = [];

beforeEach(async () => {
  proxy = new ProxyUnderTest();
  folder = mkdtempSync(join(tmpdir(), "fl-t-http2-"));
  plain = freePort();
  secure = freePort();
  await proxy.start();
});

afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
  await proxy.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Listeners with and without TLS in front of one backend. */
async function serve(port: number, protocol: "http1" | "h2c", ...rules: ReturnType<typeof rule>[]): Promise<void> {
  const secret = makeSecret(folder, "h2", "localhost");
  const rejected = await proxy.control.update({
    secrets: [secret],
    backends: [backend("one", { protocol })],
    endpoints: [endpoints("one", port)],
    routeTables: [routeTable([...rules, rule("all")])],
    listeners: [plainListener(plain), tlsListener(secure, [{ kind: "tls" }, secret])],
  });
  expect(rejected).toEqual([]);
}

/** A backend of HTTP/1.1 that says what it got. */
function echo(): number {
  const server = Bun.serve<undefined>({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request, bun) {
      const url = new URL(request.url);
      if (url.pathname === "/socket" && bun.upgrade(request)) return undefined;
      if (url.pathname === "/none") return new Response(null, { status: 204 });
      if (url.pathname === "/big") return new Response(new Uint8Array(20_000_000));
      const body = await request.bytes();
      return Response.json({
        method: request.method,
        path: url.pathname + url.search,
        size: body.length,
        headers: Object.fromEntries(request.headers),
      });
    },
    websocket: {
      message(socket, message) {
        socket.send(`you said ${message}`);
      },
    },
  });
  cleanups.push(() => server.stop(true));
  return server.port!;
}

/** A backend of HTTP/2: node's, which answers with trailers. */
async function http2Backend(): Promise<number> {
  const server = http2.createServer();
  server.on("stream", (stream: http2.ServerHttp2Stream, headers) => {
    if (headers[":path"] === "/hints") stream.additionalHeaders({ ":status": 103, link: "</style.css>; rel=preload" });
    let size = 0;
    stream.on("data", (chunk: Buffer) => {
      size += chunk.length;
    });
    stream.on("error", () => {});
    stream.on("end", () => {
      stream.respond({ ":status": 200, "content-type": "text/plain" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": String(size) }));
      stream.end(
        `${headers[":method"]} ${headers[":path"]} ${headers[":authority"]} ${size} ${headers["cookie"] ?? ""}`,
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => server.close());
  return (server.address() as { port: number }).port;
}

async function curl(...words: readonly string[]): Promise<string> {
  const child = Bun.spawn(["curl", "-sSk", "--max-time", "30", ...words], { stdout: "pipe", stderr: "ignore" });
  return await new Response(child.stdout).text();
}

describe("clients of HTTP/2, backends of HTTP/1.1", () => {
  test("curl over TLS and by prior knowledge, and HTTP/1.1 on the same ports", async () => {
    await serve(echo(), "http1");
    for (const [flag, url, version] of [
      ["--http2", `https://127.0.0.1:${secure}`, "2"],
      ["--http1.1", `https://127.0.0.1:${secure}`, "1.1"],
      ["--http2-prior-knowledge", `http://127.0.0.1:${plain}`, "2"],
      ["--http1.1", `http://127.0.0.1:${plain}`, "1.1"],
    ] as const) {
      const text = await curl(flag, "-w", "\n%{http_version} %{http_code}", "-b", "a=1; b=2", `${url}/x?y=z`);
      const [body, status] = text.split("\n");
      expect(status).toBe(`${version} 200`);
      expect(JSON.parse(body!)).toMatchObject({
        method: "GET",
        path: "/x?y=z",
        headers: { cookie: "a=1; b=2", "x-forwarded-for": "127.0.0.1", host: url.slice(url.indexOf("//") + 2) },
      });
    }
  });

  test("bodies of known and unknown length, HEAD, and answers without a body", async () => {
    await serve(echo(), "http1");
    const url = `http://127.0.0.1:${plain}`;
    const file = join(folder, "body");
    await Bun.write(file, Buffer.alloc(3_000_000, "x"));
    const known = JSON.parse(await curl("--http2-prior-knowledge", "--data-binary", `@${file}`, url));
    expect(known).toMatchObject({ method: "POST", size: 3_000_000, headers: { "content-length": "3000000" } });
    const unknown = JSON.parse(
      await curl("--http2-prior-knowledge", "-T", "-", "-X", "POST", url, "--next", "-s", url).then((text) =>
        text.slice(0, text.indexOf("}}") + 2),
      ),
    );
    expect(unknown.headers["content-length"]).toBeUndefined();
    expect(await curl("--http2-prior-knowledge", "-I", `${url}/x`)).toStartWith("HTTP/2 200");
    expect(await curl("--http2-prior-knowledge", "-i", `${url}/none`)).toStartWith("HTTP/2 204");
    expect((await curl("--http2-prior-knowledge", `${url}/big`)).length).toBe(20_000_000);
    expect((await curl("--http2", `https://127.0.0.1:${secure}/big`)).length).toBe(20_000_000);
  });

  test.skipIf(!Bun.which("nghttp"))("nghttp, many streams on one connection", async () => {
    await serve(echo(), "http1");
    const urls = Array.from({ length: 50 }, (_, index) => `https://127.0.0.1:${secure}/${index}`);
    const child = Bun.spawn(["nghttp", "-ns", ...urls], { stdout: "pipe", stderr: "ignore" });
    const lines = (await new Response(child.stdout).text()).split("\n").filter((line) => / 200 /.test(line));
    expect(lines.length).toBe(50);
  });
  if (!Bun.which("nghttp")) console.log("skipped: nghttp is missing (apt-get install nghttp2-client)");
});

describe("backends of HTTP/2", () => {
  for (const [what, flag] of [
    ["clients of HTTP/1.1", "--http1.1"],
    ["clients of HTTP/2", "--http2-prior-knowledge"],
  ] as const) {
    test(`${what}: bodies, cookies and trailers`, async () => {
      await serve(await http2Backend(), "h2c");
      const text = await curl(
        flag,
        "-D",
        join(folder, "heads"),
        "-d",
        "hello",
        "-b",
        "a=1",
        `http://127.0.0.1:${plain}/x?y`,
      );
      expect(text).toBe(`POST /x?y 127.0.0.1:${plain} 5 a=1`);
      // curl writes trailers behind the head.
      expect(readFileSync(join(folder, "heads"), "latin1")).toContain("x-sum: 5");
    });

    test(`${what}: early hints`, async () => {
      await serve(await http2Backend(), "h2c");
      const text = await curl(flag, "-i", `http://127.0.0.1:${plain}/hints`);
      expect(text).toMatch(/^HTTP\/[12.]+ 103/);
      expect(text).toContain("link: </style.css>; rel=preload");
      expect(text).toContain("GET /hints");
    });
  }

  test("exchanges share one connection", async () => {
    await serve(await http2Backend(), "h2c");
    const urls = Array.from({ length: 40 }, (_, index) => `http://127.0.0.1:${plain}/${index}`);
    await curl("--http2-prior-knowledge", "--parallel", "--parallel-immediate", ...urls);
    const stats = (await (await proxy.get("/stats")).json()) as { backends: { connections: number }[] };
    expect(stats.backends[0]!.connections).toBe(1);
  });

  /** A backend of raw frames: `serve` is told of each head that came, and of its connection's number. */
  function rawBackend(
    greeting: Uint8Array,
    answer: (peer: Peer, id: number, connection: number) => readonly Uint8Array[],
  ): number {
    let connections = 0;
    const listener = Bun.listen<{ peer: Peer; told: number; number: number }>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(socket) {
          socket.data = { peer: new Peer(true), told: 0, number: connections++ };
          socket.write(greeting);
        },
        data(socket, bytes) {
          const { peer, number } = socket.data;
          peer.write(bytes, 0, bytes.length);
          while (socket.data.told < peer.heads.length) {
            const { id } = peer.heads[socket.data.told++]!;
            socket.write(Buffer.concat(answer(peer, id, number)));
          }
        },
        error() {},
      },
    });
    cleanups.push(() => listener.stop(true));
    return listener.port;
  }

  const ok = (peer: Peer, id: number) => peer.headers(id, { ":status": "200", "x-stream": String(id) });

  test("a backend that permits few streams gets more connections, and no request is lost", async () => {
    await serve(
      rawBackend(settings([Setting.maxConcurrentStreams, 2]), (peer, id) => [ok(peer, id)]),
      "h2c",
    );
    const client = await rawClient(plain);
    const ids = Array.from({ length: 50 }, (_, index) => 2 * index + 1);
    client.send(...ids.map((id) => client.headers(id, get)));
    await client.until(() => client.heads.length === 50);
    expect(client.heads.every(({ fields }) => fields[0]![1] === "200")).toBe(true);
  });

  test("what a backend refuses or leaves behind is sent again, also a POST", async () => {
    let refused = 0;
    const port = rawBackend(settings(), (peer, id, connection) => {
      if (id === 1 && refused++ === 0) return [frame(FrameType.rstStream, 0, 1, number(7))];
      if (connection === 0) return [frame(FrameType.goaway, 0, 0, Buffer.concat([number(id - 2), number(0)]))];
      return [ok(peer, id)];
    });
    await serve(port, "h2c");
    const client = await rawClient(plain);
    client.send(client.headers(1, { ...get, ":method": "POST" }));
    await client.until(() => client.heads.length === 1);
    expect(client.heads[0]!.fields[0]).toEqual([":status", "200"]);
    // Refused, left behind by the GOAWAY, served by a second connection.
    expect(refused).toBeGreaterThan(0);
  });

  test("a backend that speaks HTTP/1.1 and was said to speak HTTP/2 is a bad gateway with its reason", async () => {
    await serve(echo(), "h2c");
    const text = await curl("-i", `http://127.0.0.1:${plain}/x`);
    expect(text).toStartWith("HTTP/1.1 502");
    expect(text).toContain("x-fairlead-reason: upgrade_refused");
  });

  test("a backend that accepts connections and never says a word does not hold requests up", async () => {
    const port = rawBackend(new Uint8Array(0), () => []);
    await serve(port, "h2c");
    expect(
      await proxy.control.update({ backends: [backend("one", { protocol: "h2c", connectTimeout: 200 })] }),
    ).toEqual([]);
    const text = await curl("-i", `http://127.0.0.1:${plain}/x`);
    expect(text).toContain("x-fairlead-reason: connect_timeout");
    const stats = (await (await proxy.get("/stats")).json()) as { backends: { connections: number }[] };
    expect(stats.backends[0]!.connections).toBe(0);
  });

  test("a backend that changes its protocol is spoken to in the new one", async () => {
    await serve(await http2Backend(), "h2c");
    const url = `http://127.0.0.1:${plain}/x`;
    expect(await curl(url)).toStartWith("GET /x");
    await serve(echo(), "http1");
    expect(JSON.parse(await curl(url))).toMatchObject({ method: "GET" });
  });
});

async function rawClient(port: number, greet?: Buffer): Promise<RawHttp2> {
  const client = await RawHttp2.connect(port, greet);
  cleanups.push(() => client.close());
  return client;
}

const get = { ":method": "GET", ":scheme": "http", ":authority": "localhost", ":path": "/" };

/** A text frame of WebSocket, masked with zeroes. */
function message(text: string): Buffer {
  return Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]);
}

describe("WebSocket", () => {
  /** A second listener, of which the first is the client over HTTP/2: its backend is this proxy again. */
  async function twice(): Promise<void> {
    const inner = freePort();
    const hop = (name: string) => ({ kind: "forward" as const, to: [forwardTo(name)] });
    const rejected = await proxy.control.update({
      backends: [backend("one"), backend("self", { protocol: "h2c" })],
      endpoints: [endpoints("one", echo()), endpoints("self", inner)],
      routeTables: [
        routeTable([rule("out", { action: hop("self") })]),
        { ...routeTable([rule("in", { action: hop("one") })]), name: "inner" },
      ],
      listeners: [plainListener(plain), plainListener(inner, { name: "inner", routes: "inner" })],
    });
    expect(rejected).toEqual([]);
  }

  async function talk(client: RawHttp2): Promise<void> {
    await client.until(() => client.of(FrameType.settings).length > 0);
    const connect = {
      ...get,
      ":method": "CONNECT",
      ":protocol": "websocket",
      ":path": "/socket",
      "sec-websocket-version": "13",
    };
    client.send(client.headers(1, connect, false), frame(FrameType.data, 0, 1, message("hello")));
    await client.until(() => client.text(1).includes("you said hello"));
    expect(client.heads[0]!.fields[0]).toEqual([":status", "200"]);
    client.send(frame(FrameType.data, 0, 1, message("again")));
    await client.until(() => client.text(1).includes("you said again"));
    client.send(frame(FrameType.data, Flag.endStream, 1));
    await client.until(() => client.of(FrameType.data, 1).some(({ flags }) => flags & Flag.endStream));
  }

  test("over HTTP/2 to a backend of HTTP/1.1", async () => {
    await serve(echo(), "http1");
    await talk(await rawClient(plain));
  });

  test("over HTTP/2 on both sides", async () => {
    await twice();
    await talk(await rawClient(plain));
  });

  test("over HTTP/1.1 to a backend of HTTP/2", async () => {
    await twice();
    const socket = new WebSocket(`ws://127.0.0.1:${plain}/socket`);
    const answer = await new Promise<string>((resolve, reject) => {
      socket.onopen = () => socket.send("hello");
      socket.onmessage = ({ data }) => resolve(String(data));
      socket.onerror = () => reject(new Error("no WebSocket"));
    });
    expect(answer).toBe("you said hello");
    socket.close();
  });

  test("a backend that answers something else is a bad gateway, not a tunnel", async () => {
    await serve(echo(), "http1");
    const client = await rawClient(plain);
    client.send(client.headers(1, { ...get, ":method": "CONNECT", ":protocol": "websocket", ":path": "/x" }, false));
    await client.until(() => client.heads.length > 0);
    expect(client.heads[0]!.fields).toContainEqual([":status", "502"]);
    expect(client.heads[0]!.fields).toContainEqual(["x-fairlead-reason", "upgrade_refused"]);
  });
});

describe("limits and ends", () => {
  test("a client that does not read holds its backend back, and nobody else", async () => {
    let written = 0;
    const chunk = Buffer.alloc(65_536);
    // As much as the kernel takes: a proxy that does not follow its client would take all of it.
    const pour = (socket: Socket<undefined>) => {
      while (written < 500_000_000) {
        const taken = Math.max(0, socket.write(chunk));
        written += taken;
        if (taken < chunk.length) return;
      }
    };
    const source = Bun.listen<undefined>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data(socket, bytes) {
          if (!bytes.includes("GET /endless")) {
            socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi");
            return;
          }
          socket.write("HTTP/1.1 200 OK\r\ncontent-length: 500000000\r\n\r\n");
          pour(socket);
        },
        drain: pour,
      },
    });
    cleanups.push(() => source.stop(true));
    await serve(source.port, "http1");
    const client = await rawClient(plain);
    client.send(
      frame(FrameType.windowUpdate, 0, 0, number(1_000_000)),
      client.headers(1, { ...get, ":path": "/endless" }),
    );
    await client.until(() => client.text(1).length === 65_535);
    client.send(client.headers(3, get));
    await client.until(() => client.text(3) === "hi");
    expect(written).toBeLessThan(50_000_000);
  });

  test("a drain lets streams finish, and the connection goes", async () => {
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      async fetch() {
        await held;
        return new Response("done");
      },
    });
    cleanups.push(() => server.stop(true));
    await serve(server.port!, "http1");
    const client = await rawClient(plain);
    client.send(client.headers(1, get));
    await client.until(() => client.of(FrameType.settings).length > 1);
    await fetch("http://proxy/drain?deadline=20000", { unix: proxy.admin, method: "POST" });
    await client.until(() => client.of(FrameType.goaway).length > 0);
    client.send(frame(FrameType.ping, Flag.ack, 0, Buffer.alloc(8)));
    await client.until(() => client.of(FrameType.goaway).length > 1);
    release();
    await client.until(() => client.text(1) === "done");
    expect(client.goaway).toBe(0);
    expect(await proxy.process!.exited).toBe(0);
  });

  test("a flood ends the connection and costs others nothing", async () => {
    await serve(echo(), "http1");
    const client = await rawClient(plain);
    for (let id = 1; id < 4_000; id += 2) {
      client.send(client.headers(id, get), frame(FrameType.rstStream, 0, id, number(8)));
    }
    await client.until(() => client.goaway !== undefined);
    expect(client.goaway).toBe(11);
    expect(JSON.parse(await curl("--http2-prior-knowledge", `http://127.0.0.1:${plain}/`))).toMatchObject({
      method: "GET",
    });
  });
});
