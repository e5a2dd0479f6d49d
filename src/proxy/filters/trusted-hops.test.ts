import { describe, expect, test } from "bun:test";
import { addressSet } from "../address-set.ts";
import type { RequestHead } from "../exchange.ts";
import { HeaderBlock } from "../headers.ts";
import { addForwardingHeaders } from "./forwarded.ts";
import { addressOf, believeHops, forwardedElement, parseForwarded } from "./trusted-hops.ts";

function headWith(peer: string, fields: Record<string, string>): RequestHead {
  const headers = new HeaderBlock();
  for (const [name, value] of Object.entries(fields)) headers.add(name, value);
  return { source: peer, scheme: "http", authority: "shop.example", headers } as RequestHead;
}

const trusted = addressSet(["10.0.0.0/8", "fd00::/8"]);

function seen(peer: string, fields: Record<string, string>): [string, string] {
  const head = headWith(peer, fields);
  believeHops(head, "http", trusted);
  return [head.source, head.scheme];
}

describe("who the client is", () => {
  test("who connected, unless that is a trusted hop", () => {
    expect(seen("192.0.2.1", { "x-forwarded-for": "203.0.113.1", "x-forwarded-proto": "https" })).toEqual([
      "192.0.2.1",
      "http",
    ]);
    expect(seen("10.0.0.1", {})).toEqual(["10.0.0.1", "http"]);
    expect(seen("::ffff:10.0.0.1", { "x-forwarded-for": "203.0.113.1" })).toEqual(["203.0.113.1", "http"]);
  });

  test("the last address that is no trusted hop; what stands before it may be forged", () => {
    expect(seen("10.0.0.1", { "x-forwarded-for": "1.1.1.1, 203.0.113.1, 10.0.0.7" })[0]).toBe("203.0.113.1");
    expect(seen("10.0.0.1", { "x-forwarded-for": "10.0.0.8, fd00::7" })[0]).toBe("10.0.0.8");
    expect(seen("10.0.0.1", { "x-forwarded-for": "203.0.113.1, nonsense, 10.0.0.7" })[0]).toBe("10.0.0.7");
    expect(seen("10.0.0.1", { "x-forwarded-proto": "http, HTTPS" })[1]).toBe("https");
    expect(seen("10.0.0.1", { "x-forwarded-proto": "gopher" })[1]).toBe("http");
  });

  test("Forwarded stands above x-forwarded-for", () => {
    const fields = { forwarded: 'for="[2001:db8::1]:80";proto=https, for=10.0.0.7', "x-forwarded-for": "1.1.1.1" };
    expect(seen("10.0.0.1", fields)).toEqual(["2001:db8::1", "https"]);
    expect(seen("10.0.0.1", { forwarded: "for=unknown;proto=https" })).toEqual(["10.0.0.1", "http"]);
  });

  test("the next request of a connection begins anew", () => {
    const head = headWith("10.0.0.1", { "x-forwarded-for": "203.0.113.1", "x-forwarded-proto": "https" });
    believeHops(head, "http", trusted);
    head.headers = new HeaderBlock();
    believeHops(head, "http", trusted);
    expect([head.source, head.scheme]).toEqual(["10.0.0.1", "http"]);
  });
});

test("addresses with and without ports", () => {
  expect(
    ["1.2.3.4", " 1.2.3.4:80", "[::1]:80", "::1", "::ffff:1.2.3.4", "_x", "unknown", "1.2.3.4:x"].map(addressOf),
  ).toEqual(["1.2.3.4", "1.2.3.4", "::1", "::1", "1.2.3.4", undefined, undefined, undefined]);
});

test("Forwarded is taken apart as it was put together", () => {
  const text = `${forwardedElement("::1", 'a,"b;', "https")}, ${forwardedElement("192.0.2.1", "", "http")}`;
  expect(parseForwarded(text)).toEqual([
    { for: "[::1]", host: 'a,"b;', proto: "https" },
    { for: "192.0.2.1", proto: "http" },
  ]);
});

test("a request that has passed 32 proxies goes no further", () => {
  const through = (count: number) =>
    headWith("10.0.0.1", {
      "x-forwarded-for": Array.from({ length: count }, (_, index) => `10.1.0.${index}`).join(", "),
    });
  const cache = { source: "", scheme: "", authority: "", lines: "" };
  expect(addForwardingHeaders(through(31), false, cache)).toBeTrue();
  expect(addForwardingHeaders(through(32), false, cache)).toBeFalse();
});
