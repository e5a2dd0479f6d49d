// Passive and active health, and who takes the traffic after it.

import { expect, test } from "bun:test";
import fc from "fast-check";
import type { OutlierDetection as Config } from "../../model/upstream-policies.ts";
import { Breaker } from "./failure-accrual.ts";
import { HealthState } from "./health-state.ts";
import {
  OutlierDetection,
  type OutlierEvent,
  type OutlierHost,
  outlierHost,
  successThreshold,
} from "./outlier-detection.ts";
import { type Placed, trafficGroups } from "./priorities.ts";
import { slowStartFactor } from "./slow-start.ts";

const off: Config = {
  consecutive5xx: 0,
  consecutiveGatewayErrors: 0,
  interval: 10_000,
  baseEjection: 30_000,
  maxEjection: 300_000,
  maxEjectionPercent: 100,
  alwaysEjectOne: false,
};

function detection(config: Partial<Config>, count: number, random?: () => number) {
  const hosts = new Set(Array.from({ length: count }, outlierHost));
  const list = [...hosts];
  const log: string[] = [];
  const on = {
    ejected: (host: OutlierHost, cause: string) => void log.push(`${list.indexOf(host)} out: ${cause}`),
    returned: (host: OutlierHost) => void log.push(`${list.indexOf(host)} back`),
  };
  const detector = new OutlierDetection({ ...off, ...config }, () => hosts, on, random);
  const answers = (host: number, now: number, ...statuses: number[]) => {
    for (const status of statuses) detector.report(list[host]!, { kind: "answer", status }, now);
  };
  const fails = (host: number, now: number, ...kinds: ("connectFailure" | "timeout")[]) => {
    for (const kind of kinds) detector.report(list[host]!, { kind } as OutlierEvent, now);
  };
  return { detector, list, log, answers, fails };
}

test("five 5xx in a row eject, four and another answer do not", () => {
  const { answers, log } = detection({ consecutive5xx: 5 }, 10);
  answers(0, 0, 500, 500, 500, 500, 200, 500, 500, 500, 500);
  expect(log).toEqual([]);
  answers(0, 0, 503);
  expect(log).toEqual(["0 out: consecutive5xx"]);
});

test("gateway errors are 502, 503 and 504; a 500 between them begins anew", () => {
  const { answers, log } = detection({ consecutiveGatewayErrors: 3 }, 10);
  answers(0, 0, 502, 503, 500, 503, 504);
  expect(log).toEqual([]);
  answers(0, 0, 502);
  expect(log).toEqual(["0 out: consecutiveGatewayErrors"]);
});

test("failures to connect and timeouts count as 503 and 504, or on their own where they are split", () => {
  const together = detection({ consecutiveGatewayErrors: 2 }, 10);
  together.fails(0, 0, "connectFailure", "timeout");
  expect(together.log).toEqual(["0 out: consecutiveGatewayErrors"]);
  const split = detection({ consecutiveGatewayErrors: 2, consecutiveLocalFailures: 3 }, 10);
  split.fails(0, 0, "connectFailure", "timeout");
  expect(split.log).toEqual([]);
  split.fails(0, 0, "connectFailure");
  expect(split.log).toEqual(["0 out: consecutiveLocalFailures"]);
});

test("of fewer than ten hosts none is ejected at 10 %, unless one always may", () => {
  const few = detection({ consecutive5xx: 1, maxEjectionPercent: 10 }, 9);
  few.answers(0, 0, 500);
  expect([few.log, few.detector.overflows]).toEqual([[], 1]);
  const ten = detection({ consecutive5xx: 1, maxEjectionPercent: 10 }, 10);
  ten.answers(0, 0, 500);
  ten.answers(1, 0, 500);
  expect([ten.log, ten.detector.overflows]).toEqual([["0 out: consecutive5xx"], 1]);
  const one = detection({ consecutive5xx: 1, maxEjectionPercent: 10, alwaysEjectOne: true }, 3);
  one.answers(0, 0, 500);
  one.answers(1, 0, 500);
  expect(one.log).toEqual(["0 out: consecutive5xx"]);
});

