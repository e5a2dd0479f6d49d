// The engine against the plainest possible one: after any changes, in any batches, what is derived equals what a
// recomputation from scratch gives, no computation ever sees a mixture of old and new, and none runs twice in a batch.

import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Collection, Fetch, Index } from "./collection.ts";
import { derive, union } from "./derive.ts";
import { createGraph, type Graph } from "./graph.ts";
import { index } from "./index.ts";
import { type Source, source } from "./source.ts";

interface Value {
  readonly key: string;
  readonly n: number;
  /** Of each source that went in, the state of the world it came from. */
  readonly epoch: number;
}

/** How one derived collection is made, by numbers that are taken modulo what is there. */
interface Shape {
  readonly inputs: readonly number[];
  readonly fetches: readonly {
    readonly from: number;
    readonly kind: "one" | "where" | "all";
    readonly offset: number;
  }[];
  readonly outputs: number;
  readonly divisor: number;
  readonly drops: boolean;
  readonly throws: boolean;
}

/** Every batch in one piece, however slow the machine is. */
const whole = () => createGraph({ sliceMilliseconds: Number.POSITIVE_INFINITY });

const keys = ["a", "b", "c", "d"];
const shape: fc.Arbitrary<Shape> = fc.record({
  inputs: fc.array(fc.nat(20), { minLength: 1, maxLength: 2 }),
  fetches: fc.array(
    fc.record({
      from: fc.nat(20),
      kind: fc.constantFrom("one" as const, "where" as const, "all" as const),
      offset: fc.nat(3),
    }),
    { maxLength: 3 },
  ),
  outputs: fc.integer({ min: 1, max: 2 }),
  divisor: fc.integer({ min: 1, max: 3 }),
  drops: fc.boolean(),
  throws: fc.nat(9).map((n) => n === 0),
});
const write = fc.record({ source: fc.nat(1), key: fc.constantFrom(...keys), n: fc.option(fc.nat(5)) });
const batches = fc.array(fc.array(write, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 8 });

interface World {
  readonly sources: readonly Source<Value>[];
  readonly clocks: readonly Source<number>[];
  readonly derived: readonly Collection<Value>[];
}

function build(
  graph: Graph,
  shapes: readonly Shape[],
  onCompute: (id: string, epochs: readonly number[]) => void,
): World {
  const sources = [0, 1].map((n) => source<Value>(`s${n}`, { graph }));
  // Each batch writes its number into both: a computation that sees two numbers has seen a mixture.
  const clocks = [0, 1].map((n) => source<number>(`clock${n}`, { graph }));
  const nodes: Collection<Value>[] = [...sources];
  const indexes = new Map<Collection<Value>, Index<Value>>();
  shapes.forEach((one, at) => {
    const pick = (n: number) => nodes[n % nodes.length]!;
    const picked = [...new Set(one.inputs.map(pick))];
    const input =
      picked.length === 1
        ? picked[0]!
        : union(
            `u${at}`,
            picked.map((node, n) => rekeyed(node, `${at}.${n}`)),
          );
    const fetches = one.fetches.map(({ from, kind, offset }) => {
      const node = pick(from);
      const by = indexes.get(node) ?? index(node, `${node.name} by n`, (value) => [String(value.n % 3)]);
      indexes.set(node, by);
      return { node, by, kind, offset };
    });
    const name = `d${at}`;
    const compute = (value: Value, fetch: Fetch): Value[] => {
      const seen = [fetch.one(clocks[0]!, "now")!, fetch.one(clocks[1]!, "now")!, value.epoch];
      let sum = value.n;
      for (const { node, by, kind, offset } of fetches) {
        const read =
          kind === "one"
            ? [fetch.one(node, keys[(sum + offset) % keys.length]!)]
            : kind === "where"
              ? fetch.where(by, String((sum + offset) % 3))
              : fetch.all(node);
        for (const other of read) {
          if (!other) continue;
          sum = (sum * 31 + other.n + other.key.length) % 1009;
          seen.push(other.epoch);
        }
      }
      onCompute(`${name} ${value.key}`, seen);
      if (one.throws && sum % 7 === 6) throw new Error(`${sum}`);
      if (one.drops && sum % 5 === 4) return [];
      const epoch = seen[0]!;
      const n = Math.floor(sum / one.divisor);
      return Array.from({ length: one.outputs }, (_, copy) => ({ key: copy ? `${value.key}'` : value.key, n, epoch }));
    };
    nodes.push(derive(input, compute, { name, key: (value) => value.key }));
  });
  return { sources, clocks, derived: nodes.slice(sources.length) };
}

