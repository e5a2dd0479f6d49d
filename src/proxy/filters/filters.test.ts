// Parts of filters that are pure functions: what is asked, what an answer means, what is told.

import { describe, expect, test } from "bun:test";
import type { ExternalAuthorization, LocalRateLimit } from "../../model/filters.ts";
import type { CallAnswer } from "../call.ts";
import type { RequestHead } from "../exchange.ts";
import type { FilterExchange } from "../filter.ts";
import { HeaderBlock } from "../headers.ts";
import { firstBytes, signInUrl } from "./external-auth.ts";
import { httpQuestions } from "./external-auth-http.ts";
import { addToList, valuesOf } from "./fields.ts";
import { grpcMessage, grpcRequest, messages, wireHeader } from "./grpc-messages.ts";
import { claimText } from "./jwt.ts";
import { rateLimitFields, refusalFields } from "./local-rate-limit.ts";
import { goesRound, withSuffix } from "./mirror.ts";
import { keyPart } from "./request-key.ts";

const from = { kind: "Test", name: "test", field: "" };

function headOf(fields: Record<string, string>): RequestHead {
  const headers = new HeaderBlock();
  for (const [name, value] of Object.entries(fields)) headers.add(name, value);
  return {
    method: "PUT",
    scheme: "https",
    authority: "now.example",
    path: "/now",
    query: undefined,
    headers,
    source: "192.0.2.1",
  } as RequestHead;
}
const exchange = { path: "/came", query: "x=1&y=a%20b", authority: "Came.example" } as FilterExchange;

describe("claims as headers", () => {
  const payload = {
    sub: "ann",
    realm: { roles: ["a", "b"], n: 1 },
    "a.b": "flat",
    on: true,
    umlaut: "ö",
    bad: "a\r\nb",
    mixed: [{}],
  };
  test("text, numbers, booleans and lists; dots lead into objects, but a claim of that name stands above", () => {
    expect(["sub", "realm.roles", "realm.n", "a.b", "on"].map((claim) => claimText(payload, claim))).toEqual([
      "ann",
      "a,b",
      "1",
      "flat",
      "true",
    ]);
  });
  test("UTF-8 as bytes", () => {
    expect(Buffer.from(claimText(payload, "umlaut")!, "latin1").toString("utf8")).toBe("ö");
  });
  test("what cannot stand in a header, or is nothing simple, is left out", () => {
    for (const claim of ["bad", "realm", "mixed", "missing", "sub.x", "constructor", "realm.constructor"]) {
      expect(claimText(payload, claim)).toBeUndefined();
    }
  });
});

test("keys of requests are what came, not what filters made of it", () => {
  const head = headOf({ "x-user": "ann", cookie: "a=1; b=2" });
  const part = (key: Parameters<typeof keyPart>[0]) => keyPart(key)(head, exchange);
  expect(part({ kind: "source" })).toBe("192.0.2.1");
  expect(part({ kind: "header", name: "x-user" })).toBe("ann");
  expect(part({ kind: "header", name: "host" })).toBe("Came.example");
  expect(part({ kind: "header", name: "x-none" })).toBeUndefined();
  expect(part({ kind: "query", name: "y" })).toBe("a b");
  expect(part({ kind: "path" })).toBe("/came");
  expect(part({ kind: "host" })).toBe("came.example");
  expect(part({ kind: "method" })).toBe("PUT");
  expect(part({ kind: "constant", value: "c" })).toBe("c");
  expect(part({ kind: "cookie", name: "b" })).toBe("2");
});

test("rate limit fields: a window in which the bucket fills, what is left, and when to come again", () => {
  const limit = { bucket: 'a"b', requests: 10, per: 60_000, burst: 20, tell: true } as LocalRateLimit;
  const taken = { allowed: false, left: 0, wait: 5_500, full: 120_000 };
  expect(rateLimitFields(limit, taken)).toEqual([
    { name: "ratelimit-policy", value: '"a_b";q=20;w=120' },
    { name: "ratelimit", value: '"a_b";r=0;t=6' },
  ]);
  expect(refusalFields({ ...limit, tell: false }, { ...taken, wait: 1 })).toEqual([
    { name: "retry-after", value: "1" },
  ]);
  // 1 / (1 / 3,600,000) is a little more than 3,600,000.
  expect(refusalFields({ ...limit, tell: false }, { ...taken, wait: 1 / (1 / 3_600_000) })).toEqual([
    { name: "retry-after", value: "3600" },
  ]);
});