test("an ejection lasts 30 s times the number of them, at most 300 s, and is forgotten one each well interval", () => {
  const { detector, list, answers, log } = detection({ consecutive5xx: 1 }, 2);
  answers(0, 0, 500);
  detector.interval(20_000);
  expect(log).toEqual(["0 out: consecutive5xx"]);
  detector.interval(30_000);
  expect(log.at(-1)).toBe("0 back");
  answers(0, 31_000, 500);
  expect(detector.ejectionTime(list[0]!)).toBe(60_000);
  detector.interval(90_000);
  expect(log.at(-1)).toBe("0 out: consecutive5xx");
  detector.interval(91_000);
  expect(log.at(-1)).toBe("0 back");
  list[0]!.ejections = 50;
  expect(detector.ejectionTime(list[0]!)).toBe(300_000);
  list[0]!.ejections = 2;
  detector.interval(101_000);
  detector.interval(111_000);
  detector.interval(121_000);
  expect(list[0]!.ejections).toBe(0);
});

test("jitter is drawn once for each ejection, and stands above the longest one too", () => {
  const draws = [0.5, 0.25];
  const config = { consecutive5xx: 1, baseEjection: 300_000, ejectionJitter: 2_000 };
  const { detector, list, answers, log } = detection(config, 1, () => draws.shift()!);
  answers(0, 0, 500);
  expect([detector.ejectionTime(list[0]!), detector.ejectionTime(list[0]!)]).toEqual([301_000, 301_000]);
  detector.interval(300_999);
  expect(log).toHaveLength(1);
  detector.interval(301_000);
  expect(log.at(-1)).toBe("0 back");
  answers(0, 302_000, 500);
  expect(detector.ejectionTime(list[0]!)).toBe(300_500);
});

test("local failures that are counted apart do not move the rates", () => {
  const rates = {
    successRate: { minimumHosts: 2, requestVolume: 10, deviationFactor: 0.5 },
    failurePercentage: { threshold: 10, minimumHosts: 2, requestVolume: 10 },
  };
  const local = new Array<"connectFailure">(50).fill("connectFailure");
  for (const consecutiveLocalFailures of [0, undefined]) {
    const { detector, list, answers, fails, log } = detection(
      { ...rates, ...(consecutiveLocalFailures === undefined ? {} : { consecutiveLocalFailures }) },
      3,
    );
    for (const host of [0, 1, 2]) answers(host, 0, ...new Array<number>(10).fill(200));
    fails(0, 0, ...local);
    expect(list[0]!.total).toBe(consecutiveLocalFailures === undefined ? 60 : 10);
    detector.interval(10_000);
    expect(log).toEqual(consecutiveLocalFailures === undefined ? ["0 out: successRate"] : []);
  }
});

test("never more than the share is out, whatever happens", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 12 }),
      fc.integer({ min: 0, max: 100 }),
      fc.array(fc.tuple(fc.nat(11), fc.constantFrom(200, 500, 503), fc.nat(40)), { maxLength: 200 }),
      (count, percent, events) => {
        const { detector, list } = detection({ consecutive5xx: 2, maxEjectionPercent: percent }, count);
        let now = 0;
        for (const [host, status, seconds] of events) {
          now += seconds * 1000;
          if (seconds > 30) detector.interval(now);
          detector.report(list[host % count]!, { kind: "answer", status }, now);
          const out = list.filter(({ ejected }) => ejected).length;
          expect((100 * out) / count).toBeLessThanOrEqual(percent);
        }
      },
    ),
  );
});

test("a success rate far below the others' ejects", () => {
  const { detector, answers, log } = detection(
    { successRate: { minimumHosts: 5, requestVolume: 10, deviationFactor: 1.9 } },
    6,
  );
  for (let host = 0; host < 6; host++) answers(host, 0, ...new Array<number>(20).fill(host === 3 ? 500 : 200));
  detector.interval(10_000);
  expect(log).toEqual(["3 out: successRate"]);
});

test("a failure percentage ejects where there were enough requests", () => {
  const config = { failurePercentage: { threshold: 50, minimumHosts: 2, requestVolume: 10 } };
  const { detector, answers, log } = detection(config, 3);
  answers(0, 0, ...new Array<number>(5).fill(500), ...new Array<number>(5).fill(200));
  answers(1, 0, ...new Array<number>(9).fill(500));
  answers(2, 0, ...new Array<number>(10).fill(200));
  detector.interval(10_000);
  expect(log).toEqual(["0 out: failurePercentage"]);
});

const good = (count: number) => new Array<number>(count).fill(200);
const bad = (count: number) => new Array<number>(count).fill(500);

test("the bound of success rates is the mean less so many deviations of the population", () => {
  expect(successThreshold([50, 100, 100, 100, 100], 1.9)).toBeCloseTo(52, 10);
  expect(successThreshold([100, 100], 1.9)).toBe(100);
});

