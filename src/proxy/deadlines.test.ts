import { expect, test } from "bun:test";
import fc from "fast-check";
import { FakeClock } from "../base/clock.ts";
import { Deadline, Deadlines } from "./deadlines.ts";

/** A deadline that calls a function. */
class Alarm extends Deadline {
  readonly #then: () => void;
  constructor(then: () => void) {
    super();
    this.#then = then;
  }
  expired(): void {
    this.#then();
  }
}

test("a deadline is called once, not early and at most a tick late", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 40_000 }), { maxLength: 50 }), (delays) => {
      const clock = new FakeClock();
      const wheel = new Deadlines(clock, 10);
      const began = clock.now();
      const called: number[] = delays.map(() => -1);
      delays.forEach((delay, index) => {
        wheel.arm(
          new Alarm(() => {
            expect(called[index]).toBe(-1);
            called[index] = clock.now() - began;
          }),
          delay,
        );
      });
      for (let step = 0; step < 4100; step++) clock.advance(10);
      delays.forEach((delay, index) => {
        expect(called[index]!).toBeGreaterThanOrEqual(delay);
        expect(called[index]!).toBeLessThanOrEqual(delay + 20);
      });
      expect(wheel.size).toBe(0);
    }),
    { numRuns: 20 },
  );
});

test("one that is disarmed is not called, and arming again moves it", () => {
  const clock = new FakeClock();
  const wheel = new Deadlines(clock);
  const called: string[] = [];
  const one = new Alarm(() => called.push("one"));
  const two = new Alarm(() => called.push("two"));
  wheel.arm(one, 100);
  wheel.arm(two, 100);
  wheel.disarm(one);
  wheel.arm(two, 500);
  clock.advance(300);
  expect(called).toEqual([]);
  clock.advance(300);
  expect(called).toEqual(["two"]);
});

test("a deadline may arm itself again and disarm its neighbours while it is called", () => {
  const clock = new FakeClock();
  const wheel = new Deadlines(clock);
  let rounds = 0;
  let neighbour = 0;
  const other = new Alarm(() => neighbour++);
  const again = new Alarm(() => {
    wheel.disarm(other);
    if (++rounds < 3) wheel.arm(again, 100);
  });
  wheel.arm(other, 100);
  wheel.arm(again, 100);
  clock.advance(1000);
  expect({ rounds, neighbour }).toEqual({ rounds: 3, neighbour: 0 });
});

test("an idle wheel keeps no timer", () => {
  const clock = new FakeClock();
  const wheel = new Deadlines(clock);
  const one = new Alarm(() => {});
  wheel.arm(one, 50);
  clock.advance(100);
  let afterwards = 0;
  wheel.afterwards = () => afterwards++;
  clock.advance(100_000);
  expect(afterwards).toBe(0);
});
