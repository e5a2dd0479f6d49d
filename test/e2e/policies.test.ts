// Each request policy through a real proxy process: what a client and a backend see of it. Needs no privileges.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from "node:zlib";
import * as grpc from "@grpc/grpc-js";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import type { Endpoints, Filter, Rule } from "../../src/model/model.ts";
import { messages } from "../../src/proxy/filters/grpc-messages.ts";
import {
  backend,
  endpoints,
  freePort,
  from,
  ProxyUnderTest,
  plainListener,
  routeTable,
  rule,
} from "./proxy-harness.ts";
import { exchange, RawClient } from "./proxy-raw.ts";

let proxy: ProxyUnderTest;
let port: number;
const ends: (() => void)[] = [];

beforeEach(() => {
  proxy = new ProxyUnderTest();
  port = freePort();
});

afterEach(async () => {
  await proxy.stop();
  for (const end of ends.splice(0)) end();
});

interface Seen {
  method: string;
  path: string;
  headers: Record<string, string>;
  body: string;
}

/** A server that keeps what it was asked; by default it answers with it, as JSON. */
function server(answer?: (seen: Seen) => Response | Promise<Response>): { port: number; seen: Seen[] } {
  const seen: Seen[] = [];
  const made = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const url = new URL(request.url);
      const one = {
        method: request.method,
        path: url.pathname + url.search,
        headers: Object.fromEntries(request.headers),
        body: await request.text(),
      };
      seen.push(one);
      return answer ? await answer(one) : Response.json(one);
    },
  });
  ends.push(() => made.stop(true));
  return { port: made.port!, seen };
}

/** Serves one rule with filters in front of `main`; other servers are backends by name. */
async function serve(
  filters: readonly Filter[],
  main: { port: number },
  others: Record<string, { port: number }> = {},
  more: Partial<Rule> = {},
  secrets: readonly object[] = [],
): Promise<void> {
  await proxy.start();
  const all = { one: main, ...others };
  const rejected = await proxy.control.update({
    secrets,
    backends: Object.keys(all).map((name) => backend(name)),
    endpoints: Object.entries(all).map(([name, { port: at }]): Endpoints => endpoints(name, at)),
    routeTables: [routeTable([rule("all", { filters, ...more })])],
    listeners: [plainListener(port)],
  });
  expect(rejected).toEqual([]);
}

const url = (path = "/") => `http://127.0.0.1:${port}${path}`;
const seenBy = async (answer: Response) => (await answer.json()) as Seen;

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

