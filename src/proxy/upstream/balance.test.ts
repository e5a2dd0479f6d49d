import { expect, test } from "bun:test";
import fc from "fast-check";
import { balance } from "./balance.ts";
import { WeightedChoice } from "./choice.ts";
import { PeakEwma } from "./peak-ewma.ts";

function counts(next: (now: number, hash: number | undefined) => number, things: number, times: number): number[] {
  const seen = new Array<number>(things).fill(0);
  for (let time = 0; time < times; time++) seen[next(0, undefined)]!++;
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

const endpoint = (weight: number, active = 0, load = 1) => ({
  key: `${weight} ${active} ${load}`,
  weight,
  active,
  load: () => load,
});
const candidates = (...weights: number[]) => weights.map((weight) => endpoint(weight));

test("round robin takes turns, by weight where weights differ", () => {
  expect(counts(balance({ kind: "roundRobin" }, candidates(1, 1, 1)), 3, 300)).toEqual([100, 100, 100]);
  const [one, three] = counts(balance({ kind: "roundRobin" }, candidates(1, 3)), 2, 400);
  expect(Math.abs(one! - 100)).toBeLessThan(6);
  expect(one! + three!).toBe(400);
});

const draws = 200_000;

/** Numbers in [0, 1), the same in each run (mulberry32): what is within 3 sigma once stays there. */
function seeded(seed = 1): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** How often each of the endpoints is taken is its probability within 3 standard deviations. */
function expectShares(pick: ReturnType<typeof balance>, shares: readonly number[]): void {
  counts(pick, shares.length, draws).forEach((count, index) => {
    const share = shares[index]!;
    expect(Math.abs(count - share * draws)).toBeLessThanOrEqual(3 * Math.sqrt(draws * share * (1 - share)));
  });
}

test("random follows the weights within 3 sigma", () => {
  expectShares(balance({ kind: "random" }, candidates(1, 3), seeded()), [1 / 4, 3 / 4]);
  expectShares(balance({ kind: "random" }, candidates(2, 1, 3, 4), seeded()), [0.2, 0.1, 0.3, 0.4]);
});

test("what has nothing to hash goes anywhere by weight, within 3 sigma", () => {
  for (const kind of ["ringHash", "maglev"] as const)
    expectShares(balance({ kind }, candidates(1, 2, 5), seeded()), [1 / 8, 2 / 8, 5 / 8]);
});

test("least request takes the least busy of those drawn, within 3 sigma", () => {
  // Both draws hit the busiest in 1 of 9; the least busy one is taken unless both miss it.
  const three = [endpoint(1, 5), endpoint(1, 1), endpoint(1, 3)];
  expectShares(balance({ kind: "leastRequest" }, three, seeded()), [1 / 9, 5 / 9, 3 / 9]);
  expectShares(balance({ kind: "leastRequest", choices: 3 }, three, seeded()), [1 / 27, 19 / 27, 7 / 27]);
});

test("least request avoids the busy one", () => {
  const pick = balance({ kind: "leastRequest" }, [endpoint(1, 100), endpoint(1, 0)]);
  const [busy] = counts(pick, 2, 1000);
  // It is taken only when both draws hit it.
  expect(busy).toBeLessThan(350);
});

test("least request with unequal weights follows weight / (active + 1)", () => {
  const pick = balance({ kind: "leastRequest" }, [endpoint(3, 2), endpoint(1, 0), endpoint(2, 0)], seeded());
  expectShares(pick, [1 / 4, 1 / 4, 2 / 4]);
});

test("peak EWMA takes the cheaper of two, so that the dearest of two is never taken", () => {
  const pick = balance({ kind: "peakEwma" }, [endpoint(1, 0, 100), endpoint(1, 0, 5)]);
  expect(counts(pick, 2, 100)).toEqual([0, 100]);
});

test("an average jumps to a peak at once, comes down with time, and grows with what is under way", () => {
  const cost = new PeakEwma(0, 10_000, 30);
  expect(cost.load(0, 0)).toBe(30);
  cost.observe(200, 0);
  expect(cost.load(0, 0)).toBe(200);
  expect(cost.load(1, 0)).toBe(400);
  cost.observe(10, 10_000);
  expect(cost.load(0, 10_000)).toBeCloseTo(200 / Math.E + 10 * (1 - 1 / Math.E));
  expect(cost.load(0, 60_000)).toBeLessThan(1);
});

test.each(["ringHash", "maglev"] as const)(
  "%s keeps a hash with its endpoint, and without one goes anywhere",
  (kind) => {
    const pick = balance(
      { kind },
      [1, 2, 3, 4].map((weight) => endpoint(weight)),
    );
    for (let hash = 1; hash < 2 ** 31; hash *= 3) expect(pick(0, hash)).toBe(pick(0, hash));
    expect(counts(pick, 4, 1000).every((count) => count > 0)).toBe(true);
  },
);
