import { expect, test } from "bun:test";
import fc from "fast-check";
import { FakeClock } from "../../base/clock.ts";
import { BucketSets, TokenBuckets } from "./token-bucket.ts";

const shape = fc.record({
  requests: fc.integer({ min: 1, max: 50 }),
  per: fc.constantFrom(100, 1000, 60_000),
  burst: fc.integer({ min: 1, max: 100 }),
});

test("in any time no more pass than the burst and what flowed in", () => {
  fc.assert(
    fc.property(shape, fc.array(fc.integer({ min: 0, max: 500 }), { maxLength: 200 }), (limit, pauses) => {
      const clock = new FakeClock();
      const buckets = new TokenBuckets(limit);
      const passed: number[] = [];
      for (const pause of pauses) {
        clock.advance(pause);
        if (buckets.take("a", clock.now()).allowed) passed.push(clock.now());
      }
      passed.forEach((from, first) => {
        for (let last = first; last < passed.length; last++) {
          const most = limit.burst + ((passed[last]! - from) * limit.requests) / limit.per;
          expect(last - first + 1).toBeLessThanOrEqual(most + 1e-6);
        }
      });
    }),
  );
});

test("who waits as long as it is told gets its token, and not a millisecond earlier", () => {
  fc.assert(
    fc.property(shape, (limit) => {
      const clock = new FakeClock();
      const buckets = new TokenBuckets(limit);
      let taken = buckets.take("a", clock.now());
      for (let count = 1; count <= limit.burst; count++) {
        expect(taken.allowed).toBeTrue();
        expect(taken.left).toBe(limit.burst - count);
        taken = buckets.take("a", clock.now());
      }
      expect(taken.allowed).toBeFalse();
      const wait = Math.ceil(taken.wait);
      if (wait > 1) {
        clock.advance(wait - 1);
        expect(buckets.take("a", clock.now()).allowed).toBeFalse();
        clock.advance(1);
      } else clock.advance(wait);
      // Refused requests take nothing.
      expect(buckets.take("a", clock.now()).allowed).toBeTrue();
    }),
  );
});

test("keys do not touch each other, and the one that was asked longest ago is forgotten first", () => {
  const buckets = new TokenBuckets({ requests: 1, per: 60_000, burst: 1 }, 2);
  expect(buckets.take("a", 0).allowed).toBeTrue();
  expect(buckets.take("b", 0).allowed).toBeTrue();
  expect(buckets.take("a", 0).allowed).toBeFalse();
  expect(buckets.take("c", 0).allowed).toBeTrue();
  expect(buckets.size).toBe(2);
  expect(buckets.take("a", 0).allowed).toBeFalse();
  expect(buckets.take("b", 0).allowed).toBeTrue();
});

test("a clock that goes back fills nothing", () => {
  const buckets = new TokenBuckets({ requests: 1, per: 1000, burst: 1 });
  expect(buckets.take("a", 10_000).allowed).toBeTrue();
  expect(buckets.take("a", 0).allowed).toBeFalse();
  expect(buckets.take("a", 999).allowed).toBeFalse();
  expect(buckets.take("a", 1000).allowed).toBeTrue();
});

test("rules that name the same limit count together", () => {
  const sets = new BucketSets();
  const limit = { requests: 1, per: 1000, burst: 1 };
  const one = sets.get("logins", limit, false, 0);
  expect(sets.get("logins", { ...limit }, false, 0)).toBe(one);
  expect(sets.get("logins", { ...limit, burst: 2 }, false, 0)).not.toBe(one);
  expect(sets.get("others", limit, false, 0)).not.toBe(one);
});
