// Each request policy through a real proxy process: what a client and a backend see of it. Needs no privileges. Those that decide
// who may come are in `policies-access.test.ts`.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { connect } from "node:http2";
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from "node:zlib";
import type { Filter } from "../../src/model/model.ts";
import { ends, port, proxy, seenBy, serve, server, setUp, tearDown, url } from "./policy-stack.ts";
import { endpoints, freePort, from, routeTable, rule } from "./proxy-harness.ts";
import { exchange, RawClient } from "./proxy-raw.ts";

beforeEach(setUp);
afterEach(tearDown);

describe("what is changed", () => {
  test("path by expression, query and host", async () => {
    await serve(
      [
        {
          kind: "rewrite",
          from,
          host: "inside.example",
          path: { kind: "regex", pattern: "/v([0-9]+)/", value: "/api/\\1/" },
        },
        {
          kind: "query",
          from,
          change: { set: [{ name: "page size", value: "a&b" }], add: [{ name: "x", value: "2" }], remove: ["gone"] },
        },
      ],
      server(),
    );
    const seen = await seenBy(await fetch(url("/v12/items?x=1&gone=1&keep=%41")));
    expect(seen.path).toBe("/api/12/items?x=1&keep=%41&page%20size=a%26b&x=2");
    expect(seen.headers["host"]).toBe("inside.example");
  });

  test("attributes of cookies that the backend sets", async () => {
    const main = server(() => {
      const answer = new Response("ok");
      answer.headers.append("set-cookie", "session=1; Domain=inside.local; Path=/app");
      answer.headers.append("set-cookie", "other=2; Path=/app");
      return answer;
    });
    const name = { kind: "exact" as const, value: "session" };
    await serve(
      [
        {
          kind: "cookies",
          from,
          name,
          domain: { from: "inside.local", to: "example.com" },
          secure: true,
          sameSite: "Lax",
        },
        { kind: "cookies", from, path: { from: "/app", to: "/" } },
      ],
      main,
    );
    const answer = await fetch(url());
    expect(answer.headers.getSetCookie()).toEqual([
      "session=1; Path=/; Domain=example.com; Secure; SameSite=Lax",
      "other=2; Path=/",
    ]);
  });
});

