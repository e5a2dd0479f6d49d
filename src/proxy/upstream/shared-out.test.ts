import { expect, test } from "bun:test";
import type { Backend } from "../../model/model.ts";
import { sharedOut } from "./shared-out.ts";

const plain: Backend = {
  name: "one",
  from: { kind: "Test", name: "test", field: "" },
  protocol: "http1",
  balance: { kind: "roundRobin" },
  connectTimeout: 1000,
};

test("bounds on a backend's load are shared out among workers, and those of each connection stay", () => {
  const limits = { connections: 10, pending: 0, requests: 1, retries: 4, requestsPerConnection: 7, idleTimeout: 50 };
  expect(sharedOut({ ...plain, limits }, 4).limits).toEqual({
    ...{ connections: 3, pending: 0, requests: 1, retries: 1, requestsPerConnection: 7, idleTimeout: 50 },
  });
  expect(sharedOut({ ...plain, warm: { connections: 5, ratio: 2 } }, 4).warm).toEqual({ connections: 2, ratio: 2 });
});

test("of a retry budget the floor is shared out, not the share of a worker's own requests", () => {
  const ratio = { kind: "ratio", ratio: 0.2, minPerSecond: 10, ttl: 1000 } as const;
  expect(sharedOut({ ...plain, retryBudget: ratio }, 4).retryBudget).toEqual({ ...ratio, minPerSecond: 2.5 });
  const concurrent = { kind: "concurrent", percent: 20, minimum: 3 } as const;
  expect(sharedOut({ ...plain, retryBudget: concurrent }, 4).retryBudget).toEqual({ ...concurrent, minimum: 1 });
});

test("one process, and a backend without such bounds, have what was said", () => {
  const bounded = { ...plain, limits: { connections: 10 } };
  expect(sharedOut(bounded, 1)).toBe(bounded);
  expect(sharedOut(plain, 4)).toBe(plain);
});
