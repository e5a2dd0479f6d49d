import { expect, test } from "bun:test";
import { EndpointChoice } from "./endpoint-choice.ts";
import { EndpointHealth } from "./endpoint-health.ts";

const endpoint = (key: string, more: { weight?: number; priority?: number; zone?: string; out?: boolean } = {}) => {
  const health = new EndpointHealth(0);
  health.outlier.ejected = more.out ?? false;
  return {
    key,
    weight: more.weight ?? 1,
    priority: more.priority ?? 0,
    zone: more.zone,
    active: 0,
    health,
    load: () => 0,
  };
};
const roundRobin = { balance: { kind: "roundRobin" } } as const;

function seen(choice: EndpointChoice<ReturnType<typeof endpoint>>, times: number, now = 0) {
  const counts: Record<string, number> = {};
  for (let time = 0; time < times; time++) {
    const key = choice.next(now, undefined, [])?.key ?? "nobody";
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return counts;
}

test("endpoints of weight 0 and ejected ones take nothing; when nobody is left, nobody does", () => {
  const all = [endpoint("a"), endpoint("b", { weight: 0 }), endpoint("c", { out: true })];
  expect(seen(new EndpointChoice(all, roundRobin, undefined, 0), 10)).toEqual({ a: 10 });
  expect(seen(new EndpointChoice(all.slice(1), roundRobin, undefined, 0), 1)).toEqual({ nobody: 1 });
});

test("without some priorities the others take everything, as far as they are healthy", () => {
  const all = [endpoint("a"), endpoint("b", { priority: 1 }), endpoint("c", { priority: 2, out: true })];
  const choice = new EndpointChoice(all, roundRobin, undefined, 0);
  expect(seen(choice, 10)).toEqual({ a: 10 });
  expect(seen(choice.beside([0]), 10)).toEqual({ b: 10 });
  expect(choice.beside([1, 0])).toBe(choice.beside([0, 1]));
  expect(choice.beside([0, 1]).size).toBe(0);
});

test("in panic the ejected ones take their part again", () => {
  const all = [endpoint("a"), endpoint("b", { out: true }), endpoint("c", { out: true })];
  const choice = new EndpointChoice(all, { ...roundRobin, panicPercent: 50 }, undefined, 0);
  expect(seen(choice, 30)).toEqual({ a: 10, b: 10, c: 10 });
});

test("the second priority takes what the first has no room for", () => {
  const all = [endpoint("a"), endpoint("b", { out: true }), endpoint("c", { priority: 1 })];
  const counts = seen(new EndpointChoice(all, roundRobin, undefined, 0), 1000);
  expect(Math.abs(counts["a"]! - 700)).toBeLessThan(10);
});

test("the own zone is preferred when that is asked for", () => {
  const all = [..."abc"].flatMap((name) => [
    endpoint(`${name}1`, { zone: "one" }),
    endpoint(`${name}2`, { zone: "two" }),
  ]);
  const config = { ...roundRobin, locality: { zonePreference: {} } };
  expect(Object.keys(seen(new EndpointChoice(all, config, "one", 0), 100)).sort()).toEqual(["a1", "b1", "c1"]);
  expect(Object.keys(seen(new EndpointChoice(all, config, undefined, 0), 100))).toHaveLength(6);
});

test("a warming endpoint takes its part of a share", () => {
  const config = { balance: { kind: "roundRobin", slowStart: { window: 10_000 } } } as const;
  const [old, fresh] = [endpoint("old"), endpoint("fresh")];
  fresh.health.since = 10_000;
  const counts = seen(new EndpointChoice([old, fresh], config, undefined, 15_000), 900, 15_000);
  expect(Math.abs(counts["fresh"]! - 300)).toBeLessThan(10);
});

test("those that were tried are passed over as long as there are others", () => {
  const [a, b, c] = [endpoint("a"), endpoint("b"), endpoint("c")];
  const choice = new EndpointChoice([a, b, c], roundRobin, undefined, 0);
  for (let time = 0; time < 20; time++) expect(choice.next(0, undefined, [a, b])).toBe(c);
  expect(choice.next(0, undefined, [a, b, c])).toBeDefined();
});
