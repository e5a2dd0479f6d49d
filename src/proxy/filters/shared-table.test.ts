import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { FakeClock } from "../../base/clock.ts";
import { SharedTable } from "./shared-table.ts";
import { BucketSets, SharedBuckets, TokenBuckets } from "./token-bucket.ts";

const folder = mkdtempSync(join(tmpdir(), "fl-t-limits-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const file = join(folder, "one.limits");
const clock = new FakeClock();
/** Two of them as two processes have them: mapped twice. */
const tables = [SharedTable.open(file, clock.now()), SharedTable.open(file, clock.now())] as const;
let names = 0;

const shape = fc.record({
  requests: fc.integer({ min: 1, max: 50 }),
  per: fc.constantFrom(100, 1000, 60_000),
  burst: fc.integer({ min: 1, max: 100 }),
});

describe("buckets that several processes count in", () => {
  test("let the same requests pass as those of one process, and say the same of what is left", () => {
    const steps = fc.array(fc.tuple(fc.integer({ min: 0, max: 500 }), fc.integer({ min: 0, max: 1 })), {
      maxLength: 200,
    });
    fc.assert(
      fc.property(shape, steps, (limit, asked) => {
        const name = `alike ${names++}`;
        const one = new TokenBuckets(limit);
        const shared = tables.map((table) => new SharedBuckets(table, name, limit));
        for (const [pause, which] of asked) {
          clock.advance(pause);
          const expected = one.take("a", clock.now());
          const found = shared[which]!.take("a", clock.now());
          expect({ allowed: found.allowed, left: found.left }).toEqual({
            allowed: expected.allowed,
            left: expected.left,
          });
          expect(Math.abs(found.wait - expected.wait)).toBeLessThan(0.01);
          expect(Math.abs(found.full - expected.full)).toBeLessThan(0.01);
        }
      }),
    );
  });

  test("let no more pass than the burst and what flowed in when the clock goes back and forth", () => {
    const pauses = fc.array(fc.integer({ min: -2000, max: 2000 }), { maxLength: 100 });
    fc.assert(
      fc.property(shape, pauses, (limit, all) => {
        const buckets = new SharedBuckets(tables[0], `back ${names++}`, limit);
        let now = clock.now();
        let [passed, forward] = [0, 0];
        for (const pause of all) {
          now += pause;
          forward += Math.max(0, pause);
          if (buckets.take("a", now).allowed) passed++;
        }
        expect(passed).toBeLessThanOrEqual(limit.burst + (forward * limit.requests) / limit.per + 1e-3);
      }),
    );
  });

  test("are empty at worst when the clock went back by an hour, and fill again", () => {
    const buckets = new SharedBuckets(tables[0], "an hour", { requests: 1, per: 1000, burst: 2 });
    const now = clock.now() + 3_600_000;
    expect(buckets.take("a", now).allowed).toBeTrue();
    expect(buckets.take("a", now - 3_600_000)).toMatchObject({ allowed: false, wait: 1000 });
    expect(buckets.take("a", now - 3_599_000).allowed).toBeTrue();
  });

  test("are apart by key, name and numbers", () => {
    const limit = { requests: 1, per: 60_000, burst: 1 };
    const take = (name: string, key: string, more = {}) =>
      new SharedBuckets(tables[0], name, { ...limit, ...more }).take(key, clock.now()).allowed;
    expect([take("x", "a"), take("x", "a"), take("x", "b"), take("y", "a"), take("x", "a", { burst: 2 })]).toEqual([
      ...[true, false, true, true, true],
    ]);
  });

  test("of whom is limited most are kept when there are more keys than slots", () => {
    const table = SharedTable.open(join(folder, "full.limits"), clock.now());
    const limited = new SharedBuckets(table, "limited", { requests: 1, per: 3_600_000, burst: 1 });
    const flood = new SharedBuckets(table, "flood", { requests: 1, per: 1000, burst: 10 });
    const now = clock.now();
    for (let client = 0; client < 100; client++) expect(limited.take(String(client), now).allowed).toBeTrue();
    for (let key = 0; key < 280_000; key++) flood.take(String(key), now);
    for (let client = 0; client < 100; client++) expect(limited.take(String(client), now).allowed).toBeFalse();
  });

  test("count every token once when processes take them at the same time", async () => {
    const path = join(folder, "race.limits");
    const [limit, processes] = [{ requests: 1, per: 3_600_000, burst: 2_000 }, 3];
    // Few keys that all of them take at once, and each more often than there are tokens.
    const code = `
      import { SharedTable } from ${JSON.stringify(join(import.meta.dir, "shared-table.ts"))};
      import { SharedBuckets } from ${JSON.stringify(join(import.meta.dir, "token-bucket.ts"))};
      const table = SharedTable.open(${JSON.stringify(path)}, 0);
      const buckets = new SharedBuckets(table, "race", ${JSON.stringify(limit)});
      process.send("ready");
      process.on("message", () => {
        let passed = 0;
        for (let turn = 0; turn < 2_000; turn++)
          for (const key of ["a", "b", "c", "d", "e"]) if (buckets.take(key, 1000).allowed) passed++;
        process.send(passed);
        process.disconnect();
      });`;
    const script = join(folder, "race.ts");
    writeFileSync(script, code);
    const passed: number[] = [];
    let ready = 0;
    const all: Bun.Subprocess[] = Array.from({ length: processes }, () =>
      Bun.spawn([process.execPath, script], {
        ...{ stdout: "ignore", stderr: "inherit" },
        ipc(message) {
          if (message !== "ready") passed.push(message as number);
          else if (++ready === processes) for (const one of all) one.send("go");
        },
      }),
    );
    await Promise.all(all.map(({ exited }) => exited));
    expect(passed.reduce((sum, one) => sum + one, 0)).toBe(5 * limit.burst);
    expect(readdirSync(folder).filter((name) => name.startsWith("race.limits"))).toEqual(["race.limits"]);
  }, 20_000);
});

describe("the file", () => {
  test("is its owner's alone, and kept by who opens it again", () => {
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const limit = { requests: 1, per: 60_000, burst: 1 };
    expect(new SharedBuckets(tables[0], "kept", limit).take("a", clock.now()).allowed).toBeTrue();
    const again = SharedTable.open(file, clock.now());
    expect(new SharedBuckets(again, "kept", limit).take("a", clock.now()).allowed).toBeFalse();
  });

  test("that is none of ours is put out of the way", () => {
    const other = join(folder, "other.limits");
    const opens = () => {
      SharedTable.open(other, 0);
      expect(statSync(other).size).toBeGreaterThan(1_000_000);
      expect(existsSync(`${other}.old`)).toBeFalse();
      rmSync(other);
    };
    writeFileSync(other, "something", { mode: 0o600 });
    opens();
    symlinkSync(file, other);
    opens();
    SharedTable.open(other, 0);
    chmodSync(other, 0o666);
    opens();
    expect(existsSync(file)).toBeTrue();
  });

  test("that cannot be made is told by name", () => {
    const sets = new BucketSets(join(folder, "no", "such.limits"));
    expect(() => sets.get("x", { requests: 1, per: 1, burst: 1 }, true, 0)).toThrow("such.limits cannot be made: ");
    expect(sets.get("x", { requests: 1, per: 1, burst: 1 }, false, 0)).toBeInstanceOf(TokenBuckets);
  });
});
