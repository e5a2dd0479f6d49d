// Retries: whether, when, and how many.

import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Retry } from "../../model/upstream-policies.ts";
import { retryBudget } from "./retry-budget.ts";
import { backoff, retryAfter, retryReason, type TryOutcome } from "./retry-decision.ts";

const retry = (...on: Retry["on"][number][]): Retry => ({
  attempts: 2,
  on,
  statuses: [],
  backoff: { base: 25, max: 250 },
  elsewhere: true,
});
const status = (code: number, grpcStatus?: number): TryOutcome => ({
  kind: "status",
  status: code,
  ...(grpcStatus === undefined ? {} : { grpcStatus }),
});

test("answers with a header that is named, and those that were refused for asking too often", () => {
  const answer = (code: number, fields: Record<string, string>): TryOutcome => ({
    ...{ kind: "status", status: code },
    fields: { get: (name) => fields[name] },
  });
  const headers = [{ name: "x-again", match: { kind: "prefix", value: "yes" } } as const];
  const policy = { ...retry("5xx"), statuses: [429], headers };
  expect(retryReason(policy, answer(200, { "x-again": "yes, please" }))).toBe("header");
  expect(retryReason(policy, answer(200, { "x-again": "no" }))).toBeUndefined();
  expect(retryReason(policy, answer(200, {}))).toBeUndefined();
  expect(retryReason(policy, answer(500, { "x-again": "no" }))).toBe("5xx");
  const limited = { "x-envoy-ratelimited": "true", "x-again": "yes" };
  expect(retryReason(policy, answer(429, {}))).toBe("status");
  for (const code of [200, 429, 503]) expect(retryReason(policy, answer(code, limited))).toBeUndefined();
  const asked = retry("envoy-ratelimited");
  expect(retryReason(asked, answer(429, limited))).toBe("envoy-ratelimited");
  expect(retryReason(asked, answer(429, {}))).toBeUndefined();
});

test.each([
  ["5xx", status(500), "5xx"],
  ["5xx", status(499), undefined],
  ["5xx", { kind: "reset", sent: true }, "5xx"],
  ["5xx", { kind: "connect-failure" }, "5xx"],
  ["5xx", { kind: "timeout" }, "5xx"],
  ["gateway-error", status(502), "gateway-error"],
  ["gateway-error", status(504), "gateway-error"],
  ["gateway-error", status(500), undefined],
  ["gateway-error", status(505), undefined],
  ["connect-failure", { kind: "connect-failure" }, "connect-failure"],
  ["connect-failure", { kind: "reset", sent: false }, undefined],
  ["connect-failure", status(503), undefined],
  ["reset", { kind: "reset", sent: true }, "reset"],
  ["reset", status(503), undefined],
  ["reset-before-request", { kind: "reset", sent: false }, "reset-before-request"],
  ["reset-before-request", { kind: "reset", sent: true }, undefined],
  ["retriable-4xx", status(409), "retriable-4xx"],
  ["retriable-4xx", status(404), undefined],
  ["refused-stream", { kind: "refused" }, "refused-stream"],
  ["refused-stream", { kind: "reset", sent: true }, undefined],
  ["unavailable", status(200, 14), "unavailable"],
  ["unavailable", status(200, 13), undefined],
  ["cancelled", status(200, 1), "cancelled"],
  ["resource-exhausted", status(200, 8), "resource-exhausted"],
  ["5xx", status(200, 14), undefined],
] as [Retry["on"][number], TryOutcome, string | undefined][])("%s and %o: %s", (on, outcome, reason) => {
  expect(retryReason(retry(on), outcome)).toBe(reason as never);
});

test("statuses are retried as listed, and nothing else is", () => {
  const listed = { ...retry(), statuses: [429, 503] };
  expect(retryReason(listed, status(503))).toBe("status");
  expect(retryReason(listed, status(502))).toBeUndefined();
  expect(retryReason(listed, { kind: "connect-failure" })).toBeUndefined();
});

test("the pause grows to its bound and is jittered down to nothing", () => {
  const most = (attempt: number) => backoff({ base: 25, max: 250 }, attempt, () => 1);
  expect([1, 2, 3, 4, 5, 40].map(most)).toEqual([25, 75, 175, 250, 250, 250]);
  expect(backoff({ base: 25, max: 250 }, 3, () => 0)).toBe(0);
});