describe("who may come", () => {
  test("addresses: deny stands above allow", async () => {
    const main = server();
    await serve([{ kind: "addresses", from, allow: ["127.0.0.0/8"], deny: ["127.0.0.1/32"] }], main);
    const answer = await fetch(url());
    expect([answer.status, answer.headers.get("x-fairlead-reason")]).toEqual([403, "address_refused"]);
    await proxy.control.update({
      routeTables: [routeTable([rule("all", { filters: [{ kind: "addresses", from, allow: ["127.0.0.0/8"] }] })])],
    });
    expect((await fetch(url())).status).toBe(200);
    expect(main.seen).toHaveLength(1);
  });

  test("basic auth: bcrypt, apr1 and SHA-1; the backend is told who, not by what", async () => {
    const lines = [
      `ann:${await Bun.password.hash("secret a", { algorithm: "bcrypt", cost: 4 })}`,
      "bob:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00",
      `cy:{SHA}${createHash("sha1").update("secret c").digest("base64")}`,
    ];
    const users = {
      name: "users",
      from,
      fingerprint: "00".repeat(32),
      content: { kind: "users", lines: lines.join("\n") },
    };
    const filter: Filter = { kind: "basicAuth", from, realm: 'the "shop"', users: "users", userHeader: "x-user" };
    await serve([filter], server(), {}, {}, [users]);
    const as = (name: string, password: string) =>
      fetch(url(), { headers: { authorization: `Basic ${btoa(`${name}:${password}`)}`, "x-user": "forged" } });

    const anonymous = await fetch(url());
    expect(anonymous.status).toBe(401);
    expect(anonymous.headers.get("www-authenticate")).toBe('Basic realm="the \\"shop\\"", charset="UTF-8"');
    for (const [name, password] of [
      ["ann", "secret a"],
      ["bob", "password"],
      ["cy", "secret c"],
      ["ann", "secret a"],
    ] as const) {
      const seen = await seenBy(await as(name, password));
      expect([seen.headers["x-user"], seen.headers["authorization"]]).toEqual([name, undefined]);
    }
    for (const [name, password] of [
      ["ann", "wrong"],
      ["bob", "wrong"],
      ["cy", "wrong"],
      ["nobody", "secret a"],
    ] as const) {
      expect((await as(name, password)).status).toBe(401);
    }
    // A Secret that goes lets nobody in, also whom it knew.
    await proxy.control.update({}, { secrets: ["users"] });
    expect((await as("ann", "secret a")).status).toBe(401);
  });

  test("tokens: good ones pass and are told of, bad ones never do; keys are fetched, and again for a new one", async () => {
    const pairs = [await generateKeyPair("ES256"), await generateKeyPair("RS256")];
    const keys = await Promise.all(
      pairs.map(async ({ publicKey }, index) => ({ ...(await exportJWK(publicKey)), kid: `k${index}` })),
    );
    let published = [keys[0]!];
    const issuer = server(() => Response.json({ keys: published }));
    const main = server();
    const jwt: Filter = {
      kind: "jwt",
      from,
      optional: false,
      providers: [
        {
          name: "issuer",
          issuer: "https://issuer.example",
          audiences: ["shop"],
          keys: { backend: "issuer", authority: "issuer.example", path: "/jwks", keep: 60_000 },
          places: [],
          forward: false,
          payloadHeader: "x-payload",
          claimHeaders: [
            { claim: "realm.roles", header: "x-roles" },
            { claim: "sub", header: "x-sub" },
          ],
        },
      ],
    };
    await serve([jwt], main, { issuer });
    const token = (key: number, claims: Record<string, unknown> = {}, alg = key === 0 ? "ES256" : "RS256") =>
      new SignJWT({ iss: "https://issuer.example", aud: "shop", sub: "ann", realm: { roles: ["a", "b"] }, ...claims })
        .setProtectedHeader({ alg, kid: `k${key}` })
        .setExpirationTime((claims["exp"] as number | undefined) ?? "5m")
        .sign(pairs[key]!.privateKey);
    const bearer = (text: string, path = "/") =>
      fetch(url(path), { headers: { authorization: `Bearer ${text}`, "x-sub": "forged" } });

    const good = await token(0);
    for (let round = 0; round < 2; round++) {
      const { headers } = await seenBy(await bearer(good));
      expect([headers["x-roles"], headers["x-sub"], headers["authorization"]]).toEqual(["a,b", "ann", undefined]);
      expect(JSON.parse(Buffer.from(headers["x-payload"]!, "base64url").toString()).sub).toBe("ann");
    }
    expect((await seenBy(await fetch(url(`/?access_token=${good}&x=1`)))).path).toBe("/?x=1");
    const none = await fetch(url());
    expect([none.status, none.headers.get("www-authenticate")]).toEqual([401, "Bearer"]);

    const parts = good.split(".");
    const unsigned = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${parts[1]}.`;
    // Signed with the public key as if it were a shared secret.
    const confused = await new SignJWT({ iss: "https://issuer.example", aud: "shop", sub: "eve" })
      .setProtectedHeader({ alg: "HS256", kid: "k0" })
      .sign(Buffer.from(JSON.stringify(keys[0])));
    const bad = [
      await token(0, { aud: "other" }),
      await token(0, { iss: "https://other.example" }),
      await token(0, { exp: Math.floor(Date.now() / 1000) - 3600 }),
      await token(1),
      `${parts[0]}.${parts[1]}.${Buffer.alloc(64).toString("base64url")}`,
      unsigned,
      confused,
      "not.a.token",
      "",
    ];
    for (const text of bad) {
      const answer = await bearer(text);
      expect(answer.status).toBe(401);
      expect(answer.headers.get("www-authenticate")).toMatch(/^Bearer/);
    }
    // A good one beside a bad one does not help.
    expect((await bearer(good, "/?access_token=not.a.token")).status).toBe(401);
    expect(issuer.seen.length).toBeLessThanOrEqual(2);
    expect(issuer.seen[0]!.headers["host"]).toBe("issuer.example");
    published = keys;
  });

  test("external authorization as NGINX asks: yes with fields, no with its answer, redirect to sign in, failing", async () => {
    const auth = server(({ headers }) => {
      const what = headers["authorization"];
      if (what === "yes") return new Response("", { headers: { "x-user": "ann", "set-cookie": "s=1" } });
      if (what === "no")
        return new Response("not you", { status: 403, headers: { "x-why": "rule 7", "x-inside": "1" } });
      if (what === "broken") return new Response("", { status: 500 });
      return new Response("", { status: 401 });
    });
    const main = server();
    const filter: Filter = {
      kind: "externalAuth",
      from,
      service: "auth",
      protocol: { kind: "http", authority: "auth.example", path: "/check", prefix: false, method: "GET" },
      sends: ["cookie"],
      adds: [{ name: "x-sent-from", value: "fairlead" }],
      body: { bytes: 0, partial: false },
      toBackend: ["x-user"],
      toClient: ["x-why", "set-cookie"],
      timeout: 2000,
      whenFailing: { status: 503 },
      signIn: "https://login.example/start",
    };
    await serve([filter], main, { auth });
    const as = (authorization: string, path = "/a?b=c") =>
      fetch(url(path), {
        method: "POST",
        body: "hello",
        redirect: "manual",
        headers: { authorization, cookie: "c=1", "x-user": "forged", "x-original-method": "FORGED" },
      });

    const yes = await as("yes");
    expect(yes.headers.get("set-cookie")).toBe("s=1");
    const seen = await seenBy(yes);
    expect([seen.headers["x-user"], seen.body, seen.path]).toEqual(["ann", "hello", "/a?b=c"]);
    expect(auth.seen[0]).toMatchObject({ method: "GET", path: "/check", body: "" });
    expect(auth.seen[0]!.headers).toMatchObject({
      host: "auth.example",
      cookie: "c=1",
      "x-sent-from": "fairlead",
      "x-original-method": "POST",
      "x-original-uri": "/a?b=c",
      "x-original-url": `http://127.0.0.1:${port}/a?b=c`,
    });
    expect(auth.seen[0]!.headers["x-user"]).toBeUndefined();

    const no = await as("no");
    expect([no.status, await no.text(), no.headers.get("x-why"), no.headers.get("x-inside")]).toEqual([
      403,
      "not you",
      "rule 7",
      null,
    ]);
    const login = await as("anonymous");
    const back = encodeURIComponent(`http://127.0.0.1:${port}/a?b=c`);
    expect([login.status, login.headers.get("location")]).toEqual([302, `https://login.example/start?rd=${back}`]);
    const broken = await as("broken");
    expect([broken.status, broken.headers.get("x-fairlead-reason")]).toEqual([503, "authorization_failed"]);
    expect(main.seen).toHaveLength(1);
  });

  test("external authorization as Envoy asks: the request's path behind a prefix, its body, and passing while it fails", async () => {
    let status = 200;
    const auth = server(() => new Response("", { status, headers: { "x-checked": "1" } }));
    const main = server();
    const filter: Filter = {
      kind: "externalAuth",
      from,
      service: "auth",
      protocol: { kind: "http", authority: "auth.example", path: "/auth", prefix: true },
      sends: ["*"],
      adds: [],
      body: { bytes: 8, partial: true },
      toBackend: ["*"],
      toClient: [],
      timeout: 2000,
      whenFailing: "pass",
    };
    await serve([filter], main, { auth });
    const send = (body: string) => fetch(url("/pay"), { method: "POST", body });
    expect((await seenBy(await send("0123456"))).headers["x-checked"]).toBe("1");
    expect((await seenBy(await send("0123456789"))).body).toBe("0123456789");
    expect(auth.seen.map(({ method, path, body }) => ({ method, path, body }))).toEqual([
      { method: "POST", path: "/auth/pay", body: "0123456" },
      { method: "POST", path: "/auth/pay", body: "01234567" },
    ]);
    expect(auth.seen[1]!.headers["x-envoy-auth-partial-body"]).toBe("true");
    status = 500;
    expect((await send("x")).status).toBe(200);
  });

  test("a client that leaves takes the question with it, and the request's timeout ends the wait", async () => {
    let asked = 0;
    let gone = 0;
    const silent = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data() {
          asked++;
        },
        close() {
          gone++;
        },
      },
    });
    ends.push(() => silent.stop(true));
    const filter: Filter = {
      kind: "externalAuth",
      from,
      service: "auth",
      protocol: { kind: "http", authority: "a", path: "/", prefix: false },
      sends: [],
      adds: [],
      body: { bytes: 0, partial: false },
      toBackend: [],
      toClient: [],
      timeout: 60_000,
      whenFailing: { status: 403 },
    };
    const main = server();
    await serve([filter], main, { auth: silent }, { timeouts: { request: 300 } });
    expect((await fetch(url())).status).toBe(504);
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    while (asked < 2) await Bun.sleep(10);
    client.close();
    while (gone < 2) await Bun.sleep(10);
    expect(main.seen).toHaveLength(0);
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

