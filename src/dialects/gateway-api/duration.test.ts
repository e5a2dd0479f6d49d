import { expect, test } from "bun:test";
import { parseDuration } from "./duration.ts";

test("durations are milliseconds (GEP-2257)", () => {
  expect(["0s", "500ms", "10s", "1m", "1h30m", "1h1m1s1ms"].map(parseDuration)).toEqual([
    0, 500, 10_000, 60_000, 5_400_000, 3_661_001,
  ]);
  expect(["", "1", "1.5s", "-1s", "1d", "1h1m1s1ms1h", "100000s", "s"].map(parseDuration)).toEqual(
    Array.from({ length: 8 }, () => undefined),
  );
});
