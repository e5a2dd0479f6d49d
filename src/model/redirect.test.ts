import { describe, expect, test } from "bun:test";
import type { Redirect } from "./model.ts";
import { type RedirectedRequest, redirectLocation } from "./redirect.ts";

const request = (changes: Partial<RedirectedRequest> = {}): RedirectedRequest => ({
  scheme: "http",
  authority: "example.com:8080",
  path: "/a/b",
  query: undefined,
  port: 8080,
  match: { kind: "segments", value: "/a" },
  ...changes,
});
const to = (redirect: Partial<Redirect>, changes: Partial<RedirectedRequest> = {}) =>
  redirectLocation({ kind: "redirect", status: 302, ...redirect }, request(changes));

describe("the Location of a redirect", () => {
  test("keeps what is not given; the port is the listener's, whatever the Host header said", () => {
    expect(to({})).toBe("http://example.com:8080/a/b");
    expect(to({}, { authority: "example.com:9999" })).toBe("http://example.com:8080/a/b");
    expect(to({}, { port: 80 })).toBe("http://example.com/a/b");
    expect(to({}, { scheme: "https", port: 443 })).toBe("https://example.com/a/b");
    expect(to({}, { scheme: "https", port: 80 })).toBe("https://example.com:80/a/b");
  });

  test("with a scheme and no port has the scheme's default port", () => {
    expect(to({ scheme: "https" })).toBe("https://example.com/a/b");
    expect(to({ scheme: "http" }, { scheme: "https", port: 443 })).toBe("http://example.com/a/b");
  });

  test("leaves out only the default port of its own scheme", () => {
    expect(to({ scheme: "https", port: 443 })).toBe("https://example.com/a/b");
    expect(to({ scheme: "https", port: 80 })).toBe("https://example.com:80/a/b");
    expect(to({ scheme: "http", port: 443 })).toBe("http://example.com:443/a/b");
    expect(to({ port: 80 })).toBe("http://example.com/a/b");
  });

  test("rewrites the path and keeps the query", () => {
    expect(to({ path: { kind: "prefix", value: "/x" } }, { query: "q=1" })).toBe("http://example.com:8080/x/b?q=1");
    expect(to({ path: { kind: "full", value: "/x" } }, { query: "" })).toBe("http://example.com:8080/x?");
    expect(to({ host: "other.org", path: { kind: "full", value: "/" } }, { port: 80 })).toBe("http://other.org/");
  });

  test("has the query that is given, or none where that is empty", () => {
    expect(to({ query: "to=1" }, { query: "q=1" })).toBe("http://example.com:8080/a/b?to=1");
    expect(to({ query: "" }, { query: "q=1" })).toBe("http://example.com:8080/a/b");
  });

  test("keeps the brackets of an IPv6 host", () => {
    expect(to({}, { authority: "[::1]:8080", port: 80 })).toBe("http://[::1]/a/b");
  });
});
