import { describe, expect, test } from "bun:test";
import type { Retry } from "../model/upstream-policies.ts";
import { Attempts, type FailedTry } from "./attempts.ts";
import type { RequestHead } from "./exchange.ts";
import { HeaderBlock } from "./headers.ts";
import type { BackendRuntime } from "./upstream/backend.ts";
import type { EndpointPool } from "./upstream/pool.ts";
import { retryBudget } from "./upstream/retry-budget.ts";

const policy: Retry = {
  attempts: 2,
  on: ["5xx"],
  statuses: [],
  backoff: { base: 25, max: 250 },
  elsewhere: true,
};
const pools = [{ key: "a" }, { key: "b" }] as unknown as EndpointPool[];
const [one, two] = pools as [EndpointPool, EndpointPool];
const refused: FailedTry = { outcome: { kind: "connect-failure" }, repeat: "never" };
const stale: FailedTry = { outcome: { kind: "reset", sent: true }, repeat: "idempotent" };
const status = (code: number, retryAfter?: string): FailedTry => ({
  outcome: { kind: "status", status: code },
  repeat: "never",
  retryAfter,
});

function attempts(options: { retry?: Retry; method?: string; type?: string; limit?: number; usable?: number } = {}) {
  const told: string[] = [];
  const tell = (what: string) => (pool: EndpointPool, detail?: unknown) =>
    void told.push(`${what} ${pool.key}${detail === undefined ? "" : ` ${detail}`}`);
  const backend = {
    active: 1,
    retryOverflows: 0,
    usable: options.usable ?? 2,
    budget: retryBudget(undefined, options.limit),
    watch: { taken: tell("taken"), answered: tell("answered"), failed: tell("failed"), abandoned: tell("abandoned") },
  };
  const headers = new HeaderBlock();
  if (options.type) headers.add("content-type", options.type);
  const head = { method: options.method ?? "GET", headers } as unknown as RequestHead;
  return { told, backend, made: new Attempts(backend as unknown as BackendRuntime, options.retry, head, 0) };
}

describe("without a policy", () => {
  test("a connection that could not be made is tried elsewhere, twice", () => {
    const { made } = attempts();
    expect(made.again(one, refused, false, 0)).toBe(0);
    expect(made.avoid).toEqual([one]);
    expect(made.again(two, refused, false, 0)).toBe(0);
    expect(made.again(one, refused, false, 0)).toBeUndefined();
    expect(made.limited).toBeUndefined();
  });

  test("a stale connection is only for methods that may be sent twice, with their body at hand; the endpoint is well", () => {
    expect(attempts().made.again(one, stale, false, 0)).toBeUndefined();
    expect(attempts({ method: "POST" }).made.again(one, stale, true, 0)).toBeUndefined();
    expect(attempts({ method: "POST" }).made.again(one, { ...stale, repeat: "always" }, true, 0)).toBe(0);
    const { made } = attempts();
    expect([made.again(one, stale, true, 0), made.avoid]).toEqual([0, []]);
  });

  test("an answer is an answer", () => {
    expect(attempts().made.again(one, status(503), true, 0)).toBeUndefined();
  });
});

describe("by a policy", () => {
  test("as often as it says, after pauses within its bounds, at another endpoint", () => {
    const { made } = attempts({ retry: policy });
    const first = made.again(one, status(500), true, 0)!;
    expect(first).toBeGreaterThanOrEqual(0);
    expect(first).toBeLessThanOrEqual(25);
    expect(made.avoid).toEqual([one]);
    expect(made.again(two, status(500), true, 0)).toBeLessThanOrEqual(75);
    expect([made.again(one, status(500), true, 0), made.limited]).toEqual([undefined, "URX"]);
  });

  test("none when it has 0 attempts, also for connections that could not be made", () => {
    const { made } = attempts({ retry: { ...policy, attempts: 0 } });
    expect([made.again(one, refused, true, 0), made.limited]).toEqual([undefined, "URX"]);
  });

  test("Retry-After stands when it is short enough", () => {
    const with1s = { ...policy, retryAfter: 2_000 };
    expect(attempts({ retry: with1s }).made.again(one, status(503, "1"), true, 0)).toBe(1_000);
    expect(attempts({ retry: with1s }).made.again(one, status(503, "3"), true, 0)).toBeLessThanOrEqual(25);
    expect(attempts({ retry: policy }).made.again(one, status(503, "1"), true, 0)).toBeLessThanOrEqual(25);
  });

  test("no try begins when its time is over, after the pause before it", () => {
    const { made } = attempts({ retry: { ...policy, attempts: 9, retryAfter: 10_000, within: 2_000 } });
    made.begin(1_000);
    expect(made.again(one, status(503, "1"), true, 2_000)).toBe(1_000);
    expect([made.again(two, status(503, "1"), true, 2_001), made.limited]).toEqual([undefined, "URX"]);
    expect(made.again(two, stale, true, 3_000)).toBe(0);
    expect(made.again(two, stale, true, 3_001)).toBeUndefined();
    expect(made.again(two, refused, true, 3_001)).toBeUndefined();
    const always = attempts({ retry: { ...policy, within: 0 } }).made;
    always.begin(0);
    expect(always.again(one, status(503), true, 1e9)).toBeDefined();
  });

  test("priorities that were tried are left out after so many tries, until there is no other", () => {
    const at = (key: string, priority: number) => ({ key, priority }) as unknown as EndpointPool;
    const { made, backend } = attempts({ retry: { ...policy, attempts: 9, elsewhere: false, otherPriorities: 2 } });
    Object.assign(backend, { usableBeside: (left: readonly number[]) => left.length < 2 });
    const leftOut: (readonly number[])[] = [];
    for (const pool of [at("a", 0), at("b", 0), at("c", 1), at("d", 1), at("a", 0)]) {
      made.again(pool, status(500), true, 0);
      leftOut.push(made.leftOut);
    }
    expect(leftOut).toEqual([[], [0], [0], [], []]);
    expect(made.avoid).toEqual([]);
  });

  test("a retry counts in the budget until the next, or the end", () => {
    const { made, backend } = attempts({ retry: { ...policy, attempts: 5 }, limit: 1 });
    expect(made.again(one, status(500), true, 0)).toBeDefined();
    expect(backend.budget.retry(1, 0)).toBe(false);
    expect(made.again(one, status(500), true, 0)).toBeDefined();
    made.end();
    expect(backend.budget.retry(1, 0)).toBe(true);
  });

  test("a body that is gone cannot be sent again, nor can a method that is not listed", () => {
    expect(attempts({ retry: policy }).made.again(one, status(500), false, 0)).toBeUndefined();
    const gets = { ...policy, methods: ["GET"] };
    expect(attempts({ retry: gets, method: "POST" }).made.again(one, status(500), true, 0)).toBeUndefined();
    expect(attempts({ retry: gets }).made.again(one, status(500), true, 0)).toBeDefined();
  });
});

