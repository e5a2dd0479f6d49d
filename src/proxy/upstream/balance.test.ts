import { expect, test } from "bun:test";
import fc from "fast-check";
import { balance } from "./balance.ts";
import { WeightedChoice } from "./choice.ts";

function counts(next: () => number, things: number, times: number): number[] {
  const seen = new Array<number>(things).fill(0);
  for (let time = 0; time < times; time++) seen[next()]!++;
  return seen;
}

test("a weighted choice is close to its weights after any number of choices, from any start", () => {
  fc.assert(
    fc.property(
      fc
        .array(fc.integer({ min: 0, max: 100 }), { minLength: 1, maxLength: 6 })
        .filter((weights) => weights.some((w) => w > 0)),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      fc.integer({ min: 1, max: 1000 }),
      (weights, start, times) => {
        const choice = new WeightedChoice(weights, () => start);
        const seen = counts(() => choice.next(), weights.length, times);
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        weights.forEach((weight, index) => {
          if (weight === 0) expect(seen[index]).toBe(0);
          else expect(Math.abs(seen[index]! - (weight / total) * times)).toBeLessThan(6);
        });
      },
    ),
  );
});

test("of 10 requests at 90/10 nearly always one goes to the tenth", () => {
  for (let start = 0; start < 1; start += 0.05) {
    const choice = new WeightedChoice([90, 10], () => start);
    const [, few] = counts(() => choice.next(), 2, 10);
    expect(few).toBeLessThanOrEqual(2);
  }
});

const candidates = (...weights: number[]) => weights.map((weight) => ({ weight, active: 0 }));

test("round robin takes turns, by weight where weights differ", () => {
  expect(counts(balance("roundRobin", candidates(1, 1, 1)), 3, 300)).toEqual([100, 100, 100]);
  const [one, three] = counts(balance("roundRobin", candidates(1, 3)), 2, 400);
  expect(Math.abs(one! - 100)).toBeLessThan(6);
  expect(one! + three!).toBe(400);
});

test("random follows the weights within 3 sigma", () => {
  const [one] = counts(balance("random", candidates(1, 3)), 2, 10_000);
  expect(Math.abs(one! - 2500)).toBeLessThan(3 * Math.sqrt(10_000 * 0.25 * 0.75) + 50);
});

test("least request avoids the busy one", () => {
  const pick = balance("leastRequest", [
    { weight: 1, active: 100 },
    { weight: 1, active: 0 },
  ]);
  const [busy] = counts(pick, 2, 1000);
  // It is taken only when both draws hit it.
  expect(busy).toBeLessThan(350);
});
