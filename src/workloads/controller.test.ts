import { describe, expect, test } from "bun:test";
import { StatusError } from "../api/status-error.ts";
import { FakeClock } from "../base/clock.ts";
import { createLogger, silentLogger } from "../base/log.ts";
import { type Again, startController } from "./controller.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

function running(reconcile: (key: string) => Promise<Again>, more: { rest?: () => number; concurrency?: number } = {}) {
  const clock = new FakeClock();
  const seen: string[] = [];
  const lines: string[] = [];
  const controller = startController({
    name: "test",
    clock,
    log: createLogger((line) => lines.push(line)),
    reconcile: (key) => {
      seen.push(key);
      return reconcile(key);
    },
    ...more,
  });
  return { clock, seen, lines, controller };
}

describe("a controller", () => {
  test("handles a key once for many changes of one turn", async () => {
    const { seen, controller } = running(async () => {});
    for (let change = 0; change < 5; change++) controller.enqueue("a");
    controller.enqueue("b");
    await turn();
    expect(seen).toEqual(["a", "b"]);
  });

  test("never handles one key twice at once, and looks again when it changed meanwhile", async () => {
    const gate = Promise.withResolvers<void>();
    const { seen, controller } = running(() => gate.promise);
    controller.enqueue("a");
    await turn();
    controller.enqueue("a");
    await turn();
    expect(seen).toEqual(["a"]);
    gate.resolve();
    await turn();
    expect(seen).toEqual(["a", "a"]);
  });

  test("tries again after a failure, with growing pauses, and says so", async () => {
    let failures = 3;
    const { seen, lines, clock, controller } = running(async () => {
      if (failures-- > 0) throw new Error("disk full");
    });
    controller.enqueue("a");
    for (let step = 0; step < 100; step++) {
      await turn();
      clock.advance(10);
    }
    expect(seen.length).toBe(4);
    expect(lines.length).toBe(3);
    expect(lines[0]).toContain("disk full");
  });

  test("is silent about conflicts and about namespaces that are going", async () => {
    const errors = [
      new StatusError(409, "Conflict", "modified"),
      new StatusError(403, "Forbidden", "no", { causes: [{ reason: "NamespaceTerminating" }] }),
    ];
    const { seen, lines, clock, controller } = running(async () => {
      const error = errors.pop();
      if (error) throw error;
    });
    controller.enqueue("a");
    for (let step = 0; step < 20; step++) {
      await turn();
      clock.advance(10);
    }
    expect(seen.length).toBe(3);
    expect(lines).toEqual([]);
  });

  test("comes back when it asked to, unless something else came first", async () => {
    const { seen, clock, controller } = running(async () => 1_000);
    controller.enqueue("a");
    await turn();
    clock.advance(999);
    await turn();
    expect(seen.length).toBe(1);
    clock.advance(1);
    await turn();
    expect(seen.length).toBe(2);
  });

  test("lets a key rest, but not the others", async () => {
    const { seen, clock, controller } = running(async () => {}, { rest: () => 40, concurrency: 1 });
    controller.enqueue("a");
    await turn();
    controller.enqueue("a");
    controller.enqueue("b");
    await turn();
    expect(seen).toEqual(["a", "b"]);
    clock.advance(40);
    await turn();
    expect(seen).toEqual(["a", "b", "a"]);
  });

  test("does nothing after its end", async () => {
    const clock = new FakeClock();
    let count = 0;
    const controller = startController({
      name: "test",
      clock,
      log: silentLogger,
      reconcile: async () => {
        count++;
        return 10;
      },
    });
    controller.enqueue("a");
    await turn();
    controller.dispose();
    controller.enqueue("a");
    clock.advance(100);
    await turn();
    expect(count).toBe(1);
  });
});