test("Retry-After is seconds or a date of HTTP, and nothing else", () => {
  const now = Date.parse("2026-01-01T00:00:00Z");
  expect(retryAfter("7", now)).toBe(7000);
  expect(retryAfter("Thu, 01 Jan 2026 00:00:05 GMT", now)).toBe(5000);
  expect(retryAfter("Wed, 31 Dec 2025 00:00:05 GMT", now)).toBe(0);
  for (const field of ["-1", "1.5", "soon", "", "2026-01-01", undefined]) {
    expect(retryAfter(field, now)).toBeUndefined();
  }
});

test("a number of retries under way is never passed, and is given back", () => {
  const budget = retryBudget(undefined, 2);
  expect([budget.retry(9, 0), budget.retry(9, 0), budget.retry(9, 0)]).toEqual([true, true, false]);
  budget.done();
  expect(budget.retry(9, 0)).toBe(true);
  expect(retryBudget(undefined, undefined).retry(1, 0)).toBe(true);
});

test("Envoy's budget is a share of what is under way, and a minimum", () => {
  fc.assert(
    fc.property(fc.nat(100), fc.nat(20), fc.nat(1000), (percent, minimum, active) => {
      const budget = retryBudget({ kind: "concurrent", percent, minimum }, 1);
      let allowed = 0;
      while (allowed < 2000 && budget.retry(active, 0)) allowed++;
      expect(allowed).toBe(Math.max(minimum, Math.floor((active * percent) / 100)));
    }),
  );
});

test("Linkerd's budget is a share of the requests of its window, and a reserve", () => {
  fc.assert(
    fc.property(fc.nat(500), fc.integer({ min: 0, max: 10 }), (requests, perSecond) => {
      const budget = retryBudget({ kind: "ratio", ratio: 0.2, minPerSecond: perSecond, ttl: 10_000 }, undefined);
      for (let one = 0; one < requests; one++) budget.request(1_000_000 + (one % 900));
      let allowed = 0;
      while (budget.retry(0, 1_000_900)) allowed++;
      expect(allowed).toBe(Math.floor(requests * 0.2 + perSecond * 10 + 1e-9));
    }),
  );
});

test("what was deposited longer ago than the window counts no more", () => {
  const budget = retryBudget({ kind: "ratio", ratio: 1, minPerSecond: 0, ttl: 10_000 }, undefined);
  budget.request(1_000_000);
  expect(budget.retry(0, 1_011_000)).toBe(false);
  budget.request(1_020_000);
  expect(budget.retry(0, 1_025_000)).toBe(true);
  expect(budget.retry(0, 1_025_000)).toBe(false);
});

test("in no window are there more retries than the requests of that window and the reserve allow", () => {
  const ttl = 10_000;
  const steps = fc.array(fc.tuple(fc.integer({ min: 0, max: 3_000 }), fc.boolean(), fc.nat(20)), { maxLength: 80 });
  fc.assert(
    fc.property(steps, fc.constantFrom(0.2, 0.5, 1), fc.nat(1), (all, ratio, minPerSecond) => {
      const budget = retryBudget({ kind: "ratio", ratio, minPerSecond, ttl }, undefined);
      const requests: number[] = [];
      const retries: number[] = [];
      let now = 1_000_000;
      for (const [later, asks, times] of all) {
        now += later;
        for (let time = 0; time < times; time++) {
          if (asks) {
            budget.request(now);
            requests.push(now);
          } else if (budget.retry(0, now)) retries.push(now);
        }
        // Deposits leave a tenth of the window late at most, and retries so much earlier.
        const made = retries.filter((at) => at > now - ttl * 0.9).length;
        const deposits = requests.filter((at) => at > now - 2 * ttl).length;
        expect(made).toBeLessThanOrEqual(deposits * ratio + (2 * minPerSecond * ttl) / 1000 + 1e-6);
      }
    }),
  );
});

test("a deposit leaves with its window, though requests and retries go on all the time", () => {
  const budget = retryBudget({ kind: "ratio", ratio: 1, minPerSecond: 0, ttl: 10_000 }, undefined);
  for (let time = 0; time < 5; time++) budget.request(1_000_000);
  for (let second = 1; second <= 9; second++) expect(budget.retry(0, 1_000_000 + second * 1_000)).toBe(second <= 5);
  for (let time = 0; time < 5; time++) budget.request(1_010_000);
  for (let second = 11; second <= 19; second++) budget.request(1_000_000 + second * 1_000);
  // Of those five nothing is left, and one of the nine has left, too.
  let left = 0;
  while (budget.retry(0, 1_021_500)) left++;
  expect(left).toBe(8);
});
