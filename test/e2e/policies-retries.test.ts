// Which outcomes each condition of a retry takes, and what bounds retries, through a real proxy: resets and refused streams, statuses of
// gRPC, the kept body's length, limits and budgets. Back-off and statuses are in `upstreams-retries.test.ts`. Needs no privileges.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { Backend, Rule } from "../../src/model/model.ts";
import type { RetryCondition } from "../../src/model/upstream-policies.ts";
import { ErrorCode, FrameType } from "../../src/proxy/http2/frame.ts";
import { frame, number, Peer, settings } from "../../src/proxy/http2/peer.ts";
import {
  endpointsOf,
  ends,
  proxy,
  type Seen,
  serveBackend,
  server,
  setUp,
  tearDown,
  until,
  url,
} from "./policy-stack.ts";
import { freePort, routeTable, rule } from "./proxy-harness.ts";
import { rawBackend } from "./proxy-raw.ts";

beforeEach(setUp);
afterEach(tearDown);

const retry = { attempts: 1, on: [], statuses: [], backoff: { base: 1, max: 1 }, elsewhere: true } as const;
const on = (...conditions: RetryCondition[]): Partial<Rule> => ({ retry: { ...retry, on: conditions } });
/** Which try of its request a backend sees. */
const attemptOf = ({ headers }: Seen) => Number(headers["x-envoy-attempt-count"]);

describe("a condition takes", () => {
  test("its own status of gRPC and no other", async () => {
    const codes = { cancelled: 1, "deadline-exceeded": 4, "resource-exhausted": 8, internal: 13, unavailable: 14 };
    const one = server((seen) => {
      const code = attemptOf(seen) === 1 ? seen.path.slice(1) : "0";
      return new Response("", { headers: { "grpc-status": code } });
    });
    await serveBackend([one.port]);
    for (const condition of Object.keys(codes) as (keyof typeof codes)[]) {
      const rules = [rule("all", { ...on(condition), attemptCount: { request: true } })];
      await proxy.control.update({ routeTables: [routeTable(rules)] });
      for (const [name, code] of [...Object.entries(codes), ["unknown", 2] as const]) {
        const answer = await fetch(url(`/${code}`));
        const wanted = name === condition ? "0" : String(code);
        expect([condition, name, answer.headers.get("grpc-status")]).toEqual([condition, name, wanted]);
      }
    }
  });

  test("refused streams, which nobody has processed, as often as the policy says", async () => {
    let refused = 0;
    let streams = 0;
    // By frames: Bun's server ends such a stream in another way.
    const made = Bun.listen<Peer>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(socket) {
          socket.data = new Peer(true);
          socket.write(settings());
        },
        data(socket, bytes) {
          socket.data.write(bytes, 0, bytes.length);
          for (const { id } of socket.data.heads.splice(0)) {
            streams++;
            if (refused-- > 0) socket.write(frame(FrameType.rstStream, 0, id, number(ErrorCode.refusedStream)));
            else socket.write(socket.data.headers(id, { ":status": "200" }, true));
          }
        },
        error() {},
      },
    });
    ends.push(() => made.stop(true));
    const ask = async (times: number, more: Partial<Rule>) => {
      await proxy.control.update({ routeTables: [routeTable([rule("all", more)])] });
      [refused, streams] = [times, 0];
      const answer = await fetch(url(), { method: "POST", body: "x" });
      await answer.text();
      return [answer.status, streams];
    };
    await serveBackend([made.port], { protocol: "h2c" });
    // Twice without a policy: that cannot harm.
    expect(await ask(2, {})).toEqual([200, 3]);
    expect(await ask(3, {})).toEqual([503, 3]);
    const five = (condition: RetryCondition) => ({ retry: { ...retry, attempts: 3, on: [condition] } });
    expect(await ask(5, five("refused-stream"))).toEqual([200, 6]);
    expect(await ask(6, five("refused-stream"))).toEqual([503, 6]);
    expect(await ask(5, five("gateway-error"))).toEqual([503, 3]);
  });

  test("what came to nothing before the request was sent, but not what was sent", async () => {
    const good = server();
    await serveBackend([freePort(), good.port], {}, on("reset-before-request"));
    for (let index = 0; index < 6; index++)
      expect((await fetch(url(), { method: "POST", body: "x" })).status).toBe(200);
    expect(good.seen).toHaveLength(6);

    let requests = 0;
    const closes = rawBackend((socket) => {
      requests++;
      socket.end();
    });
    ends.push(closes.stop);
    const ask = async (condition: RetryCondition) => {
      await proxy.control.update({
        endpoints: [endpointsOf([closes.port])],
        routeTables: [routeTable([rule("all", on(condition))])],
      });
      requests = 0;
      const answer = await fetch(url(), { method: "POST", body: "x" });
      await answer.text();
      return [answer.status, requests];
    };
    expect(await ask("reset-before-request")).toEqual([503, 1]);
    expect(await ask("reset")).toEqual([503, 2]);
  });
});

