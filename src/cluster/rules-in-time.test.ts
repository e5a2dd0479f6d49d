import { expect, test } from "bun:test";
import { FakeClock } from "../base/clock.ts";
import { rulesInTime } from "./rules-in-time.ts";

const never = () => new Promise<void>(() => {});

test("rules that are refused for 20 s end the start with what refuses them", async () => {
  const clock = new FakeClock();
  const start = rulesInTime({ settled: never, problems: () => ["node-1: nft failed: Device or resource busy"] }, clock);
  clock.advance(20_000);
  await expect(start).rejects.toThrow(
    "the Service rules cannot be written: node-1: nft failed: Device or resource busy",
  );
});

test("rules that are slow, and those refused for a moment, are waited for", async () => {
  const clock = new FakeClock();
  const { promise, resolve } = Promise.withResolvers<void>();
  let problems: readonly string[] = ["the lock is held"];
  const start = rulesInTime({ settled: () => promise, problems: () => problems }, clock);
  clock.advance(10_000);
  problems = [];
  clock.advance(60_000);
  resolve();
  expect(await start).toBeUndefined();
});
