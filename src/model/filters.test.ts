// What filters mean, piece by piece: queries, cookies, origins, codings, lists of users, key sets; and what `decide` says of them.

import { describe, expect, test } from "bun:test";
import { addressProblem } from "./address-list.ts";
import { chosenCoding, typeListed } from "./content-coding.ts";
import { corsFields, originAllowed, preflightFields } from "./cors.ts";
import { answerOfFilters, sentRequest } from "./decide-filters.ts";
import type { TrailStep } from "./decision.ts";
import { inOrder } from "./filter-order.ts";
import type { CookieChange, Cors, Filter } from "./filters.ts";
import { parseHtpasswd } from "./htpasswd.ts";
import { keySetProblem, publicKeySet } from "./key-set.ts";
import type { RequestParts } from "./match.ts";
import { changeQuery } from "./query.ts";
import { changeCookie } from "./set-cookie.ts";

const from = { kind: "Test", name: "test", field: "" };
const none = { set: [], add: [], remove: [] };

describe("queries", () => {
  test("set, add, remove, in that order; the rest stays byte for byte", () => {
    const change = { set: [{ name: "a", value: "1 2" }], add: [{ name: "b", value: "ü" }], remove: ["c"] };
    expect(changeQuery("a=0&%61=x&b=%zz&c&c=2&&d=%2F", change)).toBe("b=%zz&&d=%2F&a=1%202&b=%C3%BC");
    expect(changeQuery(undefined, { ...none, remove: ["a"] })).toBeUndefined();
    expect(changeQuery("", none)).toBe("");
    expect(changeQuery("a=1", { ...none, remove: ["a"] })).toBeUndefined();
  });

  test("what is set cannot begin another parameter", () => {
    expect(changeQuery(undefined, { ...none, set: [{ name: "a=b", value: "c&d#e" }] })).toBe("a%3Db=c%26d%23e");
  });
});

describe("cookies of a backend", () => {
  const change = (more: Partial<CookieChange>): CookieChange => ({ kind: "cookies", from, ...more });
  test("attributes by any case of their name, values with and without a leading dot", () => {
    expect(
      changeCookie("a=1; DOMAIN=.Inside.local; path=/x", change({ domain: { from: "inside.local", to: "b.c" } })),
    ).toBe("a=1; path=/x; Domain=b.c");
    expect(changeCookie("a=1; Path=/x", change({ path: { from: "/y", to: "/" } }))).toBe("a=1; Path=/x");
    expect(changeCookie("a=1; Path=/x", change({ path: { to: "" } }))).toBe("a=1");
    expect(changeCookie("a=1; secure", change({ secure: false, httpOnly: true, sameSite: "None" }))).toBe(
      "a=1; HttpOnly; SameSite=None",
    );
  });
  test("only of the names that fit; values with = and ; attributes that nobody knows stay", () => {
    const name = { kind: "prefix" as const, value: "s" };
    expect(changeCookie("a=1;Secure", change({ name, secure: false }))).toBe("a=1;Secure");
    expect(changeCookie("s=a=b; Priority=High; Secure", change({ name, secure: false }))).toBe("s=a=b; Priority=High");
  });
});

