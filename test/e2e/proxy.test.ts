// The proxy program as a whole: spawned, configured over its control socket, spoken to over loopback. Needs no privileges.

import { describe, expect, test } from "bun:test";
import { existsSync, statSync } from "node:fs";
import { fingerprint } from "../../src/model/fingerprint.ts";
import type { Backend } from "../../src/model/model.ts";
import { eachTest } from "./each-test.ts";
import {
  backend,
  endpoints,
  forwardTo,
  freePort,
  from,
  ProxyUnderTest,
  plainListener,
  routeTable,
  rule,
} from "./proxy-harness.ts";
import { exchange, RawClient, rawBackend } from "./proxy-raw.ts";

let proxy: ProxyUnderTest;
let port: number;
const ends = eachTest((fresh, free) => {
  proxy = fresh;
  port = free;
});

/** A backend that says its name, and what it was asked. */
function echo(name: string): number {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const url = new URL(request.url);
      return Response.json({
        name,
        method: request.method,
        path: url.pathname + url.search,
        headers: Object.fromEntries(request.headers),
        body: await request.text(),
      });
    },
  });
  ends.push(() => server.stop(true));
  return server.port!;
}

/** A backend that answers every request head with fixed bytes. */
function answering(bytes: string, more: { close?: boolean } = {}): ReturnType<typeof rawBackend> {
  const backend = rawBackend((socket, text) => {
    if (!text.includes("\r\n\r\n")) return;
    socket.data.text = "";
    socket.write(Buffer.from(bytes, "latin1"));
    if (more.close) socket.end();
  });
  ends.push(backend.stop);
  return backend;
}

interface Seen {
  name: string;
  method: string;
  path: string;
  headers: Record<string, string>;
  body: string;
}

async function serve(ports: readonly number[], rules = [rule("all")], more: Partial<Backend> = {}): Promise<void> {
  await proxy.start();
  const rejected = await proxy.control.update({
    backends: [backend("one", more)],
    endpoints: [endpoints("one", ...ports)],
    routeTables: [routeTable(rules)],
    listeners: [plainListener(port)],
  });
  expect(rejected).toEqual([]);
}

const url = (path = "/") => `http://127.0.0.1:${port}${path}`;
const request = (path = "/", ...fields: string[]) =>
  `GET ${path} HTTP/1.1\r\nhost: a\r\n${fields.map((field) => `${field}\r\n`).join("")}\r\n`;

