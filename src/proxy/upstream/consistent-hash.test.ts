import { expect, test } from "bun:test";
import fc from "fast-check";
import { hashOf, maglev, onRing, ring } from "./consistent-hash.ts";

const endpoints = (count: number) =>
  Array.from({ length: count }, (_, index) => ({ key: `10.0.${index >> 8}.${index & 255}:8080`, weight: 1 }));
const keys = Array.from({ length: 5000 }, (_, index) => hashOf(`user-${index}`));

/** For each key, the endpoint by its name. */
const tables = {
  "ring hash": (list: ReturnType<typeof endpoints>) => {
    const made = ring(list);
    return keys.map((key) => list[onRing(made, key)]!.key);
  },
  maglev: (list: ReturnType<typeof endpoints>) => {
    const table = maglev(list, 5003);
    return keys.map((key) => list[table[key % table.length]!]!.key);
  },
};

test.each(Object.entries(tables))("%s: when one of n endpoints leaves, at most 2/n of the keys move", (_, lookUp) => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 20 }), fc.nat(), (count, gone) => {
      const all = endpoints(count);
      const leaving = all[gone % count]!;
      const before = lookUp(all);
      const after = lookUp(all.filter((one) => one !== leaving));
      const moved = before.filter((key, index) => key !== after[index] && key !== leaving.key).length;
      expect(moved / keys.length).toBeLessThanOrEqual(2 / count);
      expect(before.filter((key) => key === leaving.key).length / keys.length).toBeLessThanOrEqual(2 / count);
    }),
    { numRuns: 30 },
  );
});

test("maglev's table is even to a few per cent, and follows weights", () => {
  const table = maglev(
    endpoints(10).map((one, index) => ({ ...one, weight: index === 0 ? 3 : 1 })),
    65_537,
  );
  const seats = new Array<number>(10).fill(0);
  for (const owner of table) seats[owner]!++;
  const unit = table.length / 12;
  seats.forEach((count, index) => {
    expect(Math.abs(count / unit - (index === 0 ? 3 : 1))).toBeLessThan(0.05);
  });
});

test("a ring has places by weight, within its bounds", () => {
  const list = endpoints(4).map((one, index) => ({ ...one, weight: index + 1 }));
  const { owners } = ring(list);
  expect(owners.length).toBeGreaterThanOrEqual(1024);
  const counts = new Array<number>(4).fill(0);
  for (const owner of owners) counts[owner]!++;
  counts.forEach((count, index) => {
    expect(Math.abs(count / owners.length - (index + 1) / 10)).toBeLessThan(0.01);
  });
  expect(ring(list, 1024, 100).owners.length).toBe(100);
});

test("a hash behind the last place goes to the first", () => {
  const made = { places: Uint32Array.of(10, 20), owners: Uint32Array.of(0, 1) };
  expect([0, 10, 11, 20, 21].map((hash) => onRing(made, hash))).toEqual([0, 0, 1, 1, 0]);
});