describe("origins", () => {
  const cors = (more: Partial<Cors>): Cors => ({
    kind: "cors",
    from,
    allowOrigins: [{ kind: "exact", value: "*" }],
    allowMethods: ["GET", "PUT"],
    allowHeaders: ["*"],
    exposeHeaders: [],
    allowCredentials: false,
    otherPreflights: "answer",
    ...more,
  });
  test("a star stands for all; with credentials the request's own value is answered", () => {
    expect(preflightFields(cors({}), "https://a", "PUT", "x-a", false)).toEqual([
      { name: "access-control-allow-origin", value: "*" },
      { name: "access-control-allow-methods", value: "GET, PUT" },
      { name: "access-control-allow-headers", value: "*" },
    ]);
    const strict = cors({ allowCredentials: true, allowMethods: ["*"], maxAge: 0 });
    expect(preflightFields(strict, "https://a", "PUT", "x-a, x-b", true)).toEqual([
      { name: "access-control-allow-origin", value: "https://a" },
      { name: "access-control-allow-credentials", value: "true" },
      { name: "access-control-allow-methods", value: "PUT" },
      { name: "access-control-allow-headers", value: "x-a, x-b" },
      { name: "access-control-max-age", value: "0" },
    ]);
    const inside = { name: "access-control-allow-private-network", value: "true" };
    for (const [allowPrivateNetwork, asked, told] of [
      [true, true, true],
      [true, false, false],
      [false, true, false],
    ] as const) {
      const fields = preflightFields(cors({ allowPrivateNetwork }), "https://a", "GET", undefined, asked);
      expect(fields.some(({ name }) => name === inside.name)).toBe(told);
      if (told) expect(fields).toContainEqual(inside);
    }
    expect(corsFields(cors({ exposeHeaders: ["x-a", "x-b"] }), "https://a")).toEqual([
      { name: "access-control-allow-origin", value: "*" },
      { name: "access-control-expose-headers", value: "x-a, x-b" },
    ]);
  });
  test("no origin is allowed by an empty list, and a suffix is what it says", () => {
    expect(originAllowed(cors({ allowOrigins: [] }), "https://a")).toBeFalse();
    const suffix = cors({ allowOrigins: [{ kind: "suffix", value: ".example.com" }] });
    expect([originAllowed(suffix, "https://a.example.com"), originAllowed(suffix, "https://example.com.evil")]).toEqual(
      [true, false],
    );
  });
});

describe("codings", () => {
  const ours = ["br", "zstd", "gzip"] as const;
  test("the first of the best that the client takes", () => {
    const cases: Record<string, string | undefined> = {
      gzip: "gzip",
      "gzip, br": "br",
      "x-gzip": "gzip",
      "GZIP;Q=1": "gzip",
      "br;q=0.1, gzip;q=0.9": "gzip",
      "*": "br",
      "*;q=0": undefined,
      "*, br;q=0": "zstd",
      identity: undefined,
      "identity, gzip;q=0.5": undefined,
      "identity;q=0, gzip;q=0.001": "gzip",
      "gzip;q=0": undefined,
      "gzip;q=2": undefined,
      deflate: undefined,
      "": undefined,
    };
    for (const [accepted, coding] of Object.entries(cases))
      expect([accepted, chosenCoding(ours, accepted)]).toEqual([accepted, coding as never]);
    expect(chosenCoding(ours, undefined)).toBeUndefined();
  });
  test("types without their parameters", () => {
    const types = ["text/*", "application/json"];
    const listed = [
      "text/html; charset=utf-8",
      "TEXT/css",
      "application/json;x=y",
      "image/png",
      "text",
      "",
      undefined,
    ].map((type) => typeListed(types, type));
    expect(listed).toEqual([true, true, true, false, false, false, false]);
  });
});

test("htpasswd: what is read, and what is wrong by its line, without its content", () => {
  const bcrypt = `$2y$10$${"a".repeat(53)}`;
  const text = `# users\nann:${bcrypt}\n\nbob:{SHA}${"b".repeat(27)}=\r\ncy:$apr1$salt$${"c".repeat(22)}\nplain:secret\ncrypt:rqXexS6ZhobKA\nnocolon\nann:${bcrypt}\n:${bcrypt}\n`;
  const { users, problems } = parseHtpasswd(text);
  expect([...users].map(([name, { kind }]) => `${name} ${kind}`)).toEqual(["ann bcrypt", "bob sha1", "cy apr1"]);
  expect(problems.map((problem) => problem.slice(0, 7))).toEqual([
    "line 6 ",
    "line 7 ",
    "line 8 ",
    "line 9 ",
    "line 10",
  ]);
  expect(problems.join()).not.toContain("secret");
});

test("key sets: public keys only", () => {
  const rsa = { kty: "RSA", n: "x", e: "AQAB" };
  const set = (...keys: unknown[]) => JSON.stringify({ keys });
  expect(publicKeySet(set(rsa, { kty: "oct", k: "secret" }, { ...rsa, d: "private" }, null)).keys).toEqual([rsa]);
  expect(keySetProblem(set(rsa))).toBeUndefined();
  expect(keySetProblem(set(rsa, { kty: "oct", k: "secret" }))).toMatch(/not a public/);
  expect(keySetProblem(set())).toBe("holds no key");
  expect(keySetProblem("{}")).toMatch(/no list "keys"/);
  expect(keySetProblem("null")).toMatch(/no list "keys"/);
  expect(keySetProblem("{")).toBe("is no JSON");
});