describe("routing", () => {
  test("a request goes the whole way", async () => {
    const hello = await proxy.start();
    expect(hello).toMatchObject({ proxy: "test", scopes: ["gateway"], pid: proxy.process!.pid });
    const rejected = await proxy.control.update({
      backends: [backend("one")],
      endpoints: [endpoints("one", echo("one"))],
      routeTables: [routeTable([rule("all", { match: { path: { kind: "segments", value: "/orders" } } })])],
      listeners: [plainListener(port)],
    });
    expect(rejected).toEqual([]);
    const answer = await fetch(url("/orders/7?x=1"), { method: "POST", body: "hello" });
    expect(answer.status).toBe(200);
    const seen = (await answer.json()) as Seen;
    expect(seen).toMatchObject({ name: "one", method: "POST", path: "/orders/7?x=1", body: "hello" });
    expect(seen.headers).toMatchObject({
      host: `127.0.0.1:${port}`,
      "x-forwarded-for": "127.0.0.1",
      "x-forwarded-proto": "http",
      "x-forwarded-host": `127.0.0.1:${port}`,
    });
    expect(seen.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
    const missing = await fetch(url("/other"));
    expect(missing.status).toBe(404);
    expect(missing.headers.get("x-fairlead-reason")).toBe("no_route");
  });

  test("shares are given by weight", async () => {
    await proxy.start();
    const action = { kind: "forward" as const, to: [forwardTo("one", 90), forwardTo("two", 10)] };
    await proxy.control.update({
      backends: [backend("one"), backend("two")],
      endpoints: [endpoints("one", echo("one")), endpoints("two", echo("two"))],
      routeTables: [routeTable([rule("split", { action })])],
      listeners: [plainListener(port)],
    });
    let two = 0;
    for (let count = 0; count < 1000; count++) {
      const answer = (await (await fetch(url())).json()) as Seen;
      if (answer.name === "two") two++;
    }
    // 3 sigma of a binomial would be 28; a low-discrepancy choice stays within a few.
    expect(Math.abs(two - 100)).toBeLessThanOrEqual(5);
  });

  test("forwarding headers: addresses are appended, what a client may not claim is replaced, a request id is kept", async () => {
    await serve([echo("one")]);
    const answer = await fetch(url(), {
      headers: {
        "x-forwarded-for": "10.0.0.1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "forged",
        "x-request-id": "given",
        connection: "x-hop",
        "x-hop": "1",
      },
    });
    const { headers } = (await answer.json()) as Seen;
    expect(headers).toMatchObject({
      "x-forwarded-for": "10.0.0.1, 127.0.0.1",
      "x-forwarded-proto": "http",
      "x-forwarded-host": `127.0.0.1:${port}`,
      "x-request-id": "given",
    });
    expect(headers["x-hop"]).toBeUndefined();
  });

  test("filters, rewrites, redirects and direct answers", async () => {
    const change = (set: string, remove: string) => ({ set: [{ name: set, value: "1" }], add: [], remove: [remove] });
    await serve(
      [echo("one")],
      [
        rule("rewrite", {
          match: { path: { kind: "segments", value: "/old" } },
          filters: [
            { kind: "requestHeaders", from, change: change("x-set", "x-remove") },
            { kind: "rewrite", from, host: "inside.example", path: { kind: "prefix", value: "/new" } },
            { kind: "responseHeaders", from, change: change("x-answer", "content-type") },
          ],
        }),
        rule("redirect", {
          match: { path: { kind: "exact", value: "/away" } },
          action: { kind: "redirect", scheme: "https", host: "b.example", status: 308 },
        }),
        rule("respond", {
          match: { path: { kind: "exact", value: "/teapot" } },
          action: { kind: "respond", status: 418, reason: "short and stout" },
        }),
        rule("weightless", {
          match: { path: { kind: "exact", value: "/weightless" } },
          action: { kind: "forward", to: [forwardTo("one", 0)] },
        }),
      ],
    );
    const rewritten = await fetch(url("/old/a?b=c"), { headers: { "x-remove": "1" } });
    expect(rewritten.headers.get("x-answer")).toBe("1");
    expect(rewritten.headers.get("content-type")).toBeNull();
    const seen = (await rewritten.json()) as Seen;
    expect(seen.path).toBe("/new/a?b=c");
    expect(seen.headers).toMatchObject({
      host: "inside.example",
      "x-set": "1",
      "x-forwarded-host": `127.0.0.1:${port}`,
    });
    expect(seen.headers["x-remove"]).toBeUndefined();
    const redirect = await fetch(url("/away?q"), { redirect: "manual" });
    expect([redirect.status, redirect.headers.get("location")]).toEqual([308, "https://b.example/away?q"]);
    const teapot = await fetch(url("/teapot"));
    expect([teapot.status, await teapot.text()]).toEqual([418, "short and stout\n"]);
    expect((await fetch(url("/weightless"))).status).toBe(500);
  });
});

describe("HTTP/1.1", () => {
  test("what is malformed is answered and the connection closed; nothing of it reaches the backend", async () => {
    const one = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    await serve([one.port]);
    const wrong: [string, number][] = [
      ["GET / HTTP/1.1\r\nhost: a\nx: b\r\n\r\n", 400],
      ["GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400],
      ["GET / HTTP/1.1\r\n\r\n", 400],
      ["GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400],
      ["POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /x", 400],
      ["POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!", 400],
      ["POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 501],
      ["CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 501],
      ["GET / HTTP/1.2\r\nhost: a\r\nexpect: magic\r\n\r\n", 417],
      ["GET / HTTP/3.0\r\nhost: a\r\n\r\n", 505],
      [request("/", `x: ${"a".repeat(70_000)}`), 431],
    ];
    for (const [text, status] of wrong) {
      const answer = await exchange(port, text, (seen) => seen.includes("is no host") || seen.includes("or no host"));
      expect(answer.slice(0, 12)).toBe(`HTTP/1.1 ${status}`);
      expect(answer).toContain("x-fairlead-reason: ");
    }
    expect(one.connections()).toBe(0);
  });

  test("a bad chunk ends the request with 400", async () => {
    const one = rawBackend(() => {});
    ends.push(one.stop);
    await serve([one.port]);
    const head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    const answer = await exchange(port, `${head}5\r\nhello\r\nZ\r\n`);
    expect(answer).toStartWith("HTTP/1.1 400");
    expect(answer).toContain("bad_chunk");
  });

  test("pipelined requests are answered in order", async () => {
    await serve([echo("one")]);
    const answers = await exchange(port, request("/a") + request("/b") + request("/c", "connection: close"));
    const paths = [...answers.matchAll(/"path":"([^"]+)"/g)].map((match) => match[1]);
    expect(paths).toEqual(["/a", "/b", "/c"]);
  });

  test("HEAD, 204 and 304 have no body, and the connection goes on", async () => {
    const answers: Record<string, string> = {
      HEAD: "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
      "/204": "HTTP/1.1 204 No Content\r\n\r\n",
      "/304": "HTTP/1.1 304 Not Modified\r\ncontent-length: 1000\r\netag: x\r\n\r\n",
    };
    const one = rawBackend((socket, text) => {
      socket.data.text = "";
      for (const [key, answer] of Object.entries(answers)) if (text.includes(key)) socket.write(answer);
    });
    ends.push(one.stop);
    await serve([one.port]);
    const text = `${request("/").replace("GET", "HEAD")}${request("/204")}${request("/304", "connection: close")}`;
    const seen = await exchange(port, text);
    expect([...seen.matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => match[1])).toEqual(["200", "204", "304"]);
    expect(seen).toContain("content-length: 1000");
    expect(one.connections()).toBe(1);
  });

  test("bodies of every framing arrive whole, for clients of both versions", async () => {
    const ways = {
      length: "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world",
      chunked: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6;x=y\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n",
      close: "HTTP/1.1 200 OK\r\n\r\nhello world",
    };
    for (const [way, bytes] of Object.entries(ways)) {
      const one = answering(bytes, { close: way === "close" });
      await proxy.stop();
      const fresh = new ProxyUnderTest();
      ends.push(() => fresh.stop());
      proxy = fresh;
      await serve([one.port]);
      expect(await (await fetch(url())).text()).toBe("hello world");
      const old = await exchange(port, "GET / HTTP/1.0\r\nhost: a\r\n\r\n");
      expect(old).not.toContain("chunked");
      expect(old).toEndWith("\r\n\r\nhello world");
    }
  });

  test("an answer that is cut off is seen as cut off", async () => {
    const one = answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", { close: true });
    await serve([one.port]);
    const seen = await exchange(port, request());
    expect(seen).toContain("hello");
    expect(seen).not.toContain("0\r\n\r\n");
  });

  test("trailers are passed on", async () => {
    const one = answering(
      "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-sum: 7\r\nhost: b\r\n\r\n",
    );
    await serve([one.port]);
    const seen = await exchange(port, request("/", "connection: close"));
    expect(seen).toEndWith("1\r\na\r\n0\r\nx-sum: 7\r\n\r\n");
  });

  test("100-continue is passed both ways", async () => {
    const one = rawBackend((socket, text) => {
      if (text.endsWith("\r\n\r\n")) socket.write("HTTP/1.1 100 Continue\r\n\r\n");
      if (text.endsWith("hello")) socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
    ends.push(one.stop);
    await serve([one.port]);
    const client = await RawClient.connect(port);
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\n");
    await client.read((seen) => seen.includes("100 Continue\r\n\r\n"));
    client.send("hello");
    expect(await client.read(() => false)).toEndWith("\r\n\r\nok");
  });

  test("an upgraded connection is a tunnel", async () => {
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: (incoming, self) => (self.upgrade(incoming) ? undefined : new Response("no", { status: 400 })),
      websocket: { message: (socket, message) => void socket.send(`echo ${message}`) },
    });
    ends.push(() => server.stop(true));
    await serve([server.port!]);
    const socket = new WebSocket(`ws://127.0.0.1:${port}/chat`);
    const answers: string[] = [];
    await new Promise<void>((resolve, reject) => {
      socket.onopen = () => socket.send("one");
      socket.onerror = () => reject(new Error("websocket failed"));
      socket.onmessage = ({ data }) => {
        answers.push(String(data));
        if (answers.length === 1) socket.send("x".repeat(100_000));
        else resolve();
      };
    });
    socket.close();
    expect(answers[0]).toBe("echo one");
    expect(answers[1]!.length).toBe(100_005);
  });

  test("a tunnel ends on both sides when either side leaves, and what was said before arrives", async () => {
    let said = "";
    let left = 0;
    const listener = Bun.listen<{ open: boolean }>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(socket) {
          socket.data = { open: false };
        },
        data(socket, bytes) {
          if (socket.data.open) {
            said += bytes.toString();
            if (said.endsWith("leave")) socket.end("bye");
          } else {
            socket.data.open = true;
            socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\nhello");
          }
        },
        close() {
          left++;
        },
      },
    });
    ends.push(() => listener.stop(true));
    await serve([listener.port]);
    const upgrade = request("/", "connection: upgrade", "upgrade: raw");
    const client = await RawClient.connect(port);
    client.send(upgrade);
    await client.read((seen) => seen.endsWith("hello"));
    client.send("last words");
    client.socket.shutdown();
    await until(() => left === 1);
    expect(said).toBe("last words");
    expect(await exchange(port, `${upgrade}leave`)).toEndWith("hellobye");
  });

  test("a client that says no more in a tunnel still hears the backend", async () => {
    const heard: string[] = [];
    const listener = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      allowHalfOpen: true,
      socket: {
        data(socket, bytes) {
          const text = bytes.toString();
          if (text.startsWith("GET"))
            socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n");
          else heard.push(text);
        },
        end(socket) {
          heard.push("end");
          // In two turns, so that what comes after the first is seen to come, too.
          socket.write("you said ");
          setTimeout(() => socket.end(heard.join()), 20);
        },
      },
    });
    ends.push(() => listener.stop(true));
    await serve([listener.port]);
    const client = await RawClient.connect(port);
    client.send(request("/", "connection: upgrade", "upgrade: raw"));
    await client.read((seen) => seen.includes("\r\n\r\n"));
    client.send("all");
    client.socket.shutdown();
    expect(await client.read(() => false)).toEndWith("you said all,end");
  });

  test("a 101 that was not asked for is an error", async () => {
    const one = answering("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n");
    await serve([one.port]);
    expect((await fetch(url())).status).toBe(502);
  });

  test("bytes behind an answer never become the next one", async () => {
    const bytes = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    const one = answering(`${bytes}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison`);
    await serve([one.port]);
    for (let count = 0; count < 5; count++) expect(await (await fetch(url())).text()).toBe("ok");
    expect(one.connections()).toBe(5);
  });

  test("neither a client nor a backend that does not read fills the proxy's memory", async () => {
    const size = 64 * 1024 * 1024;
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      maxRequestBodySize: 4 * size,
      async fetch(incoming) {
        if (incoming.method === "GET") return new Response(new Uint8Array(size));
        let bytes = 0;
        for await (const chunk of incoming.body!) bytes += chunk.length;
        return new Response(String(bytes));
      },
    });
    ends.push(() => server.stop(true));
    await serve([server.port!]);
    const memory = async () => ((await (await proxy.get("/stats")).json()) as { memoryBytes: number }).memoryBytes;
    const before = await memory();
    const slow = await RawClient.connect(port, { keep: false });
    slow.socket.pause();
    slow.send(request("/", "connection: close"));
    // Enough time for the whole body, were it not held back.
    expect(await (await fetch(url(), { method: "POST", body: new Uint8Array(size) })).text()).toBe(String(size));
    expect((await memory()) - before).toBeLessThan(40 * 1024 * 1024);
    slow.socket.resume();
    await slow.read(() => slow.bytes >= size);
    expect(slow.bytes).toBeGreaterThanOrEqual(size);
    slow.close();
  });
});

