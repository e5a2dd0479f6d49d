import { describe, expect, test } from "bun:test";
import { changeHeaders } from "./header-change.ts";
import { compileRegex } from "./regex.ts";
import { cookieHeader, cookieValue, headerValue, queryValue, stringMatches } from "./value-match.ts";

describe("named values", () => {
  test("header fields of one name are joined in their order, names in any case", () => {
    const headers = [
      ["X-A", "1"],
      ["x-b", "2"],
      ["x-a", "3"],
    ] as const;
    expect(headerValue(headers, "x-a")).toBe("1,3");
    expect(headerValue(headers, "x-c")).toBeUndefined();
  });

  test("the first query parameter of a name counts, decoded, names with their case", () => {
    expect(queryValue("a=1&a=2", "a")).toBe("1");
    expect(queryValue("A=1", "a")).toBeUndefined();
    expect(queryValue("a", "a")).toBe("");
    expect(queryValue("&&a=b=c", "a")).toBe("b=c");
    expect(queryValue("%61=x+y%2Cz", "a")).toBe("x y,z");
    expect(queryValue("a=%zz", "a")).toBe("%zz");
    expect(queryValue(undefined, "a")).toBeUndefined();
  });

  test("the first cookie of a name counts, over all Cookie fields", () => {
    const cookie = cookieHeader([
      ["Cookie", "a=1; b=2"],
      ["cookie", "a=3;c = 4"],
    ]);
    expect(cookieValue(cookie, "a")).toBe("1");
    expect(cookieValue(cookie, "c")).toBe("4");
    expect(cookieValue(cookie, "A")).toBeUndefined();
    expect(cookieHeader([])).toBeUndefined();
  });
});

describe("a string match", () => {
  test("never takes an absent value, and takes an empty one as a value", () => {
    expect(stringMatches({ kind: "present" }, undefined)).toBe(false);
    expect(stringMatches({ kind: "regex", value: ".*" }, undefined)).toBe(false);
    expect(stringMatches({ kind: "present" }, "")).toBe(true);
    expect(stringMatches({ kind: "exact", value: "" }, "")).toBe(true);
  });

  test("compares with case unless told otherwise", () => {
    expect(stringMatches({ kind: "exact", value: "a" }, "A")).toBe(false);
    expect(stringMatches({ kind: "exact", value: "a", ignoreCase: true }, "A")).toBe(true);
    expect(stringMatches({ kind: "prefix", value: "Ab", ignoreCase: true }, "aBc")).toBe(true);
    expect(stringMatches({ kind: "suffix", value: "c" }, "abc")).toBe(true);
    expect(stringMatches({ kind: "contains", value: "b" }, "abc")).toBe(true);
  });

  test("an expression must take the whole value", () => {
    expect(stringMatches({ kind: "regex", value: "v[0-9]" }, "v1")).toBe(true);
    expect(stringMatches({ kind: "regex", value: "v[0-9]" }, "v12")).toBe(false);
    expect(stringMatches({ kind: "regex", value: "a|b" }, "ab")).toBe(false);
    expect(stringMatches({ kind: "regex", value: "a" }, "a\n")).toBe(false);
  });
});

describe("regular expressions", () => {
  test("say in a sentence why they cannot be used", () => {
    const problem = (source: string) => {
      const compiled = compileRegex(source);
      return compiled.ok ? "" : compiled.problem;
    };
    expect(problem("(")).toBe('"(" is no RE2 expression: error parsing regexp: missing closing ): `(`');
    expect(problem("(?=a)")).toContain("invalid or unsupported Perl syntax");
    expect(problem("a".repeat(5000))).toContain("at most 4096");
    expect(problem("(((a{30}){30})|b{900}){20}")).not.toBe("");
    expect(problem("a+")).toBe("");
  });

  test("take time linear in the text where back-tracking would explode", () => {
    const compiled = compileRegex("(a*)*(a*)*b");
    const start = performance.now();
    expect(compiled.ok && compiled.matches("a".repeat(20_000))).toBe(false);
    expect(performance.now() - start).toBeLessThan(1000);
  });
});

describe("a header change", () => {
  test("sets, then adds, then removes, names in any case", () => {
    const headers = [
      ["X-A", "1"],
      ["x-a", "2"],
      ["X-B", "3"],
    ] as const;
    const add = [{ name: "x-b", value: "4" }];
    expect(changeHeaders(headers, { set: [{ name: "x-a", value: "9" }], add, remove: [] })).toEqual([
      ["X-B", "3"],
      ["x-a", "9"],
      ["x-b", "4"],
    ]);
    expect(changeHeaders(headers, { set: [], add, remove: ["x-b"] })).toEqual([
      ["X-A", "1"],
      ["x-a", "2"],
    ]);
  });
});