test("address lists say why, and know mapped addresses", () => {
  const list = { kind: "addresses" as const, from, allow: ["10.0.0.0/8"], deny: ["10.1.0.0/16"] };
  expect(addressProblem(list, "10.2.0.1")).toBeUndefined();
  expect(addressProblem(list, "::ffff:10.2.0.1")).toBeUndefined();
  expect(addressProblem(list, "10.1.0.1")).toBe("source 10.1.0.1 is in 10.1.0.0/16, which is denied");
  expect(addressProblem(list, "::1")).toBe("source ::1 is not in 10.0.0.0/8");
  expect(addressProblem({ ...list, allow: [] }, "10.2.0.1")).toMatch(/an empty list/);
});

describe("what decide says of filters", () => {
  const request = (more: Partial<RequestParts> = {}): RequestParts => ({
    method: "GET",
    scheme: "http",
    authority: "a",
    path: "/p",
    query: undefined,
    headers: [],
    source: "10.0.0.1",
    ...more,
  });
  const told = (filters: readonly Filter[], of: RequestParts) => {
    const trail: TrailStep[] = [];
    const answer = answerOfFilters(filters, of, trail);
    return { answer: answer?.status, steps: trail.map(({ reason }) => reason) };
  };
  const basicAuth: Filter = { kind: "basicAuth", from, realm: "r", users: "u", userHeader: "x-user" };
  const addresses: Filter = { kind: "addresses", from, deny: ["10.0.0.0/8"] };
  const hidden: Filter = { ...addresses, status: 404 };
  const fault: Filter = {
    kind: "fault",
    from,
    delay: { perMillion: 5_000, time: 30 },
    abort: { perMillion: 100_000, grpcStatus: 14 },
  };

  test("filters answer in their order, not in the rule's", () => {
    expect(told([basicAuth, addresses], request())).toEqual({
      answer: 403,
      steps: ["addresses answers 403: source 10.0.0.1 is in 10.0.0.0/8, which is denied"],
    });
    expect(told([hidden], request()).steps).toEqual([
      "addresses answers 404: source 10.0.0.1 is in 10.0.0.0/8, which is denied",
    ]);
    expect(inOrder([basicAuth, addresses]).map(({ kind }) => kind)).toEqual(["addresses", "basicAuth"]);
  });

  test("what is left to others or to chance is said", () => {
    const headers = [["Authorization", "Basic x"]] as const;
    expect(told([fault, basicAuth], request({ headers }))).toEqual({
      answer: undefined,
      steps: [
        "basicAuth passes if the credentials are right",
        "fault waits 30 ms in 0.5 % of requests, answers gRPC status 14 in 10 % of requests",
      ],
    });
    expect(told([addresses], { ...request(), source: undefined }).steps).toEqual([
      "addresses depends on the client's address, which is not known here",
    ]);
  });

  test("no credentials, no token, a long body", () => {
    expect(told([basicAuth], request()).answer).toBe(401);
    const jwt: Filter = {
      kind: "jwt",
      from,
      optional: false,
      providers: [
        {
          name: "p",
          issuer: "i",
          audiences: [],
          keys: { inline: "{}" },
          places: [{ kind: "header", name: "x-token", prefix: "T " }],
          forward: true,
          claimHeaders: [],
        },
      ],
    };
    expect(told([jwt], request()).answer).toBe(401);
    expect(told([{ ...jwt, optional: true }], request())).toEqual({ answer: undefined, steps: [] });
    expect(told([jwt], request({ headers: [["X-Token", "t abc"]] })).steps).toEqual([
      "jwt passes if the token is good",
    ]);
    expect(told([{ kind: "bodyLimit", from, bytes: 5 }], request({ headers: [["content-length", "6"]] })).answer).toBe(
      413,
    );
  });

  test("what is sent: credentials end here, and what only the proxy may say is not a client's to say", () => {
    const of = request({
      query: "a=1",
      headers: [
        ["Authorization", "Basic x"],
        ["X-User", "forged"],
        ["x-a", "1"],
      ],
    });
    const query: Filter = { kind: "query", from, change: { ...none, add: [{ name: "b", value: "2" }] } };
    expect(sentRequest(of, [[query], [basicAuth]], undefined)).toEqual({
      authority: "a",
      target: "/p?a=1&b=2",
      headers: [["x-a", "1"]],
    });
  });
});
