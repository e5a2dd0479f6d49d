// What is refused, and when no more.

import { expect, test } from "bun:test";
import { FakeClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { Overload } from "./overload.ts";

function overload(limits: { requests?: number; memory?: number }) {
  const clock = new FakeClock();
  const connections = { most: -1 };
  const memory = { now: 0, collections: 0 };
  const one = new Overload(
    { connections: 100, requests: 3, memory: 1_000, ...limits },
    connections,
    clock,
    silentLogger,
    { resident: () => memory.now, collect: () => memory.collections++ },
  );
  return { one, connections, memory, clock };
}

test("requests beyond the most at a time are refused, and others when one has ended", () => {
  const { one } = overload({});
  expect([one.enter(), one.enter(), one.enter(), one.enter()]).toEqual([true, true, true, false]);
  one.leave();
  expect(one.enter()).toBe(true);
  expect(one).toMatchObject({ active: 3, refused: 1 });
});

test("above the memory bound connections and requests are refused until nine tenths of it are left", () => {
  const { one, connections, memory, clock } = overload({});
  const at = (bytes: number) => {
    memory.now = bytes;
    clock.advance(250);
    return [one.short, connections.most];
  };
  expect(at(999)).toEqual([false, 100]);
  expect(at(1_000)).toEqual([true, 0]);
  expect(one.enter()).toBe(false);
  expect(at(950)).toEqual([true, 0]);
  expect(at(899)).toEqual([false, 100]);
  expect(one.enter()).toBe(true);
});

test("garbage is collected when memory is short, and not all the time", () => {
  const { memory, clock } = overload({});
  memory.now = 2_000;
  clock.advance(4_000);
  expect(memory.collections).toBe(1);
  clock.advance(2_000);
  expect(memory.collections).toBe(2);
});

test("without a bound memory is not looked at", () => {
  const { one, memory, clock } = overload({ memory: 0 });
  memory.now = Number.MAX_SAFE_INTEGER;
  clock.advance(1_000);
  expect(one.short).toBe(false);
});