describe("external authorization over HTTP", () => {
  const config: ExternalAuthorization = {
    kind: "externalAuth",
    from,
    service: "auth",
    protocol: { kind: "http", authority: "auth.example", path: "/check/", prefix: true },
    sends: ["cookie"],
    adds: [{ name: "x-added", value: "1" }],
    body: { bytes: 0, partial: false },
    toBackend: ["x-user"],
    toClient: ["x-why"],
    timeout: 100,
    whenFailing: { status: 403 },
  };
  const http = config.protocol as Extract<typeof config.protocol, { kind: "http" }>;
  const fields = {
    cookie: "c=1",
    authorization: "a",
    "x-added": "forged",
    "x-other": "1",
    "x-original-uri": "/forged",
    connection: "close",
  };

  test("Envoy's way: the request's own path and method behind the prefix, listed fields only", () => {
    const asked = httpQuestions(config, http).ask(headOf(fields), exchange, [], false);
    expect(asked).toMatchObject({ method: "PUT", authority: "auth.example", path: "/check/came?x=1&y=a%20b" });
    expect(asked.headers).toEqual([
      { name: "cookie", value: "c=1" },
      { name: "authorization", value: "a" },
      { name: "x-added", value: "1" },
    ]);
  });

  test("NGINX's way: one path, the request in fields that a client cannot forge", () => {
    const asked = httpQuestions({ ...config, sends: ["*"] }, { ...http, prefix: false }).ask(
      headOf(fields),
      exchange,
      [],
      false,
    );
    expect(asked.path).toBe("/check/");
    const told = new Map(asked.headers.map(({ name, value }) => [name, value]));
    expect(told.get("x-original-uri")).toBe("/came?x=1&y=a%20b");
    expect(told.get("x-original-url")).toBe("https://Came.example/came?x=1&y=a%20b");
    expect([told.get("x-original-method"), told.get("x-other"), told.get("connection")]).toEqual([
      "PUT",
      "1",
      undefined,
    ]);
    expect(asked.headers.filter(({ name }) => name === "x-original-uri")).toHaveLength(1);
  });

  test("what answers mean", () => {
    const read = (status: number, headers: [string, string][] = []) =>
      httpQuestions(config, http).read({ status, headers, body: Buffer.from("b"), trailers: [] });
    expect(
      read(204, [
        ["x-user", "ann"],
        ["x-else", "1"],
        ["content-length", "0"],
      ]),
    ).toEqual({
      kind: "yes",
      set: [{ name: "x-user", value: "ann" }],
      add: [],
      remove: ["x-user"],
      toClient: [],
    });
    expect(
      read(401, [
        ["www-authenticate", "Basic"],
        ["x-why", "1"],
        ["x-inside", "1"],
        ["transfer-encoding", "chunked"],
      ]),
    ).toEqual({
      kind: "no",
      status: 401,
      headers: [
        { name: "www-authenticate", value: "Basic" },
        { name: "x-why", value: "1" },
      ],
      body: Buffer.from("b"),
    });
    expect(read(500)).toEqual({ kind: "failing" });
  });

  test("where to sign in, with where to come back to", () => {
    expect(signInUrl("https://l/start", "http://a/b?c")).toBe("https://l/start?rd=http%3A%2F%2Fa%2Fb%3Fc");
    expect(signInUrl("https://l/?a=1", "x")).toBe("https://l/?a=1&rd=x");
    expect(signInUrl("https://l/?rd=y", "x")).toBe("https://l/?rd=y");
  });

  test("so many bytes of a body", () => {
    const chunks = [Buffer.from("abc"), Buffer.from("defg")];
    expect([0, 2, 3, 5, 9].map((bytes) => Buffer.concat(firstBytes(chunks, bytes)).toString())).toEqual([
      "",
      "ab",
      "abc",
      "abcde",
      "abcdefg",
    ]);
  });
});