describe("upstream", () => {
  test("connections are kept and reused", async () => {
    const one = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    await serve([one.port]);
    for (let count = 0; count < 20; count++) await (await fetch(url())).text();
    expect(one.connections()).toBe(1);
  });

  test("a backend that closes kept connections without a word costs no error", async () => {
    const one = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", { close: true });
    await serve([one.port]);
    for (const method of ["GET", "POST"]) {
      for (let count = 0; count < 200; count++) expect((await fetch(url(), { method })).status).toBe(200);
    }
  });

  test("a request is sent again only while that is safe", async () => {
    // The second request on a connection is answered with a close.
    const one = rawBackend((socket, text) => {
      const heads = text.split("\r\n\r\n").length - 1;
      if (heads === 1) socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
      else socket.terminate();
    });
    ends.push(one.stop);
    await serve([one.port]);
    const text = async (method: string) => {
      const answer = await fetch(url(), { method });
      return `${answer.status} ${answer.headers.get("x-fairlead-reason")}`;
    };
    expect(await text("GET")).toBe("200 null");
    expect(await text("GET")).toBe("200 null");
    expect(await text("POST")).toBe("503 upstream_closed");
  });

  test("an endpoint that cannot be reached is passed over; when all are, the reason is told", async () => {
    const dead = freePort();
    await serve([dead, echo("one")]);
    for (let count = 0; count < 10; count++)
      expect((await fetch(url(), { method: "POST", body: "x" })).status).toBe(200);
    await proxy.control.update({ endpoints: [endpoints("one", dead)] });
    const refused = await fetch(url());
    expect([refused.status, refused.headers.get("x-fairlead-reason")]).toEqual([503, "connect_failed"]);
    await proxy.control.update({ endpoints: [endpoints("one")] });
    const none = await fetch(url());
    expect([none.status, none.headers.get("x-fairlead-reason")]).toEqual([503, "no_endpoints"]);
  });

  test("an endpoint that goes away finishes what it has and gets nothing new", async () => {
    let release: () => void = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let asked = 0;
    const leaving = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      async fetch() {
        asked++;
        await held;
        return new Response("finished");
      },
    });
    ends.push(() => leaving.stop(true));
    await serve([leaving.port!]);
    const first = fetch(url());
    await until(() => asked === 1);
    await proxy.control.update({ endpoints: [endpoints("one", echo("one"))] });
    for (let count = 0; count < 5; count++) expect(((await (await fetch(url())).json()) as Seen).name).toBe("one");
    release();
    expect(await (await first).text()).toBe("finished");
    expect(asked).toBe(1);
    const connections = async () =>
      ((await (await proxy.get("/stats")).json()) as { backends: { connections: number }[] }).backends[0]!.connections;
    await until(async () => (await connections()) === 1);
  });

  test("timeouts of the request and of the try answer 504", async () => {
    const one = rawBackend(() => {});
    ends.push(one.stop);
    await serve(
      [one.port],
      [
        rule("try", { match: { path: { kind: "exact", value: "/try" } }, timeouts: { perTry: 50 } }),
        rule("request", { timeouts: { request: 50 } }),
      ],
    );
    for (const [path, reason] of [
      ["/try", "try_timeout"],
      ["/", "request_timeout"],
    ]) {
      const answer = await fetch(url(path));
      expect([answer.status, answer.headers.get("x-fairlead-reason")]).toEqual([504, reason!]);
    }
  });

  test("limits: waiting requests are served in turn, too many are refused", async () => {
    let release: () => void = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      async fetch() {
        await held;
        return new Response("ok");
      },
    });
    ends.push(() => server.stop(true));
    await serve([server.port!], undefined, { limits: { connections: 1, pending: 1 } });
    const first = fetch(url("/1"));
    const pending = async (count: number) => {
      for (;;) {
        const stats = (await (await proxy.get("/stats")).json()) as {
          backends: { connections: number; pending: number }[];
        };
        if (stats.backends[0]!.connections + stats.backends[0]!.pending === count) return;
      }
    };
    await pending(1);
    const second = fetch(url("/2"));
    await pending(2);
    const third = await fetch(url("/3"));
    expect([third.status, third.headers.get("x-fairlead-reason")]).toEqual([503, "overflow"]);
    release();
    expect([(await first).status, (await second).status]).toEqual([200, 200]);
  });
});