describe("beside a try that is late", () => {
  const hedging = { ...policy, on: [], hedge: true };
  const answer = (code: number) => ({ status: code, headers: new HeaderBlock() }) as never;

  test("there is another under whatever condition, as often as the policy says, at another endpoint", () => {
    const { made } = attempts({ retry: hedging });
    expect(made.hedges).toBe(true);
    expect(made.hedge(one, 0)).toBeLessThanOrEqual(25);
    expect(made.avoid).toEqual([one]);
    expect(made.hedge(two, 0)).toBeLessThanOrEqual(75);
    expect([made.hedge(one, 0), made.limited]).toEqual([undefined, "URX"]);
  });

  test("not for a method that is not listed, nor without being asked", () => {
    expect(attempts({ retry: { ...hedging, methods: ["GET"] }, method: "POST" }).made.hedges).toBe(false);
    expect(attempts({ retry: policy }).made.hedges).toBe(false);
    expect(attempts().made.hedges).toBe(false);
  });

  test("each retry under way is in the budget until its own end", () => {
    const { made, backend } = attempts({ retry: { ...hedging, attempts: 5 }, limit: 2 });
    expect(made.hedge(one, 0)).toBeDefined();
    const first = made.leaveBudgeted();
    expect([first, made.hedge(two, 0) === undefined, made.hedge(two, 0) === undefined]).toEqual([true, false, false]);
    expect(backend.budget.retry(1, 0)).toBe(false);
    made.giveBack(first);
    expect(backend.budget.retry(1, 0)).toBe(true);
    made.end();
    expect(backend.budget.retry(1, 0)).toBe(true);
    expect(backend.budget.retry(1, 0)).toBe(false);
  });

  test("health is told of the timeout, then of the late answer; who is given up for it says nothing", () => {
    const { made, told } = attempts({ retry: hedging });
    made.took(one);
    made.connected(one);
    const since = made.failed(undefined, "timeout");
    made.took(two);
    made.connected(two);
    made.lateAnswer(one, since, answer(200), true);
    made.completed(undefined);
    made.end();
    expect(told).toEqual(["taken a", "failed a timeout", "taken b", "abandoned b", "answered a 200"]);
  });

  test("a late answer that does not count leaves the try under way alone", () => {
    const { made, told } = attempts({ retry: { ...hedging, on: ["5xx"] } });
    made.took(two);
    expect([made.wantsOther(status(503)), made.wantsOther(status(404))]).toEqual([true, false]);
    made.lateAnswer(one, 0, answer(503), false);
    made.responded(answer(200));
    expect(told).toEqual(["taken b", "answered a 503", "answered b 200"]);
  });

  test("a call of gRPC that is late is told at its end", () => {
    const { made, told } = attempts({ retry: hedging, type: "application/grpc" });
    made.lateAnswer(one, 0, answer(200), true);
    expect(told).toEqual([]);
    made.completed("14");
    expect(told).toEqual(["answered a 503"]);
  });
});

describe("what health is told of", () => {
  test("each try ends with one report", () => {
    const { made, told } = attempts({ retry: policy });
    made.took(one);
    made.connected(one);
    made.failed(undefined, "timeout");
    made.took(two);
    // Another connection became free first.
    made.connected(one);
    made.responded({ status: 200, headers: new HeaderBlock() } as never);
    made.end();
    expect(told).toEqual(["taken a", "failed a timeout", "taken b", "abandoned b", "taken a", "answered a 200"]);
  });

  test("a client that leaves says nothing of the endpoint", () => {
    const { made, told } = attempts();
    made.took(one);
    made.end();
    made.end();
    expect(told).toEqual(["taken a", "abandoned a"]);
  });

  test("a call of gRPC is what its status says, in the head or at the end", () => {
    const head = (code?: string) => {
      const headers = new HeaderBlock();
      if (code) headers.add("grpc-status", code);
      return { status: 200, headers } as never;
    };
    const first = attempts({ type: "application/grpc" });
    first.made.took(one);
    first.made.responded(head("14"));
    const second = attempts({ type: "application/grpc+proto" });
    second.made.took(one);
    second.made.responded(head());
    second.made.completed("13");
    expect([first.told.at(-1), second.told.at(-1)]).toEqual(["answered a 503", "answered a 500"]);
  });
});