describe("services that are asked over gRPC", () => {
  /** A service with one method: takes and gives messages as protobufjs has them. */
  async function grpcServer(
    path: string,
    request: (typeof messages)["checkRequest"],
    response: (typeof messages)["checkRequest"],
    answer: (message: never) => object,
  ): Promise<{ port: number }> {
    const made = new grpc.Server();
    const method = {
      path,
      requestStream: false,
      responseStream: false,
      requestSerialize: (bytes: Buffer) => bytes,
      requestDeserialize: (bytes: Buffer) => request.toObject(request.decode(bytes), { longs: Number }),
      responseSerialize: (message: object) => Buffer.from(response.encode(response.fromObject(message)).finish()),
      responseDeserialize: (bytes: Buffer) => bytes,
    };
    made.addService(
      { ask: method },
      {
        ask(call: grpc.ServerUnaryCall<unknown, unknown>, done: grpc.sendUnaryData<unknown>) {
          try {
            done(null, answer(call.request as never));
          } catch {
            done({ code: 13, details: "broken" });
          }
        },
      },
    );
    const at = await new Promise<number>((resolve, reject) => {
      made.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      );
    });
    ends.push(() => made.forceShutdown());
    return { port: at };
  }

  async function serveWith(filter: Filter, main: { port: number }, service: { port: number }): Promise<void> {
    await proxy.start();
    const rejected = await proxy.control.update({
      backends: [backend("one"), backend("service", { protocol: "h2c" })],
      endpoints: [endpoints("one", main.port), endpoints("service", service.port)],
      routeTables: [routeTable([rule("all", { filters: [filter] })])],
      listeners: [plainListener(port)],
    });
    expect(rejected).toEqual([]);
  }

  test("authorization", async () => {
    interface Asked {
      attributes: {
        source: { address: { socketAddress: { address: string } } };
        request: {
          http: { method: string; path: string; host: string; headers: Record<string, string>; rawBody: Buffer };
        };
      };
    }
    const asked: Asked[] = [];
    const service = await grpcServer(
      "/envoy.service.auth.v3.Authorization/Check",
      messages.checkRequest,
      messages.checkResponse,
      (message: Asked) => {
        asked.push(message);
        const { headers } = message.attributes.request.http;
        if (headers["authorization"] === "broken") throw new Error("broken");
        if (headers["authorization"] === "no") {
          const denied = {
            status: { code: 451 },
            headers: [{ header: { key: "X-Why", value: "law" } }],
            body: "not here",
          };
          return { status: { code: 7 }, deniedResponse: denied };
        }
        return {
          status: { code: 0 },
          okResponse: {
            headers: [
              { header: { key: "x-user", value: "ann" } },
              { header: { key: "x-tags", value: "b" }, append: { value: true } },
              { header: { key: "x-bad", value: "a\r\nx-smuggled: 1" } },
            ],
            headersToRemove: ["x-gone", "host"],
            responseHeadersToAdd: [{ header: { key: "x-told", value: "1" } }],
          },
        };
      },
    );
    const main = server();
    await serveWith(
      {
        kind: "externalAuth",
        from,
        service: "service",
        protocol: { kind: "grpc", authority: "auth.example" },
        sends: ["x-tags"],
        adds: [],
        body: { bytes: 1000, partial: false },
        toBackend: [],
        toClient: [],
        timeout: 5000,
        whenFailing: { status: 503 },
      },
      main,
      service,
    );
    const as = (authorization: string) =>
      fetch(url("/a?b=1"), {
        method: "POST",
        body: "hello",
        headers: { authorization, "x-user": "forged", "x-tags": "a", "x-gone": "1" },
      });
    const yes = await as("yes");
    expect(yes.headers.get("x-told")).toBe("1");
    const { headers } = await seenBy(yes);
    expect([headers["x-user"], headers["x-tags"], headers["x-gone"]]).toEqual(["ann", "a, b", undefined]);
    expect([headers["x-bad"], headers["x-smuggled"]]).toEqual([undefined, undefined]);
    expect(asked[0]!.attributes).toMatchObject({
      source: { address: { socketAddress: { address: "127.0.0.1" } } },
      request: { http: { method: "POST", path: "/a?b=1", host: `127.0.0.1:${port}` } },
    });
    expect(asked[0]!.attributes.request.http.headers).toMatchObject({
      authorization: "yes",
      "x-tags": "a",
      ":method": "POST",
    });
    expect(asked[0]!.attributes.request.http.headers["x-gone"]).toBeUndefined();
    expect(asked[0]!.attributes.request.http.rawBody.toString()).toBe("hello");
    const no = await as("no");
    expect([no.status, no.headers.get("x-why"), await no.text()]).toEqual([451, "law", "not here"]);
    expect((await as("broken")).status).toBe(503);
    expect(main.seen).toHaveLength(1);
  });

  test("rate limits", async () => {
    interface Asked {
      domain: string;
      descriptors: { entries: { key: string; value: string }[] }[];
    }
    const asked: Asked[] = [];
    const service = await grpcServer(
      "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
      messages.rateLimitRequest,
      messages.rateLimitResponse,
      (message: Asked) => {
        asked.push(message);
        const over = message.descriptors.some(({ entries }) => entries.some(({ value }) => value === "greedy"));
        const broken = message.descriptors.some(({ entries }) => entries.some(({ value }) => value === "broken"));
        if (broken) throw new Error("broken");
        const responseHeadersToAdd = [{ key: "x-ratelimit-limit", value: "10" }];
        return {
          overallCode: over ? 2 : 1,
          responseHeadersToAdd,
          requestHeadersToAdd: [{ key: "x-counted", value: "1" }],
        };
      },
    );
    await serveWith(
      {
        kind: "globalRateLimit",
        from,
        service: "service",
        authority: "limits.example",
        domain: "shop",
        descriptors: [
          [
            { key: "user", value: { kind: "header", name: "x-user" } },
            { key: "route", value: { kind: "constant", value: "all" } },
          ],
          [{ key: "remote_address", value: { kind: "source" } }],
        ],
        timeout: 5000,
        whenFailing: "pass",
        status: 429,
      },
      server(),
      service,
    );
    const as = (user: string) => fetch(url(), { headers: user === "" ? {} : { "x-user": user } });
    const within = await as("ann");
    expect(within.headers.get("x-ratelimit-limit")).toBe("10");
    expect((await seenBy(within)).headers["x-counted"]).toBe("1");
    const over = await as("greedy");
    expect([over.status, over.headers.get("x-fairlead-reason"), over.headers.get("x-ratelimit-limit")]).toEqual([
      429,
      "rate_limited",
      "10",
    ]);
    expect((await as("broken")).status).toBe(200);
    expect((await as("")).status).toBe(200);
    expect(asked[0]).toMatchObject({
      domain: "shop",
      descriptors: [
        {
          entries: [
            { key: "user", value: "ann" },
            { key: "route", value: "all" },
          ],
        },
        { entries: [{ key: "remote_address", value: "127.0.0.1" }] },
      ],
    });
    expect(asked.at(-1)!.descriptors).toHaveLength(1);
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
            { statuses: [{ first: 500, last: 503 }], answer: { backend: "pages", path: "/page", keepStatus: true } },
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
    expect(pages.seen[0]!.headers).toMatchObject({ "x-code": "500", "x-original-uri": "/500" });
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

describe("who is in front", () => {
  const listen = async (more: object, main: { port: number }, filters: readonly Filter[] = []) => {
    await proxy.start();
    const rejected = await proxy.control.update({
      backends: [backend("one")],
      endpoints: [endpoints("one", main.port)],
      routeTables: [routeTable([rule("all", { filters })])],
      listeners: [{ ...plainListener(port), ...more }],
    });
    expect(rejected).toEqual([]);
  };
  const claims = {
    "x-forwarded-for": "192.0.2.7, 10.0.0.9",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "shop.example",
  };

  test("nobody is believed unless the listener says so", async () => {
    await listen({}, server(), [{ kind: "addresses", from, allow: ["127.0.0.1/32"] }]);
    const { headers } = await seenBy(await fetch(url(), { headers: { ...claims, forwarded: "for=192.0.2.7" } }));
    expect(headers).toMatchObject({
      "x-forwarded-for": "192.0.2.7, 10.0.0.9, 127.0.0.1",
      "x-forwarded-proto": "http",
      "x-forwarded-host": `127.0.0.1:${port}`,
    });
    expect(headers["forwarded"]).toBeUndefined();
  });

  test("trusted hops are believed, up to the first that is not one", async () => {
    const trusted = ["127.0.0.0/8", "10.0.0.0/8"];
    await listen({ trusted }, server(), [{ kind: "addresses", from, allow: ["192.0.2.7/32", "2001:db8::/32"] }]);
    const believed = await seenBy(await fetch(url(), { headers: claims }));
    expect(believed.headers).toMatchObject({ ...claims, "x-forwarded-for": "192.0.2.7, 10.0.0.9, 127.0.0.1" });
    const forged = await fetch(url(), { headers: { "x-forwarded-for": "192.0.2.7, 203.0.113.1, 10.0.0.9" } });
    expect(forged.status).toBe(403);
    const forwarded = 'for="[2001:db8::1]:4711";proto=https;host="a,b", for=10.0.0.9';
    const standard = await seenBy(await fetch(url(), { headers: { forwarded, "x-forwarded-for": "203.0.113.1" } }));
    expect(standard.headers["x-forwarded-proto"]).toBe("https");
    expect(standard.headers["forwarded"]).toBe(`${forwarded}, for=127.0.0.1;host="127.0.0.1:${port}";proto=https`);
    // Without a word of a hop, the hop is the client; what an earlier request of its connection said is forgotten.
    expect((await fetch(url())).status).toBe(403);
  });

  test("a loop through itself is refused", async () => {
    const main = server();
    await listen({}, { port });
    const answer = await fetch(url());
    expect([answer.status, answer.headers.get("x-fairlead-reason")]).toEqual([508, "loop_detected"]);
    expect(main.seen).toHaveLength(0);
  });
});

test("what a filter says wrong is refused with the field", async () => {
  await proxy.start();
  const bad: Filter = { kind: "fault", from, delay: { perMillion: 2_000_000, time: 1 } };
  const rejected = await proxy.control.update({ routeTables: [routeTable([rule("all", { filters: [bad] })])] });
  expect(rejected[0]!.reason).toMatch(/filters\[0\]\.delay\.perMillion 2000000 is/);
});
