import { describe, expect, test } from "bun:test";
import type { PathMatch } from "./model.ts";
import { joinTarget, parseTarget, pathMatches, rewritePath } from "./path.ts";

describe("a request target", () => {
  test.each([
    ["/orders?x=1", { path: "/orders", query: "x=1" }],
    ["/orders?", { path: "/orders", query: "" }],
    ["/a?b?c", { path: "/a", query: "b?c" }],
    ["", { path: "/" }],
    ["*", { path: "*" }],
    ["//", { path: "//" }],
    ["http://api.example.com", { authority: "api.example.com", scheme: "http", path: "/" }],
    ["http://api.example.com?x", { authority: "api.example.com", scheme: "http", path: "/", query: "x" }],
    [
      "HTTPS://Api.example.com:8443/a/b?c",
      { authority: "Api.example.com:8443", scheme: "https", path: "/a/b", query: "c" },
    ],
    ["/http://x/", { path: "/http://x/" }],
  ] as const)("%j is taken apart", (target, expected) => {
    expect(parseTarget(target)).toEqual(expected);
  });

  test("is joined to what it was", () => {
    for (const target of ["/a?b=1", "/a?", "/a", "*"]) {
      const { path, query } = parseTarget(target);
      expect(joinTarget(path, query)).toBe(target);
    }
  });
});

describe("a path match", () => {
  const takes = (match: PathMatch, ...paths: string[]) => paths.filter((path) => pathMatches(match, path));

  test("by segments takes the prefix itself and what lies below, whatever slash ends the value", () => {
    const paths = ["/foo", "/foo/", "/foo/bar", "/foo//bar", "/foobar", "/fo", "/Foo", "/foo%2Fbar", "*", "/"];
    const taken = ["/foo", "/foo/", "/foo/bar", "/foo//bar"];
    expect(takes({ kind: "segments", value: "/foo" }, ...paths)).toEqual(taken);
    expect(takes({ kind: "segments", value: "/foo/" }, ...paths)).toEqual(taken);
  });

  test("by segments of / takes every path, but not the asterisk of OPTIONS", () => {
    expect(takes({ kind: "segments", value: "/" }, "/", "//", "/a", "*", "")).toEqual(["/", "//", "/a"]);
  });

  test("exact, prefix and regex are told apart, and case counts unless it is ignored", () => {
    const paths = ["/a", "/A", "/a/", "/ab"];
    expect(takes({ kind: "exact", value: "/a" }, ...paths)).toEqual(["/a"]);
    expect(takes({ kind: "exact", value: "/a", ignoreCase: true }, ...paths)).toEqual(["/a", "/A"]);
    expect(takes({ kind: "prefix", value: "/a" }, ...paths)).toEqual(["/a", "/a/", "/ab"]);
    expect(takes({ kind: "regex", value: "/[a-z]" }, ...paths)).toEqual(["/a"]);
    expect(takes({ kind: "regex", value: "/[a-z]", ignoreCase: true }, ...paths)).toEqual(["/a", "/A"]);
    expect(takes({ kind: "regex", value: "(" }, ...paths)).toEqual([]);
  });
});

describe("a path rewrite", () => {
  // The table of Gateway API's HTTPPathModifier.replacePrefixMatch, and what it leaves open.
  test.each([
    ["/foo/bar", "/foo", "/xyz", "/xyz/bar"],
    ["/foo/bar", "/foo", "/xyz/", "/xyz/bar"],
    ["/foo/bar", "/foo/", "/xyz", "/xyz/bar"],
    ["/foo/bar", "/foo/", "/xyz/", "/xyz/bar"],
    ["/foo", "/foo", "/xyz", "/xyz"],
    ["/foo/", "/foo", "/xyz", "/xyz/"],
    ["/foo/bar", "/foo", "", "/bar"],
    ["/foo/", "/foo", "", "/"],
    ["/foo", "/foo", "", "/"],
    ["/foo/", "/foo", "/", "/"],
    ["/foo", "/foo", "/", "/"],
    ["/bar", "/", "/xyz", "/xyz/bar"],
    ["/", "/", "/xyz", "/xyz/"],
    ["/foo//bar", "/foo", "/xyz", "/xyz//bar"],
  ])("%s with the prefix %s replaced by %j is %s", (path, value, replacement, expected) => {
    expect(rewritePath({ kind: "prefix", value: replacement }, path, { kind: "segments", value })).toBe(expected);
  });

  test("of the full path forgets the path, and of a prefix without segments leaves it", () => {
    expect(rewritePath({ kind: "full", value: "/new" }, "/a/b", undefined)).toBe("/new");
    expect(rewritePath({ kind: "prefix", value: "/new" }, "/a/b", { kind: "exact", value: "/a/b" })).toBe("/a/b");
  });
});