describe("configuration", () => {
  test("what is wrong is refused alone and what was in force stays", async () => {
    await serve([echo("one")]);
    const taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    ends.push(() => taken.stop(true));
    const rejected = await proxy.control.update({
      backends: [backend("two", { connectTimeout: -1 }), backend("three")],
      routeTables: [routeTable([rule("bad", { match: { path: { kind: "regex", value: "(" } } })])],
      listeners: [
        plainListener(taken.port, { name: "taken" }),
        plainListener(port, { name: "again" }),
        { ...plainListener(freePort(), { name: "elsewhere" }), scope: "mesh" },
        plainListener(freePort(), { name: "nowhere", address: "192.0.2.1" }),
      ],
    });
    expect(rejected.map(({ resource, name }) => `${resource} ${name}`).sort()).toEqual([
      "backends two",
      "listeners again",
      "listeners elsewhere",
      "listeners nowhere",
      "listeners taken",
      "routeTables main",
    ]);
    const reason = (name: string) => rejected.find((one) => one.name === name)!.reason;
    expect(reason("taken")).toContain("in use by another process");
    expect(reason("again")).toContain("in use by listener http");
    expect((await fetch(url())).status).toBe(200);
    const config = (await (await proxy.get("/config")).json()) as { backends: { name: string }[] };
    expect(config.backends.map(({ name }) => name)).toEqual(["one", "three"]);
  });

  test("100 route changes under load fail no request and drop no connection", async () => {
    const ports = [echo("one"), echo("two"), echo("three")];
    await serve([ports[0]!]);
    let running = true;
    let requests = 0;
    const failures: string[] = [];
    const worker = async (): Promise<void> => {
      const client = await RawClient.connect(port);
      while (running) {
        client.seen = "";
        client.send(request("/x"));
        const seen = await client.read((all) => all.includes('"body":""}'));
        requests++;
        if (!seen.startsWith("HTTP/1.1 200")) failures.push(seen.slice(0, 200) || "closed");
        if (client.closed) failures.push("the connection was closed");
        if (failures.length > 0) return;
      }
      client.close();
    };
    const workers = Array.from({ length: 8 }, worker);
    for (let change = 0; change < 100; change++) {
      const rules = Array.from({ length: 50 }, (_, index) =>
        rule(`rule-${change}-${index}`, { match: { path: { kind: "segments", value: `/${change}/${index}` } } }),
      );
      const extra = freePort();
      const rejected = await proxy.control.update(
        {
          endpoints: [endpoints("one", ports[change % 3]!, ports[(change + 1) % 3]!)],
          routeTables: [routeTable([...rules, rule("all")])],
          listeners: [plainListener(extra, { name: `extra-${change}` })],
        },
        { listeners: [`extra-${change - 1}`] },
      );
      expect(rejected).toEqual([]);
    }
    running = false;
    await Promise.all(workers);
    expect(failures).toEqual([]);
    expect(requests).toBeGreaterThan(200);
  });

  test("it serves on without the control process, and tells a new one what it has", async () => {
    await serve([echo("one")]);
    proxy.control.stop();
    for (let count = 0; count < 20; count++) expect((await fetch(url())).status).toBe(200);
    const hello = proxy.control.hello();
    proxy.control.start();
    const { have } = await hello;
    expect(Object.keys(have.backends!)).toEqual(["one"]);
    expect(have.backends!["one"]).toBe(fingerprint("backends", backend("one")));
    expect(have.routeTables!["main"]).toBe(fingerprint("routeTables", routeTable([rule("all")])));
  });

  test("killed, it serves again from its file before the control process has said anything", async () => {
    await serve([echo("one")]);
    await until(() => existsSync(proxy.state));
    expect(statSync(proxy.state).mode & 0o777).toBe(0o600);
    proxy.process!.kill("SIGKILL");
    await proxy.process!.exited;
    proxy.control.stop();
    proxy.spawn();
    await until(async () => (await fetch(url()).catch(() => undefined))?.status === 200);
  });
});