test("by success rates exactly those are out that are below the bound, counted over those with enough requests", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(20), fc.nat(20)), { minLength: 1, maxLength: 10 }),
      fc.integer({ min: 1, max: 10 }),
      fc.integer({ min: 1, max: 30 }),
      fc.constantFrom(0.5, 1, 1.9, 3),
      (hosts, minimumHosts, requestVolume, deviationFactor) => {
        const successRate = { minimumHosts, requestVolume, deviationFactor };
        const { detector, list, answers } = detection({ successRate, maxEjectionPercent: 100 }, hosts.length);
        hosts.forEach(([ok, failed], host) => void answers(host, 0, ...good(ok), ...bad(failed)));
        detector.interval(10_000);
        const rates = hosts
          .filter(([ok, failed]) => ok + failed >= requestVolume)
          .map(([ok, no]) => (100 * ok) / (ok + no));
        const least = successThreshold(rates, deviationFactor);
        const out = hosts.map(
          ([ok, failed]) =>
            rates.length >= minimumHosts && ok + failed >= requestVolume && (100 * ok) / (ok + failed) < least,
        );
        expect(list.map(({ ejected }) => ejected)).toEqual(out);
      },
    ),
  );
});

test("who is out already does not move the mean, and rates begin anew each interval", () => {
  const successRate = { minimumHosts: 2, requestVolume: 10, deviationFactor: 0.5 };
  const { detector, list, answers, log } = detection({ successRate, consecutive5xx: 20, maxEjectionPercent: 100 }, 3);
  answers(0, 0, ...bad(20));
  // 90 and 100 per cent: a mean of 95 and a bound of 92.5; with the one that is out it would be below 90.
  answers(1, 0, ...bad(1), ...good(9));
  answers(2, 0, ...good(10));
  detector.interval(10_000);
  expect(log).toEqual(["0 out: consecutive5xx", "1 out: successRate"]);
  expect(list.map(({ total }) => total)).toEqual([0, 0, 0]);
  detector.interval(20_000);
  expect(log).toHaveLength(2);
});

test("the number of ejections does not grow beyond what makes pauses longer, so that it is lived down again", () => {
  const { detector, list, answers } = detection({ consecutive5xx: 1, baseEjection: 100_000, maxEjection: 300_000 }, 1);
  for (let round = 0, now = 0; round < 10; round++, now += 300_000) {
    answers(0, now, 500);
    detector.interval(now + 299_999 + 1);
  }
  expect(list[0]!.ejections).toBe(4);
  for (let index = 1; index <= 4; index++) detector.interval(10_000_000 + index);
  expect(list[0]!.ejections).toBe(0);
});

const accrual = { maxFailures: 3, minPenalty: 1000, maxPenalty: 4000, jitterRatio: 0 };

test("a breaker shuts after failures in a row, lets one request probe, and doubles its pause", () => {
  const breaker = new Breaker(accrual);
  const fail = (now: number) => breaker.failed(now);
  expect([fail(0), fail(0), breaker.admits(0), fail(0), breaker.admits(0)]).toEqual([false, false, true, true, false]);
  expect([breaker.admits(999), breaker.admits(1000)]).toEqual([false, true]);
  breaker.taken();
  expect(breaker.admits(1000)).toBe(false);
  expect(fail(1000)).toBe(true);
  expect([breaker.admits(2999), breaker.admits(3000)]).toEqual([false, true]);
  breaker.taken();
  breaker.succeeded(3000);
  expect(breaker.admits(3000)).toBe(true);
  expect([fail(0), fail(0), fail(0), breaker.shutUntil]).toEqual([false, false, true, 1000]);
});

test("a breaker also shuts at a low success rate over its window, of enough answers, and forgets it then", () => {
  const successRate = { percent: 80, window: 10_000, minimumRequests: 5 };
  const make = () => new Breaker({ ...accrual, maxFailures: 100, successRate });
  const answers = (breaker: Breaker, now: number, text: string) =>
    [...text].map((one) => (one === "+" ? breaker.succeeded(now) : breaker.failed(now)) === true).lastIndexOf(true);
  // Four of five are 80 per cent, three of four are below, but too few.
  expect([answers(make(), 0, "+++-"), answers(make(), 0, "++++-"), answers(make(), 0, "+++--")]).toEqual([-1, -1, 4]);
  // What is older than the window does not count.
  const breaker = make();
  expect([answers(breaker, 0, "----"), answers(breaker, 11_000, "++++-")]).toEqual([-1, -1]);
  expect(answers(breaker, 12_000, "-")).toBe(0);
  expect([breaker.admits(12_999), breaker.admits(13_000)]).toEqual([false, true]);
  breaker.taken();
  breaker.succeeded(13_000);
  expect([answers(breaker, 13_000, "---"), answers(breaker, 13_000, "-")]).toEqual([-1, 0]);
});

