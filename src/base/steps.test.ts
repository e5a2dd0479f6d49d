import { expect, test } from "bun:test";
import { atOnce, inSlices, type Steps } from "./steps.ts";

function* count(to: number, seen: (at: number) => void): Steps<number> {
  for (let at = 0; at < to; at++) {
    seen(at);
    yield;
  }
  return to;
}

test("work in steps gives the same at once and in slices", async () => {
  expect(atOnce(count(1000, () => {}))).toBe(1000);
  expect(await inSlices(count(1000, () => {}))).toBe(1000);
});

test("between slices others have their turn", async () => {
  let turns = 0;
  let going = true;
  const others = () => {
    turns++;
    if (going) setImmediate(others);
  };
  setImmediate(others);
  await inSlices(
    count(8, () => {
      const end = performance.now() + 1;
      while (performance.now() < end);
    }),
  );
  going = false;
  expect(turns).toBeGreaterThanOrEqual(3);
});

test("work that is not wanted any more stops at its next slice", async () => {
  const ending = new AbortController();
  let last = 0;
  const forEver = inSlices(
    count(Number.MAX_SAFE_INTEGER, (at) => {
      last = at;
      if (at === 10) ending.abort(new Error("enough"));
    }),
    ending.signal,
  );
  expect(forEver).rejects.toThrow("enough");
  await forEver.catch(() => {});
  expect(last).toBeGreaterThanOrEqual(10);
});

test("what the work throws is thrown", async () => {
  const steps = () =>
    count(3, (at) => {
      if (at === 1) throw new Error("no");
    });
  expect(() => atOnce(steps())).toThrow("no");
  expect(inSlices(steps())).rejects.toThrow("no");
});
