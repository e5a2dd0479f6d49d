import { describe, expect, test } from "bun:test";
import { ConfigMaps, Pods, Secrets } from "./kinds.ts";
import { builtinScheme } from "./scheme.ts";
import { formatLabelSelector, matchesLabelSelector, parseFieldSelector, parseLabelSelector } from "./selectors.ts";

const matches = (text: string, labels: Record<string, string>) => parseLabelSelector(text).matches(labels);

describe("label selectors", () => {
  test("read equality, sets and existence", () => {
    expect(matches("app=a,tier in (web, db),!old", { app: "a", tier: "db" })).toBe(true);
    expect(matches("app=a,tier in (web, db),!old", { app: "a", tier: "db", old: "" })).toBe(false);
    expect(matches("tier notin (web)", {})).toBe(true);
    expect(matches("app!=a", { app: "b" })).toBe(true);
    expect(matches("app", { app: "" })).toBe(true);
    expect(matches("n>3", { n: "4" })).toBe(true);
    expect(matches("", { a: "b" })).toBe(true);
  });

  test("refuse what is none in the words of the API server", () => {
    expect(() => parseLabelSelector("n in (1")).toThrow("unable to parse requirement: found '', expected: ',' or ')'");
    expect(() => parseLabelSelector("a=b=c")).toThrow("expected: ',' or 'end of string'");
    expect(() => parseLabelSelector("-x=1")).toThrow("name part must consist of");
  });

  test("an absent selector object takes nothing, an empty one all", () => {
    expect(matchesLabelSelector(undefined, { a: "b" })).toBe(false);
    expect(matchesLabelSelector({}, { a: "b" })).toBe(true);
    expect(matchesLabelSelector({ matchExpressions: [{ key: "a", operator: "NotIn", values: ["b"] }] }, {})).toBe(true);
  });

  test("print as kubectl shows them", () => {
    expect(
      formatLabelSelector({
        matchLabels: { b: "1" },
        matchExpressions: [{ key: "a", operator: "In", values: ["y", "x"] }],
      }),
    ).toBe("a in (x,y),b=1");
    expect(formatLabelSelector({})).toBe("<none>");
  });
});

describe("field selectors", () => {
  const scheme = builtinScheme();
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "p" },
    spec: { nodeName: "n1" },
    status: { phase: "Running" },
  };

  test("compare the fields that a kind offers", () => {
    expect(parseFieldSelector(scheme, Pods, "spec.nodeName=n1,status.phase!=Failed").matches(pod)).toBe(true);
    expect(parseFieldSelector(scheme, Pods, "metadata.name==q").matches(pod)).toBe(false);
  });

  test("refuse others", () => {
    expect(() => parseFieldSelector(scheme, Secrets, "data.k=x")).toThrow("field label not supported: data.k");
    expect(() => parseFieldSelector(scheme, ConfigMaps, "data.k=x")).toThrow(
      '"data.k" is not a known field selector: only "metadata.name", "metadata.namespace"',
    );
  });
});
