import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { normalizedPath, pathNormalizations } from "./path-normalization.ts";

describe("a path in its normal form", () => {
  const cases: [path: string, base: string | undefined, merged: string | undefined, decoded: string | undefined][] = [
    ["/", "/", "/", "/"],
    ["/a/b", "/a/b", "/a/b", "/a/b"],
    ["/%61dmin/%7Euser%2d1", "/admin/~user-1", "/admin/~user-1", "/admin/~user-1"],
    ["/a%20b%3F", "/a%20b%3F", "/a%20b%3F", "/a%20b%3F"],
    ["/a/./b/.", "/a/b/", "/a/b/", "/a/b/"],
    ["/a/../b", "/b", "/b", "/b"],
    ["/a/b/..", "/a/", "/a/", "/a/"],
    ["/a/%2e%2E/b", "/b", "/b", "/b"],
    ["/a/.../..b/.c", "/a/.../..b/.c", "/a/.../..b/.c", "/a/.../..b/.c"],
    ["/a\\..\\b", "/b", "/b", "/b"],
    ["//a///b/", "//a///b/", "/a/b/", "/a/b/"],
    ["/a//../b", "/a/b", "/a/b", "/a/b"],
    ["/a%2Fb%5cc", "/a%2Fb%5cc", "/a%2Fb%5cc", "/a/b/c"],
    ["/a/x%2f..%2F..%2fb", "/a/x%2f..%2F..%2fb", "/a/x%2f..%2F..%2fb", "/b"],
    ["/a/..;x=1/b;y/.;", "/b;y/", "/b;y/", "/b;y/"],
    ["/a/%2e.;/b", "/b", "/b", "/b"],
    ["/a/..%3b/b", "/a/..%3b/b", "/a/..%3b/b", "/a/..%3b/b"],
    [
      '/a{b}|c^d`"<>',
      "/a%7Bb%7D%7Cc%5Ed%60%22%3C%3E",
      "/a%7Bb%7D%7Cc%5Ed%60%22%3C%3E",
      "/a%7Bb%7D%7Cc%5Ed%60%22%3C%3E",
    ],
    ["/!$&'()*+,;=:@", "/!$&'()*+,;=:@", "/!$&'()*+,;=:@", "/!$&'()*+,;=:@"],
    // Read once.
    ["/%2561/%252e%252e/b", "/%2561/%252e%252e/b", "/%2561/%252e%252e/b", "/%2561/%252e%252e/b"],
    ["/%zz%4", "/%zz%4", "/%zz%4", "/%zz%4"],
    ["/..", undefined, undefined, undefined],
    ["/a/../../b", undefined, undefined, undefined],
    ["/%2e%2e/a", undefined, undefined, undefined],
    ["/a/..%2f..%5Cb", "/a/..%2f..%5Cb", "/a/..%2f..%5Cb", undefined],
    ["/a%00b", undefined, undefined, undefined],
    ["*", "*", "*", "*"],
    ["", "", "", ""],
  ];
  test.each(cases)("%s", (path, base, merged, decoded) => {
    expect(pathNormalizations.map((how) => normalizedPath(path, how))).toEqual([path, base, merged, decoded]);
  });

  const part = fc.constantFrom(
    "a",
    "B",
    ".",
    "..",
    "/",
    "\\",
    "%2e",
    "%2F",
    "%5c",
    ";",
    "{",
    "%61",
    "%25",
    "%",
    "0",
    "%00",
  );
  const paths = fc.array(part, { maxLength: 12 }).map((parts) => `/${parts.join("")}`);

  test("is a path without dot segments, backslashes or what need not be escaped, and stays when it has been so", () => {
    fc.assert(
      fc.property(paths, fc.constantFrom(...pathNormalizations.slice(1)), (path, how) => {
        const normal = normalizedPath(path, how);
        if (normal === undefined) return;
        expect(normal).toStartWith("/");
        expect(normal).not.toMatch(/[\\{]|%00|(^|\/)\.\.?(;|\/|$)/);
        if (how !== "BASE") expect(normal).not.toInclude("//");
        // `%2561` became nothing else, but what it is made of must not be read again.
        if (!/%25/.test(path)) expect(normalizedPath(normal, how)).toBe(normal);
      }),
      { numRuns: 2000 },
    );
  });

  test("costs in proportion to its length", () => {
    const time = (length: number) => {
      const path = "/a/%2e./".repeat(length / 8);
      const begun = performance.now();
      normalizedPath(path, "DECODE_AND_MERGE_SLASHES");
      return performance.now() - begun;
    };
    time(16_000);
    const [short, long] = [1_600, 16_000].map((length) => Math.min(...Array.from({ length: 5 }, () => time(length))));
    expect(long!).toBeLessThan(100 * Math.max(short!, 0.05));
  });
});
