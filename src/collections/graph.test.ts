import { describe, expect, test } from "bun:test";
import { derive } from "./derive.ts";
import { createGraph } from "./graph.ts";
import { source } from "./source.ts";

describe("batches", () => {
  test("writes to several sources inside of one batch are one change for those who read both", () => {
    const graph = createGraph();
    const a = source<number>("a", { graph });
    const b = source<number>("b", { graph });
    const seen: (number | undefined)[][] = [];
    derive(a, (n, fetch) => void seen.push([n, fetch.one(b, "k")]), { name: "pairs", key: () => "k" });
    graph.batch(() => {
      a.set("k", 1);
      b.set("k", 1);
      a.set("k", 2);
    });
    expect(seen).toEqual([[2, 1]]);
  });

  test("subscribers are told after everything has settled", () => {
    const graph = createGraph();
    const a = source<number>("a", { graph });
    const doubled = derive(a, (n) => 2 * n, { name: "doubled", key: () => "k" });
    const seen: unknown[] = [];
    a.subscribe(() => seen.push(doubled.get("k")));
    a.set("k", 4);
    expect(seen).toEqual([8]);
  });

  test("a write from a subscriber makes a following batch, never a nested one", () => {
    const graph = createGraph();
    const a = source<number>("a", { graph });
    const b = source<number>("b", { graph });
    const order: string[] = [];
    a.subscribe(([change]) => {
      order.push(`first hears a=${change!.after}`);
      b.set("k", change!.after!);
      expect(b.get("k")).not.toBe(change!.after);
    });
    a.subscribe(([change]) => order.push(`second hears a=${change!.after}`));
    b.subscribe(([change]) => order.push(`b=${change!.after}`));
    a.set("k", 1);
    expect(order).toEqual(["first hears a=1", "second hears a=1", "b=1"]);
    expect(graph.batches).toBe(2);
  });

  test("a write of what is there, or one taken back within the batch, tells nobody", () => {
    const graph = createGraph();
    const a = source<{ n: number }>("a", { graph });
    a.set("k", { n: 1 });
    let told = 0;
    a.subscribe(() => told++);
    a.set("k", { n: 1 });
    graph.batch(() => {
      a.set("k", { n: 2 });
      a.set("k", { n: 1 });
      a.set("l", { n: 1 });
      a.delete("l");
    });
    expect(told).toBe(0);
  });

  test("a long batch gives the event loop its turn; between slices everybody sees the old state; it commits as one", async () => {
    const turns: (() => void)[] = [];
    const graph = createGraph({ sliceMilliseconds: 0, sliceComputations: 10, later: (then) => void turns.push(then) });
    const a = source<number>("a", { graph });
    const doubled = derive(a, (n) => 2 * n, { name: "doubled", key: (n) => String(n) });
    const batches: number[] = [];
    doubled.subscribe((batch) => batches.push(batch.length));
    a.replace(Array.from({ length: 35 }, (_, n) => [String(n), n] as const));
    let settled = false;
    void graph.settled().then(() => {
      settled = true;
    });
    let slices = 0;
    while (turns.length > 0) {
      expect([a.size, doubled.size]).toEqual([0, 0]);
      if (slices++ === 0) a.set("late", 1000);
      turns.shift()!();
    }
    await Promise.resolve();
    expect(slices).toBeGreaterThan(2);
    expect(batches).toEqual([35, 1]);
    expect([doubled.size, settled]).toEqual([36, true]);
  });

  test("a new subscriber can first have what is there", () => {
    const graph = createGraph();
    const a = source<number>("a", { graph });
    a.set("k", 1);
    const seen: unknown[] = [];
    const subscription = a.subscribe((batch) => seen.push(batch), { replay: true });
    a.set("k", 2);
    subscription.dispose();
    a.set("k", 3);
    expect(seen).toEqual([[{ key: "k", before: undefined, after: 1 }], [{ key: "k", before: 1, after: 2 }]]);
  });

  test("a subscriber that throws keeps nobody else from being told", () => {
    const graph = createGraph();
    const errors: unknown[] = [];
    graph.onSubscriberError = (error) => errors.push(error);
    const a = source<number>("a", { graph });
    let told = 0;
    a.subscribe(() => {
      throw new Error("mine");
    });
    a.subscribe(() => told++);
    a.set("k", 1);
    a.set("k", 2);
    expect([told, errors.length]).toEqual([2, 2]);
  });

  test("a batch that throws half-way keeps the writes made before, and passes the error on", () => {
    const graph = createGraph();
    const a = source<number>("a", { graph });
    expect(() =>
      graph.batch(() => {
        a.set("k", 1);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(a.get("k")).toBe(1);
  });
});
