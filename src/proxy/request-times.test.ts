import { expect, test } from "bun:test";
import { RequestTimes } from "./request-times.ts";

test("the most final of what is due counts", () => {
  const times = new RequestTimes(50, 0);
  times.request = 100;
  times.try = 100;
  times.again = 90;
  expect([times.due(80, 20), times.due(95, 20), times.due(100, 20)]).toEqual([undefined, "again", "request_timeout"]);
  times.request = Number.POSITIVE_INFINITY;
  expect([times.due(100, 20), times.due(100, 50)]).toEqual(["try_timeout", "upstream_idle"]);
});

test("silence is counted from what moved last, and the next look is at the first that can be due", () => {
  const times = new RequestTimes(50, 0);
  expect(times.left(1_000, 10)).toBe(40);
  times.moved(30);
  expect([times.left(1_000, 60), times.due(1_000, 79), times.due(1_000, 80)]).toEqual([20, undefined, "upstream_idle"]);
  times.try = 1_005;
  expect([times.left(1_000, 60), times.left(2_000, 60)]).toEqual([5, 0]);
});

test("without times nothing is ever due", () => {
  const times = new RequestTimes(0, 0);
  expect([times.left(0, 0), times.due(1e12, 1e12)]).toEqual([Number.POSITIVE_INFINITY, undefined]);
});
