// The policies that decide who may come, through a real proxy process: addresses, credentials, tokens, services that are asked, and
// who is believed about the client. Needs no privileges.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import * as grpc from "@grpc/grpc-js";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import type { Filter } from "../../src/model/model.ts";
import { messages } from "../../src/proxy/filters/grpc-messages.ts";
import { ends, port, proxy, seenBy, serve, server, setUp, tearDown, url } from "./policy-stack.ts";
import { backend, endpoints, from, plainListener, routeTable, rule } from "./proxy-harness.ts";
import { RawClient } from "./proxy-raw.ts";

beforeEach(setUp);
afterEach(tearDown);

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
    await proxy.control.update({
      routeTables: [
        routeTable([rule("all", { filters: [{ kind: "addresses", from, allow: ["192.0.2.1/32"], status: 404 }] })]),
      ],
    });
    expect((await fetch(url())).status).toBe(404);
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
    const keeps = { ...filter, keepsAuthorization: true };
    await proxy.control.update({ routeTables: [routeTable([rule("all", { filters: [keeps] })])] });
    expect((await seenBy(await as("ann", "secret a"))).headers).toMatchObject({
      "x-user": "ann",
      authorization: `Basic ${btoa("ann:secret a")}`,
    });
    expect((await as("ann", "wrong")).status).toBe(401);
    // A Secret that goes lets nobody in, also whom it knew.
    await proxy.control.update({}, { secrets: ["users"] });
    expect((await as("ann", "secret a")).status).toBe(401);
  });

  test("tokens: good ones pass and are told of, bad ones never do; keys are fetched", async () => {
    const pairs = [await generateKeyPair("ES256"), await generateKeyPair("RS256")];
    const keys = await Promise.all(
      pairs.map(async ({ publicKey }, index) => ({ ...(await exportJWK(publicKey)), kid: `k${index}` })),
    );
    const published = [keys[0]!];
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

    // Optional: without any token a request passes, and says nothing of who it is; a bad token is never optional.
    const table = routeTable([rule("all", { filters: [{ ...jwt, optional: true }] })]);
    await proxy.control.update({ routeTables: [table] });
    const { headers: anonymous } = await seenBy(await fetch(url(), { headers: { "x-sub": "forged" } }));
    expect([anonymous["x-sub"], anonymous["x-payload"]]).toEqual([undefined, undefined]);
    expect((await seenBy(await bearer(good))).headers["x-sub"]).toBe("ann");
    for (const text of bad.filter((one) => one !== "")) expect((await bearer(text)).status).toBe(401);
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
      protocol: { kind: "http", path: "/auth", prefix: true },
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
    expect(auth.seen[1]!.headers["host"]).toBe(new URL(url("/")).host);
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
