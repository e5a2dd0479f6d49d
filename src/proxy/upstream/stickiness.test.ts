import { expect, test } from "bun:test";
import type { SessionCookie } from "../../model/upstream-policies.ts";
import type { RequestHead } from "../exchange.ts";
import { HeaderBlock } from "../headers.ts";
import { parseFields } from "../http1/fields.ts";
import { hashOf } from "./consistent-hash.ts";
import { carriedToken, requestHash, stickyToken, tokenHeader } from "./stickiness.ts";

function head(fields: Record<string, string>, query?: string): RequestHead {
  const headers = new HeaderBlock();
  const lines = Buffer.from(
    `${Object.entries(fields)
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join("")}\r\n`,
  );
  expect(parseFields(lines, 0, lines.length, headers)).toBe(lines.length);
  return {
    method: "GET",
    scheme: "https",
    authority: "shop.example.com",
    path: "/",
    query,
    headers,
    hostKept: true,
    length: 0,
    upgrade: undefined,
    source: "10.0.0.7",
  };
}

const never = () => {
  throw new Error("no cookie should be made");
};

test("the first key that a request has is hashed", () => {
  const keys = [{ kind: "header", name: "x-user" }, { kind: "query", name: "u" }, { kind: "source" }] as const;
  expect(requestHash(keys, head({ "x-user": "ann" }), never)).toEqual({ hash: hashOf("ann") });
  expect(requestHash(keys, head({}, "u=bob"), never)).toEqual({ hash: hashOf("bob") });
  expect(requestHash(keys, head({}), never)).toEqual({ hash: hashOf("10.0.0.7") });
  expect(requestHash([{ kind: "header", name: "x-user" }], head({}), never)).toBeUndefined();
});

test("host, method, path and the path with its query are hashed as they came", () => {
  const of = (kind: "host" | "method" | "path" | "uri", query?: string) =>
    requestHash([{ kind }], head({}, query), never)?.hash;
  expect(of("host")).toBe(hashOf("shop.example.com"));
  expect(of("method")).toBe(hashOf("GET"));
  expect(of("path", "a=1")).toBe(hashOf("/"));
  expect(of("uri", "a=1")).toBe(hashOf("/?a=1"));
  expect(of("uri")).toBe(hashOf("/"));
});

test("parts that are joined count together, and where they begin", () => {
  const one = { kind: "header", name: "x-one" } as const;
  const other = { kind: "header", name: "x-other" } as const;
  const keys = [{ kind: "joined", parts: [one, other] }, { kind: "source" }] as const;
  const of = (fields: Record<string, string>) => requestHash(keys, head(fields), never)!.hash;
  const values = [
    of({ "x-one": "a", "x-other": "bc" }),
    of({ "x-one": "ab", "x-other": "c" }),
    of({ "x-one": "abc" }),
    of({ "x-other": "abc" }),
    of({ "x-one": "abc", "x-other": "" }),
    of({}),
  ];
  expect(new Set(values).size).toBe(values.length);
  expect(of({ "x-one": "a", "x-other": "bc" })).toBe(values[0]!);
  expect(of({})).toBe(hashOf("10.0.0.7"));
});

test("a cookie is made where the client has none, and taken where it has", () => {
  const keys = [{ kind: "cookie", name: "route", path: "/shop", ttl: 60 }] as const;
  expect(requestHash(keys, head({}), () => "new")).toEqual({
    hash: hashOf("new"),
    setCookie: "route=new; Path=/shop; Max-Age=60; HttpOnly; SameSite=Lax; Secure",
  });
  const told = {
    kind: "cookie",
    name: "route",
    ttl: 0,
    domain: "shop.example",
    secure: false,
    sameSite: "Strict",
  } as const;
  expect(requestHash([told], head({}), () => "new")?.setCookie).toBe(
    "route=new; Path=/; Domain=shop.example; HttpOnly; SameSite=Strict",
  );
  expect(requestHash(keys, head({ cookie: "a=b; route=old" }), never)).toEqual({ hash: hashOf("old") });
  expect(requestHash([{ kind: "cookie", name: "route" }], head({}), never)).toBeUndefined();
});

test("a token is given and taken back, by cookie and by header; others are none", () => {
  const token = stickyToken("service/shop/cart/80 10.244.0.5 8080");
  expect(token).not.toContain("10.");
  const byCookie = { carrier: { kind: "cookie", name: "stick" }, keeps: "endpoint" } as const;
  expect(tokenHeader(byCookie, token, false)).toEqual(["set-cookie", `stick=${token}; Path=/; HttpOnly; SameSite=Lax`]);
  expect(carriedToken(byCookie, head({ cookie: `stick=${token}` }))).toBe(token);
  const told = (more: Partial<SessionCookie>, https: boolean) =>
    tokenHeader({ carrier: { ...byCookie.carrier, ...more }, keeps: "endpoint" }, token, https)[1]
      .split("; ")
      .slice(1);
  expect(told({ domain: "shop.example", path: "/cart", ttl: 60, sameSite: "Strict" }, true)).toEqual([
    ...["Path=/cart", "Domain=shop.example", "Max-Age=60", "HttpOnly", "SameSite=Strict", "Secure"],
  ]);
  expect(told({ secure: false, httpOnly: false }, true)).toEqual(["Path=/", "SameSite=Lax"]);
  expect(told({ secure: true }, false)).toEqual(["Path=/", "HttpOnly", "SameSite=Lax", "Secure"]);
  expect(told({ sameSite: "None" }, false)).toEqual(["Path=/", "HttpOnly", "SameSite=None", "Secure"]);
  const byHeader = { carrier: { kind: "header", name: "x-stick" }, keeps: "backend" } as const;
  expect(tokenHeader(byHeader, token, true)).toEqual(["x-stick", token]);
  expect(carriedToken(byHeader, head({ "x-stick": token }))).toBe(token);
  expect(carriedToken(byHeader, head({ "x-stick": "10.244.0.5:8080" }))).toBeUndefined();
});
