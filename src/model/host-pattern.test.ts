import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  compareHostPatterns,
  covers,
  hostMatches,
  hostPatternProblem,
  intersectHosts,
  parseAuthority,
} from "./host-pattern.ts";
import { hostPool } from "./testing/arbitrary-rules.ts";

describe("an authority", () => {
  test.each([
    ["api.example.com", { host: "api.example.com" }],
    ["API.Example.COM:8080", { host: "api.example.com", port: 8080 }],
    ["api.example.com.", { host: "api.example.com" }],
    ["api.example.com.:80", { host: "api.example.com", port: 80 }],
    ["api.example.com:", { host: "api.example.com" }],
    ["10.97.0.1:80", { host: "10.97.0.1", port: 80 }],
    ["[2001:DB8::1]", { host: "[2001:db8::1]" }],
    ["[::1]:8443", { host: "[::1]", port: 8443 }],
    ["", { host: "" }],
  ])("%j is taken apart", (text, expected) => {
    expect(parseAuthority(text)).toEqual(expected);
  });

  test.each([
    "a b",
    "user@host",
    "host:port",
    "host:0",
    "host:65536",
    "[::1",
    "[::1]x",
    "[1.2.3.4]",
    "::1",
    "a/b",
    "höst",
  ])("%j is none", (text) => {
    expect(parseAuthority(text)).toBeUndefined();
  });
});

describe("a host pattern", () => {
  test("a wildcard takes one or more labels, and not the name behind the star", () => {
    expect(hostMatches("*.example.com", "a.example.com")).toBe(true);
    expect(hostMatches("*.example.com", "a.b.example.com")).toBe(true);
    expect(hostMatches("*.example.com", "example.com")).toBe(false);
    expect(hostMatches("*.example.com", ".example.com")).toBe(false);
    expect(hostMatches("*.example.com", "notexample.com")).toBe(false);
    expect(hostMatches("*", "")).toBe(true);
  });

  test("an exact name is the most specific, then the longest wildcard, then the star", () => {
    const patterns = ["*", "*.com", "*.example.com", "a.example.com"];
    const best = (host: string) => patterns.filter((one) => hostMatches(one, host)).sort(compareHostPatterns)[0];
    expect(best("a.example.com")).toBe("a.example.com");
    expect(best("b.example.com")).toBe("*.example.com");
    expect(best("example.com")).toBe("*.com");
    expect(best("example.org")).toBe("*");
    expect([...patterns].reverse().sort(compareHostPatterns)).toEqual([...patterns].reverse());
  });

  test("an intersection takes exactly the hosts that both take", () => {
    const pattern = fc.constantFrom(...hostPool);
    const host = fc.constantFrom(
      "example.com",
      "a.example.com",
      "api.example.com",
      "v1.api.example.com",
      "x.org",
      "com",
    );
    fc.assert(
      fc.property(pattern, pattern, host, (a, b, name) => {
        const common = intersectHosts(a, b);
        expect(common !== undefined && hostMatches(common, name)).toBe(hostMatches(a, name) && hostMatches(b, name));
        if (covers(a, b) && hostMatches(b, name)) expect(hostMatches(a, name)).toBe(true);
      }),
    );
  });

  test("says what is wrong with it", () => {
    for (const good of ["*", "a", "*.example.com", "a-b.c_d.example", "10.0.0.1", "[::1]"]) {
      expect(hostPatternProblem(good)).toBeUndefined();
    }
    expect(hostPatternProblem("")).toBe("a host is empty");
    expect(hostPatternProblem("A.example")).toContain("lower case");
    expect(hostPatternProblem("a.example:80")).toContain("no port");
    expect(hostPatternProblem("a.*.example")).toContain("whole first label");
    expect(hostPatternProblem("*a.example")).toContain("whole first label");
    expect(hostPatternProblem("a..example")).toContain('label ""');
    expect(hostPatternProblem(`${"a".repeat(64)}.example`)).toContain("at most 63");
    expect(hostPatternProblem("a.".repeat(150))).toContain("253");
  });
});
