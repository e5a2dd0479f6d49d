import { expect, test } from "bun:test";
import type { Warm } from "../../model/upstream-policies.ts";
import { type WarmedPool, WarmGate, Warming, wantedConnections } from "./warming.ts";

interface TestPool extends WarmedPool {
  connections: number;
  needed: number;
  /** Of connections that are being made. */
  readonly making: ((made: boolean) => void)[];
}

function pool(): TestPool {
  const one: TestPool = {
    connections: 0,
    needed: 0,
    making: [],
    connectAhead(then) {
      one.connections++;
      one.making.push((made) => {
        if (!made) one.connections--;
        then(made);
      });
    },
  };
  return one;
}

function warming(warm: Warm, pools: readonly TestPool[], options: { isFull?: () => boolean; gate?: WarmGate } = {}) {
  const at = { now: 0 };
  const backend = {
    get isFull() {
      return options.isFull?.() ?? false;
    },
    warmed: () => pools,
  };
  return { at, made: new Warming<TestPool>(warm, backend, options.gate ?? new WarmGate(), () => at.now) };
}

const settle = (one: TestPool, made: boolean) => {
  for (const then of one.making.splice(0)) then(made);
};

test("an endpoint has a fixed number, or so many times what its requests need, whichever is more", () => {
  expect(wantedConnections({ connections: 2 }, 0)).toBe(2);
  expect(wantedConnections({ ratio: 1.5 }, 0)).toBe(0);
  expect(wantedConnections({ ratio: 1.5 }, 3)).toBe(5);
  expect(wantedConnections({ connections: 4, ratio: 2 }, 1)).toBe(4);
  expect(wantedConnections({ connections: 4, ratio: 2 }, 3)).toBe(6);
});

test("what is missing is made, and made again when it dies", () => {
  const [a, b] = [pool(), pool()];
  const { made } = warming({ connections: 2 }, [a, b]);
  made.look();
  made.look();
  expect([a.connections, b.connections]).toEqual([2, 2]);
  settle(a, true);
  a.connections = 1;
  made.look();
  expect([a.connections, a.making.length]).toEqual([2, 1]);
});

test("never more than the backend may have", () => {
  const [a, b] = [pool(), pool()];
  const { made } = warming({ connections: 3 }, [a, b], { isFull: () => a.connections + b.connections >= 4 });
  made.look();
  expect([a.connections, b.connections]).toEqual([3, 1]);
});

test("who takes no connection is asked again after pauses that double up to 30 s, by one connection", () => {
  const one = pool();
  const { at, made } = warming({ connections: 3 }, [one]);
  made.look();
  expect(one.making).toHaveLength(3);
  settle(one, false);
  let pause = 1_000;
  for (let round = 0; round < 8; round++) {
    at.now += pause - 1;
    made.look();
    expect(one.making).toHaveLength(0);
    at.now += 1;
    made.look();
    expect(one.making).toHaveLength(1);
    settle(one, false);
    pause = Math.min(30_000, 2 * pause);
  }
  at.now += 30_000;
  made.look();
  settle(one, true);
  expect(one.connections).toBe(3);
});

test("of all backends so many at once, and the others when there is room", () => {
  const gate = new WarmGate();
  const pools = Array.from({ length: 50 }, pool);
  const { made } = warming({ connections: 2 }, pools, { gate });
  made.look();
  const all = () => pools.reduce((sum, { connections }) => sum + connections, 0);
  expect(all()).toBe(64);
  settle(pools[0]!, true);
  expect(all()).toBe(66);
  for (let round = 0; round < 3; round++) for (const one of pools) settle(one, true);
  expect(all()).toBe(100);
});

test("after its end nothing is made", () => {
  const one = pool();
  const { made } = warming({ connections: 1 }, [one]);
  made.look();
  made.dispose();
  settle(one, false);
  expect(one.making).toHaveLength(0);
});
