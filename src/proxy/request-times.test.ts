import { expect, test } from "bun:test";
import { FakeClock } from "../base/clock.ts";
import { Deadlines } from "./deadlines.ts";
import { RequestTimes } from "./request-times.ts";

const timesOf = (idle: number, active: number) =>
  new RequestTimes({ timedOut() {}, tryAgain() {} }, new Deadlines(new FakeClock()), idle, active);

test("the most final of what is due counts", () => {
  const times = timesOf(50, 0);
  times.request = 100;
  times.try = 100;
  times.again = 90;
  expect([times.whatIsDue(80, 20), times.whatIsDue(95, 20), times.whatIsDue(100, 20)]).toEqual([
    undefined,
    "again",
    "request_timeout",
  ]);
  times.response = 100;
  expect([times.whatIsDue(100, 20), times.left(90, 60)]).toEqual(["request_timeout", 0]);
  times.request = Number.POSITIVE_INFINITY;
  expect(times.whatIsDue(100, 20)).toBe("response_timeout");
  times.response = Number.POSITIVE_INFINITY;
  times.stream = 100;
  expect(times.whatIsDue(100, 20)).toBe("stream_timeout");
  times.stream = Number.POSITIVE_INFINITY;
  expect([times.whatIsDue(100, 20), times.whatIsDue(100, 50)]).toEqual(["try_timeout", "upstream_idle"]);
});

test("silence is counted from what moved last, and the next look is at the first that can be due", () => {
  const times = timesOf(50, 0);
  expect(times.left(1_000, 10)).toBe(40);
  times.moved(30);
  expect([times.left(1_000, 60), times.whatIsDue(1_000, 79), times.whatIsDue(1_000, 80)]).toEqual([
    20,
    undefined,
    "upstream_idle",
  ]);
  times.try = 1_005;
  expect([times.left(1_000, 60), times.left(2_000, 60)]).toEqual([5, 0]);
});

test("without times nothing is ever due", () => {
  const times = timesOf(0, 0);
  expect([times.left(0, 0), times.whatIsDue(1e12, 1e12)]).toEqual([Number.POSITIVE_INFINITY, undefined]);
});

test("all times share one place in the wheel: a pause is over once, and what comes later is still looked at", () => {
  const clock = new FakeClock();
  const deadlines = new Deadlines(clock);
  const told: string[] = [];
  const owner = { timedOut: (reason: string) => told.push(reason), tryAgain: () => told.push("again") };
  const times = new RequestTimes(owner, deadlines, 0, 0);
  times.endAt("request", clock.now() + 500);
  times.endAt("again", clock.now() + 100);
  expect(deadlines.size).toBe(1);
  clock.advance(200);
  expect([told, deadlines.size]).toEqual([["again"], 1]);
  clock.advance(400);
  expect([told, deadlines.size]).toEqual([["again", "request_timeout"], 0]);
});

test("times of a request that is over are not in the wheel", () => {
  const clock = new FakeClock();
  const deadlines = new Deadlines(clock);
  const times = new RequestTimes({ timedOut() {}, tryAgain() {} }, deadlines, 0, 0);
  times.endAt("try", clock.now() + 500);
  times.disarm();
  expect(deadlines.size).toBe(0);
});