test("answers with a header that is named are tried again, and those that are limited only where that is said", async () => {
  const one = server((seen) => {
    if (attemptOf(seen) > 1) return new Response("again");
    const [status, name, value] = seen.path.slice(1).split("/");
    return new Response("first", { status: Number(status), headers: { [name!]: value! } });
  });
  const ask = async (path: string) => await (await fetch(url(path))).text();
  const headers = [{ name: "x-again", match: { kind: "exact", value: "yes" } }] as const;
  const more = { ...on("5xx"), attemptCount: { request: true } };
  await serveBackend([one.port], {}, { ...more, retry: { ...more.retry!, headers } });
  expect(await ask("/200/x-again/yes")).toBe("again");
  expect(await ask("/404/x-again/yes")).toBe("again");
  expect(await ask("/404/x-again/no")).toBe("first");
  expect(await ask("/503/x-again/no")).toBe("again");
  expect(await ask("/503/x-envoy-ratelimited/true")).toBe("first");
  const limited = rule("all", { ...on("envoy-ratelimited"), attemptCount: { request: true } });
  await proxy.control.update({ routeTables: [routeTable([limited])] });
  expect(await ask("/429/x-envoy-ratelimited/true")).toBe("again");
  expect(await ask("/429/x-other/true")).toBe("first");
});

test("no try begins when there is no time for it, and after so many tries other priorities are asked", async () => {
  const fails = server(() => new Response("", { status: 503, headers: { "retry-after": "60" } }));
  const near = { address: "127.0.0.1", port: fails.port, weight: 1 };
  const late = { ...retry, attempts: 9, on: ["5xx"], retryAfter: 60_000, within: 59_000 } as const;
  await serveBackend([near], {}, { retry: late });
  expect((await fetch(url())).status).toBe(503);
  expect(fails.seen.splice(0)).toHaveLength(1);

  const far = server();
  const others = { ...retry, attempts: 3, on: ["5xx"], elsewhere: false } as const;
  const ask = async (more: Partial<typeof others> & { otherPriorities?: number }) => {
    const rules = [rule("all", { retry: { ...others, ...more } })];
    await proxy.control.update({
      endpoints: [endpointsOf([near, { ...near, port: far.port, priority: 1 }])],
      routeTables: [routeTable(rules)],
    });
    return [(await fetch(url())).status, fails.seen.splice(0).length, far.seen.splice(0).length];
  };
  expect(await ask({})).toEqual([503, 4, 0]);
  expect(await ask({ otherPriorities: 2 })).toEqual([200, 2, 1]);
});

test("a body is sent again while it is kept: 64 KiB and no more", async () => {
  const one = server((seen) => new Response("", { status: attemptOf(seen) === 1 ? 503 : 200 }));
  await serveBackend([one.port], {}, { ...on("5xx"), attemptCount: { request: true } });
  const kept = 64 * 1024;
  for (const length of [1, 20_000, kept]) {
    const body = Array.from({ length: Math.ceil(length / 8) }, (_, index) => String(index).padStart(8, "0")).join("");
    one.seen.splice(0);
    const sent = body.slice(0, length);
    expect((await fetch(url(), { method: "POST", body: sent })).status).toBe(200);
    expect(one.seen.map((seen) => seen.body === sent)).toEqual([true, true]);
  }
  for (const length of [kept + 1, 1_000_000]) {
    one.seen.splice(0);
    expect((await fetch(url(), { method: "POST", body: "x".repeat(length) })).status).toBe(503);
    expect(one.seen.map(({ body }) => body.length)).toEqual([length]);
  }
});

describe("retries under way are at most", () => {
  /**
   * So many requests fail at once while `beside` others are under way; the tries after them wait until all have been decided. How
   * many of them there are.
   */
  async function retried(requests: number, beside: number, config: Partial<Backend>): Promise<number> {
    const waiting = { first: [] as (() => void)[], again: [] as (() => void)[], beside: [] as (() => void)[] };
    const one = server(async (seen) => {
      const kind = seen.path === "/beside" ? "beside" : attemptOf(seen) === 1 ? "first" : "again";
      await new Promise<void>((resolve) => waiting[kind].push(resolve));
      return new Response("", { status: kind === "first" ? 503 : 200 });
    });
    await serveBackend([one.port], config, { ...on("5xx"), attemptCount: { request: true } });
    const others = Array.from({ length: beside }, () => fetch(url("/beside")));
    await until(async () => waiting.beside.length === beside);
    const statuses: number[] = [];
    const asked = Array.from({ length: requests }, async () => statuses.push((await fetch(url("/fails"))).status));
    await until(async () => waiting.first.length === requests);
    for (const release of waiting.first) release();
    // Each is refused a retry, or waits in one.
    await until(async () => statuses.length + waiting.again.length === requests);
    const { length } = waiting.again;
    expect(statuses).toEqual(Array(requests - length).fill(503));
    for (const release of [...waiting.again, ...waiting.beside]) release();
    await Promise.all([...asked, ...others]);
    expect(statuses.filter((status) => status === 200)).toHaveLength(length);
    // Those that are over are no longer counted: there is room for one again.
    const answer = fetch(url("/fails"));
    await until(async () => waiting.first.length === requests + 1);
    waiting.first.at(-1)!();
    if (length > 0) {
      await until(async () => waiting.again.length === length + 1);
      waiting.again.at(-1)!();
    }
    expect((await answer).status).toBe(length > 0 ? 200 : 503);
    return length;
  }

  test("so many", async () => {
    expect(await retried(6, 0, { limits: { retries: 2 } })).toBe(2);
  });

  test("none", async () => {
    expect(await retried(3, 0, { limits: { retries: 0 } })).toBe(0);
  });

  test("a part of the requests under way", async () => {
    // 10 % of 20 to 26.
    expect(await retried(6, 20, { retryBudget: { kind: "concurrent", percent: 10, minimum: 1 } })).toBe(2);
  });

  test("a few always, and the budget stands instead of the limit", async () => {
    const retryBudget = { kind: "concurrent" as const, percent: 10, minimum: 3 };
    expect(await retried(6, 0, { retryBudget, limits: { retries: 1 } })).toBe(3);
  });
});