function rekeyed(input: Collection<Value>, prefix: string): Collection<Value> {
  return derive(input, (value) => ({ ...value, key: `${prefix}${value.key}` }), {
    name: `r${prefix}`,
    key: (value) => value.key,
  });
}

test("no computation sees a mixture of old and new inputs, or runs twice in a batch", () => {
  fc.assert(
    fc.property(fc.array(shape, { minLength: 1, maxLength: 6 }), batches, (shapes, writes) => {
      // A failed computation keeps its last good value, of an older batch, and would look like a mixture.
      const sound = shapes.map((one) => ({ ...one, throws: false }));
      const graph = whole();
      let epoch = 0;
      let ran = new Set<string>();
      const world = build(graph, sound, (id, epochs) => {
        expect(ran.has(id)).toBe(false);
        ran.add(id);
        for (const one of epochs) expect(one).toBe(epoch);
      });
      for (const batch of writes) {
        epoch++;
        ran = new Set();
        graph.batch(() => {
          for (const clock of world.clocks) clock.set("now", epoch);
          const now = new Map<string, Value>();
          for (const [n, one] of world.sources.entries()) {
            for (const [key, value] of one.entries()) now.set(`${n}${key}`, { ...value, epoch });
          }
          for (const { source: at, key, n } of batch) {
            if (n === null) now.delete(`${at}${key}`);
            else now.set(`${at}${key}`, { key, n, epoch });
          }
          for (const [at, one] of world.sources.entries()) {
            one.replace(
              [...now].filter(([id]) => id.startsWith(String(at))).map(([id, value]) => [id.slice(1), value]),
            );
          }
        });
      }
    }),
    { numRuns: 150 },
  );
});

let compared = 0;

test("what is derived equals a recomputation from scratch, also when batches are cut into slices", () => {
  fc.assert(
    fc.property(fc.array(shape, { minLength: 1, maxLength: 6 }), batches, fc.boolean(), (shapes, writes, sliced) => {
      const turns: (() => void)[] = [];
      const options = {
        sliceMilliseconds: 0,
        sliceComputations: 2,
        later: (then: () => void) => void turns.push(then),
      };
      const graph = sliced ? createGraph(options) : whole();
      const world = build(graph, shapes, () => {});
      const mirrors = world.derived.map((one) => {
        const mirror = new Map<string, Value>();
        one.subscribe((batch) => {
          for (const { key, before, after } of batch) {
            expect(mirror.get(key)).toEqual(before!);
            if (after === undefined) mirror.delete(key);
            else mirror.set(key, after);
          }
        });
        return mirror;
      });
      graph.batch(() => {
        for (const clock of world.clocks) clock.set("now", 0);
      });
      for (const batch of writes) {
        graph.batch(() => {
          for (const { source: at, key, n } of batch) {
            if (n === null) world.sources[at]!.delete(key);
            else world.sources[at]!.set(key, { key, n, epoch: 0 });
          }
        });
        if (!sliced || batch.length % 2) while (turns.length > 0) turns.shift()!();
      }
      while (turns.length > 0) turns.shift()!();
      mirrors.forEach((mirror, at) => {
        expect(mirror).toEqual(new Map(world.derived[at]!.entries()));
      });
      if (graph.errors().some((one) => !one.message.includes("already made"))) return; // what stays is of the past
      compared++;
      const fresh = build(whole(), shapes, () => {});
      fresh.sources[0]!.batch(() => {
        for (const clock of fresh.clocks) clock.set("now", 0);
        world.sources.forEach((one, at) => {
          fresh.sources[at]!.replace(one.entries());
        });
      });
      world.derived.forEach((one, at) => {
        expect(new Map(one.entries())).toEqual(new Map(fresh.derived[at]!.entries()));
      });
    }),
    { numRuns: 150 },
  );
  expect(compared).toBeGreaterThan(75);
});

test("deep graphs of shared inputs compute each value once", () => {
  const graph = createGraph();
  const first = source<number>("first", { graph });
  let computed = 0;
  let last: Collection<number> = first;
  for (let depth = 0; depth < 50; depth++) {
    const [left, right] = [last, last];
    last = derive(
      left,
      (n, fetch) => {
        computed++;
        return (n + fetch.one(right, "k")!) % 1000;
      },
      { name: `level ${depth}`, key: () => "k" },
    );
  }
  first.set("k", 1);
  expect(computed).toBe(50);
});