describe("how much", () => {
  test("a local rate limit counts by key, tells what is left, and refuses with a time", async () => {
    const filter: Filter = {
      kind: "localRateLimit",
      from,
      bucket: "logins",
      key: [{ kind: "header", name: "x-user" }],
      requests: 3,
      per: 3_600_000,
      burst: 3,
      status: 429,
      tell: true,
      shared: false,
    };
    await serve([filter], server());
    const as = (user: string) => fetch(url(), { headers: { "x-user": user } });
    for (const left of [2, 1, 0]) {
      const answer = await as("ann");
      expect(answer.status).toBe(200);
      expect(answer.headers.get("ratelimit")).toMatch(new RegExp(`^"logins";r=${left};t=\\d+$`));
      expect(answer.headers.get("ratelimit-policy")).toBe('"logins";q=3;w=3600');
    }
    const refused = await as("ann");
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(1000);
    expect(refused.headers.get("ratelimit")).toMatch(/r=0/);
    expect((await as("bob")).status).toBe(200);
    // A new table with the same bucket does not forget who has come.
    await proxy.control.update({ routeTables: [routeTable([rule("changed", { filters: [filter] })])] });
    expect((await as("ann")).status).toBe(429);
  });

  test("a body limit: by the length that is given, and by what comes", async () => {
    const main = server();
    await serve([{ kind: "bodyLimit", from, bytes: 10 }], main);
    expect((await fetch(url(), { method: "POST", body: "0123456789" })).status).toBe(200);
    expect((await fetch(url(), { method: "POST", body: "0123456789a" })).status).toBe(413);
    const chunks = "5\r\n01234\r\n6\r\n56789a\r\n0\r\n\r\n";
    const answer = await exchange(
      port,
      `POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n${chunks}`,
      (seen) => seen.includes("\r\n\r\n"),
    );
    expect(answer).toStartWith("HTTP/1.1 413");
    expect(main.seen).toHaveLength(1);
  });

  test("a buffered request reaches the backend whole or not at all; a client that asks first is told to send", async () => {
    const main = server();
    await serve([{ kind: "buffering", from, request: 100_000 }], main);
    const client = await RawClient.connect(port);
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n");
    await client.read((seen) => seen.includes("100 Continue"));
    client.send("5\r\nhello\r\n");
    expect(main.seen).toHaveLength(0);
    client.send(`${(80_000).toString(16)}\r\n${"x".repeat(80_000)}\r\n0\r\n\r\n`);
    await client.read((seen) => seen.includes("200 OK"));
    expect(main.seen[0]!.body).toHaveLength(80_005);
    client.close();
    expect((await fetch(url(), { method: "POST", body: "x".repeat(100_001) })).status).toBe(413);
  });

  test("a buffered answer that breaks off is an error, not half an answer; a longer one flows", async () => {
    let length = 100;
    const broken = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data(socket) {
          socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${length}\r\n\r\n${"x".repeat(50)}`);
          socket.end();
        },
      },
    });
    ends.push(() => broken.stop(true));
    await serve([{ kind: "buffering", from, response: 1000 }], broken);
    expect((await fetch(url())).status).toBe(503);
    length = 50;
    expect(await (await fetch(url())).text()).toHaveLength(50);
    length = 5000;
    const cut = await exchange(port, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    expect(cut).toStartWith("HTTP/1.1 200");
  });
});

describe("across origins", () => {
  const cors: Filter = {
    kind: "cors",
    from,
    allowOrigins: [
      { kind: "exact", value: "https://shop.example" },
      { kind: "regex", value: "https://[a-z]+\\.example\\.com" },
    ],
    allowMethods: ["GET", "PUT"],
    allowHeaders: ["*"],
    exposeHeaders: ["x-total"],
    maxAge: 600,
    allowCredentials: true,
    allowPrivateNetwork: true,
    otherPreflights: "answer",
  };

  test("a preflight is answered, other answers are marked, and refusals too", async () => {
    const main = server(() => new Response("ok", { headers: { "access-control-allow-origin": "*", vary: "accept" } }));
    await serve([cors, { kind: "bodyLimit", from, bytes: 1 }], main);
    const preflight = await fetch(url(), {
      method: "OPTIONS",
      headers: {
        origin: "https://a.example.com",
        "access-control-request-method": "PUT",
        "access-control-request-headers": "x-one",
      },
    });
    expect(preflight.status).toBe(204);
    expect(Object.fromEntries(preflight.headers)).toMatchObject({
      "access-control-allow-origin": "https://a.example.com",
      "access-control-allow-credentials": "true",
      "access-control-allow-methods": "GET, PUT",
      "access-control-allow-headers": "x-one",
      "access-control-max-age": "600",
      vary: "origin",
    });
    const inside = { "access-control-request-method": "PUT", "access-control-request-private-network": "true" };
    const network = async (origin: string) =>
      (await fetch(url(), { method: "OPTIONS", headers: { origin, ...inside } })).headers.get(
        "access-control-allow-private-network",
      );
    expect([await network("https://a.example.com"), await network("https://evil.example")]).toEqual(["true", null]);
    const other = await fetch(url(), {
      method: "OPTIONS",
      headers: { origin: "https://evil.example", "access-control-request-method": "PUT" },
    });
    expect([other.status, other.headers.get("access-control-allow-origin")]).toEqual([204, null]);
    const answer = await fetch(url(), { headers: { origin: "https://shop.example" } });
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      "access-control-allow-origin": "https://shop.example",
      "access-control-expose-headers": "x-total",
      vary: "accept, origin",
    });
    const refused = await fetch(url(), { method: "PUT", body: "long", headers: { origin: "https://shop.example" } });
    expect([refused.status, refused.headers.get("access-control-allow-origin")]).toEqual([413, "https://shop.example"]);
  });
});

describe("on purpose", () => {
  test("faults: a delay, an abort, and gRPC's own", async () => {
    const when = [{ name: "x-fault", match: { kind: "exact" as const, value: "yes" } }];
    await serve(
      [
        {
          kind: "fault",
          from,
          when,
          delay: { perMillion: 1_000_000, time: 150 },
          abort: { perMillion: 1_000_000, status: 418 },
        },
        {
          kind: "fault",
          from,
          when: [{ name: "x-grpc", match: { kind: "present" } }],
          abort: { perMillion: 1_000_000, grpcStatus: 14 },
        },
      ],
      server(),
    );
    expect((await fetch(url())).status).toBe(200);
    const before = performance.now();
    const aborted = await fetch(url(), { headers: { "x-fault": "yes" } });
    expect([aborted.status, aborted.headers.get("x-fairlead-reason")]).toEqual([418, "fault_injected"]);
    expect(performance.now() - before).toBeGreaterThanOrEqual(140);
    const grpc = await fetch(url(), { headers: { "x-grpc": "1", "content-type": "application/grpc" } });
    expect([grpc.status, grpc.headers.get("grpc-status")]).toEqual([200, "14"]);
  });

  test("mirrors get copies, also of bodies, and a dead one is never seen", async () => {
    const copies = server();
    const main = server();
    await serve(
      [
        { kind: "mirror", from, backend: "copies", perMillion: 1_000_000, hostSuffix: "-shadow" },
        { kind: "mirror", from, backend: "dead", perMillion: 1_000_000 },
        { kind: "mirror", from, backend: "unknown", perMillion: 1_000_000 },
      ],
      main,
      { copies, dead: { port: freePort() } },
    );
    const answer = await fetch(url("/a?b=1"), {
      method: "POST",
      body: "hello",
      headers: { host: "shop.example:8080" },
    });
    expect((await seenBy(answer)).body).toBe("hello");
    expect((await fetch(url("/plain"))).status).toBe(200);
    while (copies.seen.length < 2) await Bun.sleep(10);
    const copy = copies.seen.find(({ method }) => method === "POST")!;
    expect(copy).toMatchObject({ path: "/a?b=1", body: "hello" });
    expect(copy.headers["host"]).toBe("shop.example-shadow:8080");
    expect(main.seen).toHaveLength(2);
    const configured = { kind: "mirror", from, backend: "copies", perMillion: 1_000_000 } as const;
    const head = { ...configured, host: "copies.example", path: "/all", withoutBody: true };
    await proxy.control.update({ routeTables: [routeTable([rule("all", { filters: [head] })])] });
    await fetch(url("/b?c=2"), { method: "POST", body: "x".repeat(2 * 1024 * 1024) });
    while (copies.seen.length < 3) await Bun.sleep(10);
    expect(copies.seen[2]).toMatchObject({ method: "POST", path: "/all?c=2", body: "" });
    expect(copies.seen[2]!.headers["host"]).toBe("copies.example");
    await proxy.control.update({
      routeTables: [routeTable([rule("all", { filters: [configured, { ...configured, backend: "dead" }] })])],
    });
    // Too long to be kept for a copy.
    await fetch(url("/long"), { method: "POST", body: "x".repeat(1024 * 1024 + 1) });
    const counted = async (backend: string, result: string) => {
      const line = `fairlead_proxy_upstream_copies_total{backend="${backend}",result="${result}"} `;
      const text = await (await proxy.get("/metrics")).text();
      return Number(
        text
          .split("\n")
          .find((one) => one.startsWith(line))
          ?.slice(line.length),
      );
    };
    while ((await counted("copies", "answered")) < 2 || (await counted("dead", "failed")) < 2) await Bun.sleep(20);
    expect(await counted("copies", "left_out")).toBe(1);
    expect(await counted("copies", "failed")).toBe(0);
  });
});

describe("answers", () => {
  const compression: Filter = {
    kind: "compression",
    from,
    codings: ["br", "zstd", "gzip"],
    minBytes: 100,
    types: ["text/*", "application/json"],
  };
  const raw = async (headers: Record<string, string>, path = "/") =>
    await fetch(url(path), { headers, decompress: false } as RequestInit);

  test("are coded as the client takes them, and only what may be", async () => {
    const text = "hello ".repeat(20_000);
    const kinds: Record<string, () => Response> = {
      "/": () => new Response(text, { headers: { etag: '"one"', "content-type": "text/html; charset=utf-8" } }),
      "/short": () => new Response("short", { headers: { "content-type": "text/plain" } }),
      "/image": () => new Response(text, { headers: { "content-type": "image/png" } }),
      "/coded": () =>
        new Response(Bun.gzipSync(Buffer.from(text)), {
          headers: { "content-type": "text/plain", "content-encoding": "gzip" },
        }),
      "/no-transform": () =>
        new Response(text, { headers: { "content-type": "text/plain", "cache-control": "no-transform" } }),
    };
    await serve(
      [compression],
      server(({ path }) => kinds[path]!()),
    );
    for (const [accepted, coding, decode] of [
      ["gzip", "gzip", gunzipSync],
      ["gzip, br", "br", brotliDecompressSync],
      ["br;q=0.5, zstd;q=0.9, gzip;q=0.1", "zstd", zstdDecompressSync],
      ["*", "br", brotliDecompressSync],
    ] as const) {
      const answer = await raw({ "accept-encoding": accepted });
      expect(answer.headers.get("content-encoding")).toBe(coding);
      expect(answer.headers.get("etag")).toBe('W/"one"');
      expect(answer.headers.get("vary")).toBe("accept-encoding");
      const bytes = Buffer.from(await answer.arrayBuffer());
      expect(bytes.length).toBeLessThan(5000);
      expect(decode(bytes).toString()).toBe(text);
    }
    for (const accepted of ["identity", "gzip;q=0", "gzip;q=0.5, identity"]) {
      const answer = await raw({ "accept-encoding": accepted });
      expect([answer.headers.get("content-encoding"), (await answer.text()).length]).toEqual([null, text.length]);
      expect(answer.headers.get("vary")).toBe("accept-encoding");
    }
    for (const path of ["/short", "/image", "/no-transform"]) {
      expect((await raw({ "accept-encoding": "gzip" }, path)).headers.get("content-encoding")).toBeNull();
    }
    const coded = await raw({ "accept-encoding": "gzip" }, "/coded");
    expect(gunzipSync(Buffer.from(await coded.arrayBuffer())).toString()).toBe(text);
  });

  test("that come slowly are not kept in the coder", async () => {
    let more: (() => void) | undefined;
    const main = server(
      () =>
        new Response(
          new ReadableStream({
            async start(controller) {
              controller.enqueue("data: one\n\n");
              await new Promise<void>((resolve) => {
                more = resolve;
              });
              controller.enqueue("data: two\n\n");
              controller.close();
            },
          }),
          { headers: { "content-type": "text/event-stream" } },
        ),
    );
    await serve([compression], main);
    const answer = await fetch(url(), { headers: { "accept-encoding": "gzip" } });
    const reader = answer.body!.getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("data: one\n\n");
    more!();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("data: two\n\n");
  });

  test("a large one is coded under back-pressure", async () => {
    const piece = Buffer.from("0123456789abcdef".repeat(4096));
    const main = server(
      () =>
        new Response(Buffer.concat(Array.from({ length: 200 }, () => piece)), {
          headers: { "content-type": "text/plain" },
        }),
    );
    await serve([compression], main);
    const answer = await fetch(url(), { headers: { "accept-encoding": "gzip" } });
    const bytes = new Uint8Array(await answer.arrayBuffer());
    expect(bytes.length).toBe(200 * piece.length);
  });

  test("error pages: fixed and asked for, of the backend's answers and of the proxy's own", async () => {
    const main = server(({ path }) =>
      path === "/login"
        ? new Response("inside", { status: 401, headers: { "www-authenticate": "Basic", etag: '"x"' } })
        : new Response("stack trace", { status: Number(path.slice(1)) }),
    );
    const pages = server(
      ({ headers }) =>
        new Response(`<p>${headers["x-code"]}`, { status: 404, headers: { "content-type": "text/html" } }),
    );
    const respond = { kind: "respond" as const, status: 401, reason: "", body: "please log in" };
    await serve(
      [
        {
          kind: "errorPages",
          from,
          pages: [
            { statuses: [{ first: 401, last: 401 }], answer: { respond } },
            {
              statuses: [{ first: 500, last: 503 }],
              answer: {
                ...{ backend: "pages", path: "/page", keepStatus: true },
                headers: [
                  { name: "x-namespace", value: "shop" },
                  { name: "x-service-name", value: "cart" },
                ],
              },
            },
            { statuses: [{ first: 504, last: 504 }], answer: { backend: "dead", path: "/page", keepStatus: true } },
          ],
        },
      ],
      main,
      { pages, dead: { port: freePort() } },
    );
    const login = await fetch(url("/login"));
    expect([
      login.status,
      await login.text(),
      login.headers.get("www-authenticate"),
      login.headers.get("etag"),
    ]).toEqual([401, "please log in", "Basic", null]);
    const failed = await fetch(url("/500"));
    expect([failed.status, await failed.text(), failed.headers.get("content-type")]).toEqual([
      500,
      "<p>500",
      "text/html",
    ]);
    expect(pages.seen[0]).toMatchObject({ method: "GET", path: "/page" });
    expect(pages.seen[0]!.headers).toMatchObject({
      ...{
        "x-code": "500",
        "x-original-uri": "/500",
        "x-format": "*/*",
        "x-namespace": "shop",
        "x-service-name": "cart",
      },
    });
    expect(pages.seen[0]!.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
    const dead = await fetch(url("/504"));
    expect([dead.status, await dead.text()]).toEqual([504, "Gateway Timeout\n"]);
    expect(await (await fetch(url("/418"))).text()).toBe("stack trace");
    await proxy.control.update({ endpoints: [endpoints("one")] });
    const nobody = await fetch(url());
    expect([nobody.status, await nobody.text(), nobody.headers.get("x-fairlead-reason")]).toEqual([
      503,
      "<p>503",
      "no_endpoints",
    ]);
  });
});

describe("over HTTP/2", () => {
  /** One request on a connection of its own; the body is sent as it is. */
  async function h2(
    headers: Record<string, string>,
    body = "",
  ): Promise<{ head: Record<string, unknown>; body: Buffer }> {
    const session = connect(`http://127.0.0.1:${port}`);
    ends.push(() => session.destroy());
    const stream = session.request(
      { ":path": "/", ":method": body === "" ? "GET" : "POST", ...headers },
      { endStream: false },
    );
    stream.end(body);
    return await new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let head: Record<string, unknown> = {};
      stream.on("response", (fields) => {
        head = fields;
      });
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", () => resolve({ head, body: Buffer.concat(chunks) }));
      stream.on("error", reject);
    });
  }

  test("bodies pass the same stages, and refusals are the same", async () => {
    const text = "hello ".repeat(5000);
    const main = server(
      ({ body }) => new Response(`${body.length} ${text}`, { headers: { "content-type": "text/plain" } }),
    );
    await serve(
      [
        { kind: "compression", from, codings: ["gzip"], minBytes: 10, types: ["text/plain"] },
        { kind: "buffering", from, request: 200_000, response: 1_000_000 },
        { kind: "bodyLimit", from, bytes: 150_000 },
        {
          kind: "localRateLimit",
          from,
          bucket: "b",
          key: [],
          requests: 2,
          per: 3_600_000,
          burst: 2,
          status: 429,
          tell: false,
          shared: false,
        },
      ],
      main,
    );
    const answer = await h2({ "accept-encoding": "gzip" }, "x".repeat(150_000));
    expect(answer.head).toMatchObject({ ":status": 200, "content-encoding": "gzip" });
    expect(gunzipSync(answer.body).toString()).toBe(`150000 ${text}`);
    expect((await h2({}, "x".repeat(150_001))).head[":status"]).toBe(413);
    const grpcCall = await h2({ "content-type": "application/grpc", te: "trailers" }, "x");
    expect(grpcCall.head).toMatchObject({ ":status": 200, "grpc-status": "8", "x-fairlead-reason": "rate_limited" });
    expect(main.seen).toHaveLength(1);
  });
});

test("what a filter says wrong is refused with the field", async () => {
  await proxy.start();
  const bad: Filter = { kind: "fault", from, delay: { perMillion: 2_000_000, time: 1 } };
  const rejected = await proxy.control.update({ routeTables: [routeTable([rule("all", { filters: [bad] })])] });
  expect(rejected[0]!.reason).toMatch(/filters\[0\]\.delay\.perMillion 2000000 is/);
});