test("a probe that nobody waited for is made again, and late failures of older requests say nothing", () => {
  const breaker = new Breaker({ ...accrual, maxFailures: 1 });
  breaker.failed(0);
  expect(breaker.failed(10)).toBe(false);
  breaker.taken();
  breaker.abandoned();
  expect(breaker.admits(1000)).toBe(true);
});

test("active health changes after so many results in a row; the first counts at once", () => {
  const fresh = new HealthState(3, 2);
  expect([fresh.result(false), fresh.healthy]).toEqual([true, false]);
  const known = new HealthState(3, 2);
  known.result(true);
  expect([known.result(false), known.result(false), known.result(true), known.healthy]).toEqual([
    false,
    false,
    false,
    true,
  ]);
  known.result(false);
  known.result(false);
  expect([known.result(false), known.healthy]).toEqual([true, false]);
  expect([known.result(true), known.result(true), known.healthy]).toEqual([false, true, true]);
});

test("slow start begins at its minimum and ends at 1", () => {
  const window = 60_000;
  expect(slowStartFactor({ window }, 0)).toBe(0.1);
  expect(slowStartFactor({ window }, 30_000)).toBe(0.5);
  expect(slowStartFactor({ window, aggression: 2 }, 15_000)).toBe(0.5);
  expect(slowStartFactor({ window }, 60_000)).toBe(1);
});

const level = (priority: number, healthy: number, all: number): Placed[] =>
  Array.from({ length: all }, (_, index) => ({ priority, zone: undefined, healthy: index < healthy }));
const shares = (endpoints: readonly Placed[], options = {}) =>
  trafficGroups(endpoints, options).map(({ share }) => Math.round(share * 100));

test.each([
  [72, [100]],
  [71, [99, 1]],
  [50, [70, 30]],
  [25, [35, 65]],
  [0, [100]],
])("at %d %% health of the first priority the levels take %o", (healthy, expected) => {
  expect(shares([...level(0, healthy, 100), ...level(1, 100, 100)])).toEqual(expected as number[]);
});

test("two weak levels share everything by their health", () => {
  expect(shares([...level(0, 20, 100), ...level(1, 20, 100)])).toEqual([50, 50]);
});

test("nobody healthy: nobody, or everybody in panic", () => {
  expect(trafficGroups(level(0, 0, 4))).toEqual([]);
  expect(trafficGroups(level(0, 0, 4), { panic: 50 })).toEqual([{ members: [0, 1, 2, 3], share: 1 }]);
  expect(trafficGroups(level(0, 1, 4), { panic: 50 })[0]!.members).toHaveLength(4);
  expect(trafficGroups(level(0, 2, 4), { panic: 50 })[0]!.members).toHaveLength(2);
});

test("the own zone takes everything when it has its share, else as much as it can", () => {
  const zones = (...names: string[]): Placed[] => names.map((zone) => ({ priority: 0, zone, healthy: true }));
  const even = zones("a", "a", "a", "b", "b", "b");
  expect(trafficGroups(even, { zone: "a" })).toEqual([{ members: [0, 1, 2], share: 1 }]);
  const weak = trafficGroups(zones("a", "b", "b", "b", "b", "b"), { zone: "a" });
  expect(weak.map(({ members }) => members.length)).toEqual([1, 5]);
  expect(weak[0]!.share).toBeCloseTo(1 / 3);
  expect(trafficGroups(even, { zone: "c" })).toHaveLength(1);
  expect(trafficGroups(even.slice(0, 5), { zone: "a" })).toHaveLength(1);
});

test("shares always make one, and every member is healthy when there is no panic", () => {
  const place = fc.record({
    priority: fc.nat(3),
    zone: fc.constantFrom("a", "b", undefined),
    healthy: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(place, { minLength: 1, maxLength: 30 }), (endpoints) => {
      const groups = trafficGroups(endpoints, { zone: "a" });
      if (endpoints.every(({ healthy }) => !healthy)) expect(groups).toEqual([]);
      else expect(groups.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1);
      for (const { members } of groups) {
        expect(members.length).toBeGreaterThan(0);
        for (const member of members) expect(endpoints[member]!.healthy).toBe(true);
      }
    }),
  );
});
