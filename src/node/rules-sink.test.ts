import { beforeEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { FakeClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { Graph } from "../collections/graph.ts";
import { type Source, source } from "../collections/source.ts";
import type { ServicePort } from "../services/service-table.ts";
import { type RulesSink, startRulesSink } from "./rules-sink.ts";
import type { Rules, ServiceRules, Transaction } from "./service-rules.ts";

/** A kernel that keeps one piece a row, and does what a test tells it to go wrong. */
class FakeRules implements ServiceRules {
  readonly mode = "fake";
  readonly family = 4;
  kernel = new Map<string, readonly string[]>();
  refuse = 0;
  reads = 0;
  readonly transactions: string[] = [];
  /** Holds transactions back until called. */
  hold: Promise<void> | undefined;

  render(table: { values(): Iterable<ServicePort> }): Rules {
    return new Map([...table.values()].map((row) => [row.key, [row.clusterIP]]));
  }
  renderer() {
    const rules = new Map<string, readonly string[]>();
    return {
      rules,
      apply(batch: readonly { key: string; after: ServicePort | undefined }[]) {
        for (const { key, after } of batch) {
          if (after) rules.set(key, [after.clusterIP]);
          else rules.delete(key);
        }
        return new Set(batch.map((one) => one.key));
      },
    };
  }
  difference(
    now: Rules,
    wanted: Rules,
    names: Iterable<string> = new Set([...now.keys(), ...wanted.keys()]),
  ): Transaction {
    const changes: [string, readonly string[] | null][] = [];
    for (const name of names) {
      if (JSON.stringify(now.get(name)) !== JSON.stringify(wanted.get(name)))
        changes.push([name, wanted.get(name) ?? null]);
    }
    return { text: changes.length > 0 ? JSON.stringify(changes) : "", pieces: changes.length };
  }
  async read(): Promise<Rules> {
    this.reads++;
    return new Map(this.kernel);
  }
  async commit({ text }: Transaction): Promise<void> {
    await this.hold;
    if (this.refuse-- > 0) throw new Error("line 3 failed");
    this.transactions.push(text);
    for (const [name, lines] of JSON.parse(text)) {
      if (lines) this.kernel.set(name, lines);
      else this.kernel.delete(name);
    }
  }
  async remove(): Promise<void> {
    this.kernel.clear();
  }
  async intact(): Promise<boolean> {
    return this.kernel.size > 0;
  }
}

const row = (n: number, clusterIP = `10.96.0.${n}`) => ({ key: `s${n}`, clusterIP, family: 4 }) as ServicePort;
const turn = () => new Promise((resolve) => setImmediate(resolve));
async function turns(): Promise<void> {
  for (let n = 0; n < 5; n++) await turn();
}

let table: Source<ServicePort>;
let clock: FakeClock;
let rules: FakeRules;
let sink: RulesSink;
const start = (options: { fullCheckUpTo?: number; events?: { changed(): boolean } } = {}) => {
  sink = startRulesSink({ table, rules, clock, log: silentLogger, ...options });
};

beforeEach(() => {
  table = source<ServicePort>("table", { graph: new Graph() });
  clock = new FakeClock();
  rules = new FakeRules();
});

describe("the rules sink", () => {
  test("writes at its start what differs from what is there", async () => {
    rules.kernel = new Map([
      ["s1", ["10.96.0.1"]],
      ["stale", ["x"]],
    ]);
    table.set("s1", row(1));
    table.set("s2", row(2));
    start();
    await sink.settled();
    expect(rules.transactions).toEqual(['[["stale",null],["s2",["10.96.0.2"]]]']);
  });

  test("puts changes that come together, and while it writes, into one transaction each", async () => {
    start();
    await sink.settled();
    const open = Promise.withResolvers<void>();
    rules.hold = open.promise;
    table.set("s1", row(1));
    table.set("s2", row(2));
    await turns();
    table.set("s3", row(3));
    table.set("s4", row(4));
    table.set("s3", row(3, "10.96.0.33"));
    open.resolve();
    await sink.settled();
    expect(rules.transactions).toEqual([
      '[["s1",["10.96.0.1"]],["s2",["10.96.0.2"]]]',
      '[["s3",["10.96.0.33"]],["s4",["10.96.0.4"]]]',
    ]);
    expect(rules.reads).toBe(1);
  });

  test("reads again after a refusal, and tries until it is taken", async () => {
    start();
    await sink.settled();
    rules.refuse = 2;
    table.set("s1", row(1));
    await turns();
    expect(sink.state).toMatchObject({ inSync: false, failures: 1, lastError: "line 3 failed" });
    clock.advance(1_000);
    await turns();
    expect(sink.state.failures).toBe(2);
    clock.advance(1_000);
    await sink.settled();
    expect(rules.kernel.get("s1")).toEqual(["10.96.0.1"]);
    expect(sink.state).toMatchObject({ inSync: true, lastError: undefined });
  });

  test("puts back what somebody changed, removed or added", async () => {
    table.set("s1", row(1));
    table.set("s2", row(2));
    start();
    await sink.settled();
    rules.kernel = new Map([
      ["s1", ["10.0.0.66"]],
      ["s9", ["x"]],
    ]);
    clock.advance(500);
    await turns();
    await sink.settled();
    expect([...rules.kernel]).toEqual([
      ["s1", ["10.96.0.1"]],
      ["s2", ["10.96.0.2"]],
    ]);
    expect(sink.state.repairs).toBe(1);
  });

  test("with many rules only looks whether they are there at all", async () => {
    table.set("s1", row(1));
    start({ fullCheckUpTo: 0 });
    await sink.settled();
    clock.advance(2_000);
    await turns();
    expect(rules.reads).toBe(1);
    rules.kernel.clear();
    clock.advance(500);
    await turns();
    await sink.settled();
    expect(rules.kernel.has("s1")).toBe(true);
  });

  test("learns what the tool prints otherwise than it was written, and still sees damage", async () => {
    const original = rules.read.bind(rules);
    rules.read = async () =>
      new Map(
        [...(await original())].map(([name, lines]) => [name, lines.map((line) => line.replace("10.96", "10.096"))]),
      );
    table.set("s1", row(1));
    start();
    await sink.settled();
    for (let n = 0; n < 4; n++) {
      clock.advance(500);
      await turns();
    }
    expect(sink.state.repairs).toBe(1);
    rules.kernel.delete("s1");
    clock.advance(500);
    await turns();
    await sink.settled();
    expect(rules.kernel.has("s1")).toBe(true);
    expect(sink.state.repairs).toBe(2);
  });

  test("writes nothing after its end", async () => {
    start();
    await sink.settled();
    sink.dispose();
    table.set("s1", row(1));
    await turns();
    expect(rules.transactions).toEqual([]);
  });

  test("ends with the table's rules, whatever is refused or damaged on the way", async () => {
    const step = fc.record({
      set: fc.array(fc.tuple(fc.nat(5), fc.nat(3)), { maxLength: 4 }),
      remove: fc.array(fc.nat(5), { maxLength: 2 }),
      refuse: fc.nat(2),
      damage: fc.boolean(),
      wait: fc.nat(700),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 8 }), async (steps) => {
        table = source<ServicePort>("table", { graph: new Graph() });
        clock = new FakeClock();
        rules = new FakeRules();
        start();
        for (const { set, remove, refuse, damage, wait } of steps) {
          rules.refuse = refuse;
          if (damage) rules.kernel = new Map([["s0", ["damaged"]]]);
          for (const [n, ip] of set) table.set(`s${n}`, row(n, `10.0.0.${ip}`));
          for (const n of remove) table.delete(`s${n}`);
          clock.advance(wait);
          await turn();
        }
        rules.refuse = 0;
        for (let n = 0; n < 4; n++) {
          await turns();
          clock.advance(6_000);
        }
        await turns();
        await sink.settled();
        sink.dispose();
        expect(new Map([...rules.kernel].sort())).toEqual(new Map([...rules.render(table)].sort()));
      }),
      { numRuns: 40 },
    );
  });
});

test("where the kernel tells of changes it is read when it does, and every ten seconds otherwise", async () => {
  let told = false;
  const events = {
    changed() {
      const was = told;
      told = false;
      return was;
    },
  };
  start({ events });
  table.set("s1", row(1));
  await sink.settled();
  const reads = rules.reads;
  for (let n = 0; n < 6; n++) {
    clock.advance(500);
    await turns();
  }
  expect(rules.reads).toBe(reads);
  rules.kernel.delete("s1");
  told = true;
  clock.advance(500);
  await turns();
  expect(rules.kernel.has("s1")).toBe(true);
  rules.kernel.delete("s1"); // and nobody tells
  clock.advance(12_000);
  await turns();
  expect(rules.kernel.has("s1")).toBe(true);
});