describe("gRPC calls", () => {
  const to = { backend: "b", authority: "a", path: "/p", timeout: 1500.5 };
  const ok = (body: Buffer, more: Partial<CallAnswer> = {}): CallAnswer => ({
    status: 200,
    headers: [],
    trailers: [["grpc-status", "0"]],
    body,
    ...more,
  });

  test("what is written is read", () => {
    const request = grpcRequest(to, messages.rateLimitRequest, {
      domain: "d",
      descriptors: [{ entries: [{ key: "k", value: "v" }] }],
    });
    expect(request.headers).toContainEqual({ name: "grpc-timeout", value: "1501m" });
    const body = Buffer.concat(request.body!);
    expect(grpcMessage<object>(ok(body), messages.rateLimitRequest)).toMatchObject({
      domain: "d",
      descriptors: [{ entries: [{ key: "k", value: "v" }] }],
    });
  });

  test("a failed status, a message of another length, a compressed one, and noise are failures", () => {
    const body = Buffer.concat(grpcRequest(to, messages.rateLimitRequest, { domain: "d" }).body!);
    const read = (answer: CallAnswer) => grpcMessage<object>(answer, messages.rateLimitRequest);
    expect(read(ok(body, { trailers: [["grpc-status", "14"]] }))).toBeUndefined();
    expect(read(ok(body, { trailers: [] }))).toBeUndefined();
    expect(read(ok(body, { status: 503 }))).toBeUndefined();
    expect(read(ok(body.subarray(0, 6)))).toBeUndefined();
    expect(read(ok(Buffer.concat([body, body])))).toBeUndefined();
    expect(read(ok(Buffer.concat([Buffer.from([1]), body.subarray(1)])))).toBeUndefined();
    expect(read(ok(Buffer.from([0, 0, 0, 0, 3, 0x0a, 0xff, 0xff])))).toBeUndefined();
  });

  test("headers of a service that could not stand in a message are left out", () => {
    const header = (key: string, value: string) => wireHeader({ key, value, rawValue: new Uint8Array() });
    expect(header("X-A", "1")).toEqual({ name: "x-a", value: "1" });
    for (const [key, value] of [
      ["x a", "1"],
      ["", "1"],
      [":path", "/"],
      ["x-a", "1\r\n2"],
    ] as const)
      expect(header(key, value)).toBeUndefined();
  });
});

test.each([
  [undefined, false],
  ["10.0.0.1", false],
  ["10.0.0.1, 10.0.0.2, 10.0.0.2", false],
  ["10.0.0.1, 10.0.0.2, 10.0.0.2,10.0.0.2", true],
  ["10.0.0.2, 10.0.0.1, 10.0.0.2, 10.0.0.1, 10.0.0.2", true],
  ["10.0.0.1, 10.0.0.1, 10.0.0.1, 10.0.0.2", false],
  ["1, 2, 3, 4, 5, 6, 7", false],
  ["1, 2, 3, 4, 5, 6, 7, 8", true],
])("no copy is made of what has passed %s: %p", (hops, round) => {
  expect(goesRound(hops)).toBe(round);
});

test("a mirror's host keeps its port", () => {
  expect(["a.b:80", "a.b", "[::1]:80"].map((authority) => withSuffix(authority, "-shadow"))).toEqual([
    "a.b-shadow:80",
    "a.b-shadow",
    "[::1]-shadow:80",
  ]);
});

test("fields one by one, and members of lists once", () => {
  const { headers } = headOf({ vary: "Accept" });
  headers.add("set-cookie", "a=1");
  headers.add("set-cookie", "b=2");
  expect(valuesOf(headers, "set-cookie")).toEqual(["a=1", "b=2"]);
  addToList(headers, "vary", "origin");
  addToList(headers, "vary", "accept");
  expect(headers.get("vary")).toBe("Accept, origin");
  headers.set("vary", "*");
  addToList(headers, "vary", "origin");
  expect(headers.get("vary")).toBe("*");
});
