import { expect, test } from "bun:test";
import { requestTimeout } from "./route-timeouts.ts";

test("the shorter one of a rule's timeouts holds, and 0s is none", () => {
  expect(requestTimeout(undefined, undefined)).toBeUndefined();
  expect(requestTimeout(500, undefined)).toBe(500);
  expect(requestTimeout(undefined, 500)).toBe(500);
  expect(requestTimeout(1000, 500)).toBe(500);
  expect(requestTimeout(0, 500)).toBe(500);
  expect(requestTimeout(500, 0)).toBe(500);
  expect(requestTimeout(0, 0)).toBe(0);
});