describe("the end", () => {
  test("SIGTERM: no new connections, what is in flight is finished, then exit 0", async () => {
    let release: () => void = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let asked = false;
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      async fetch() {
        asked = true;
        await held;
        return new Response("finished");
      },
    });
    ends.push(() => server.stop(true));
    await serve([server.port!]);
    const idle = await RawClient.connect(port);
    const inFlight = exchange(port, request());
    await until(() => asked);
    proxy.process!.kill("SIGTERM");
    await idle.read(() => false);
    expect(idle.closed).toBe(true);
    await until(async () => (await fetch(url()).catch(() => undefined)) === undefined);
    release();
    const answer = await inFlight;
    expect(answer).toContain("connection: close");
    expect(answer).toEndWith("finished");
    expect(await proxy.process!.exited).toBe(0);
  });

  test("a drain's deadline closes what does not finish", async () => {
    const one = rawBackend(() => {});
    ends.push(one.stop);
    await serve([one.port]);
    const hanging = exchange(port, request());
    await until(() => one.connections() === 1);
    proxy.control.send({ type: "drain", deadline: 100 });
    expect(await hanging).toBe("");
    expect(await proxy.process!.exited).toBe(0);
  });
});

test("the admin socket shows figures and what is in force", async () => {
  await serve([echo("one")]);
  await (await fetch(url())).text();
  await (await fetch(url())).text();
  expect(await (await proxy.get("/healthz")).text()).toBe("ok\n");
  const metrics = await (await proxy.get("/metrics")).text();
  expect(metrics).toContain('fairlead_proxy_requests_total{route="all",backend="one",code="2xx"} 2');
  expect(metrics).toContain('fairlead_proxy_request_duration_seconds_count{route="all",backend="one"} 2');
  const stats = (await (await proxy.get("/stats")).json()) as { resources: object; listeners: object };
  expect(stats).toMatchObject({
    connected: true,
    resources: { listeners: 1, routeTables: 1, backends: 1, endpoints: 1, secrets: 0 },
  });
  expect(statSync(proxy.admin).mode & 0o777).toBe(0o600);
});

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const patience = Date.now() + 5_000;
  while (!(await holds())) {
    if (Date.now() > patience) throw new Error("what the test waits for did not happen within 5 s");
    await Bun.sleep(5);
  }
}
