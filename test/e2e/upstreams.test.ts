// The policies of backends and rules through a real proxy process: retries, health, limits, balancing, sessions, timeouts. Needs no
// privileges.

import { describe, expect, test } from "bun:test";
import { constants, createServer, type ServerHttp2Stream } from "node:http2";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import type { Backend, Rule } from "../../src/model/model.ts";
import { readProxyHeader } from "../../src/proxy/listener/proxy-protocol.ts";
import { eachTest } from "./each-test.ts";
import {
  backend,
  endpoints,
  forwardTo,
  freePort,
  from,
  type ProxyUnderTest,
  plainListener,
  routeTable,
  rule,
} from "./proxy-harness.ts";
import { RawClient } from "./proxy-raw.ts";

let proxy: ProxyUnderTest;
let port: number;
const ends = eachTest((fresh, free) => {
  proxy = fresh;
  port = free;
});

type Answer = (request: Request, count: number) => Response | Promise<Response>;

interface TestServer {
  readonly port: number;
  /** Requests so far. */
  count: number;
  readonly bodies: string[];
  answer: Answer;
}

/** A server that counts; by default it says which one it is. */
function server(answer?: Answer): TestServer {
  const made = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      one.bodies.push(await request.text());
      return await one.answer(request, ++one.count);
    },
  });
  ends.push(() => made.stop(true));
  const one: TestServer = {
    port: made.port!,
    count: 0,
    bodies: [],
    answer: answer ?? (() => new Response(String(made.port))),
  };
  return one;
}

const failing: Answer = () => new Response("no", { status: 503 });

async function serve(
  servers: readonly { port: number }[],
  config: Partial<Backend> = {},
  more: Partial<Rule> = {},
  args: readonly string[] = [],
): Promise<void> {
  await proxy.start(...args);
  const rejected = await proxy.control.update({
    backends: [backend("one", config)],
    endpoints: [endpoints("one", ...servers.map((one) => one.port))],
    routeTables: [routeTable([rule("all", more)])],
    listeners: [plainListener(port)],
  });
  expect(rejected).toEqual([]);
}

const url = (path = "/") => `http://127.0.0.1:${port}${path}`;
const get = (path = "/", init: RequestInit = {}) => fetch(url(path), { keepalive: false, ...init });

/** Waits for a condition, asking again and again. */
async function until<T>(what: () => Promise<T | undefined | false>): Promise<T> {
  const end = performance.now() + 15_000;
  for (;;) {
    const result = await what();
    if (result !== undefined && result !== false) return result as T;
    if (performance.now() > end) throw new Error("it did not become true in 15 s");
    await Bun.sleep(10);
  }
}

const retry = {
  attempts: 2,
  on: [],
  statuses: [],
  backoff: { base: 1, max: 10 },
  elsewhere: true,
} satisfies Rule["retry"];

describe("retries", () => {
  test("by status, at another endpoint, with the body again", async () => {
    const bad = server(failing);
    const good = server();
    await serve([bad, good], {}, { retry: { ...retry, on: ["gateway-error"] } });
    for (let index = 0; index < 6; index++) {
      const answer = await get("/", { method: "POST", body: `body ${index}` });
      expect([answer.status, await answer.text()]).toEqual([200, String(good.port)]);
    }
    expect(bad.count).toBeGreaterThan(0);
    expect(good.bodies).toEqual([0, 1, 2, 3, 4, 5].map((index) => `body ${index}`));
  });

  test("the last answer comes through when no try is left, and the log says URX", async () => {
    const bad = server((_, count) => new Response(`answer ${count}`, { status: 500 }));
    const log = join(proxy.folder, "access.log");
    await serve([bad], {}, { retry: { ...retry, on: ["5xx"] } }, ["--access-log", log]);
    const answer = await get();
    expect([answer.status, await answer.text()]).toEqual([500, "answer 3"]);
    const line = await until(async () => {
      const text = await Bun.file(log).text();
      return text !== "" && (JSON.parse(text) as { flag: string; attempts: number });
    });
    expect(line).toMatchObject({ flag: "URX", attempts: 3 });
  });

  test("not for a status, a method or a condition that nobody named", async () => {
    const bad = server((request) => new Response("no", { status: request.url.endsWith("/409") ? 409 : 503 }));
    await serve([bad], {}, { retry: { ...retry, on: ["retriable-4xx"], methods: ["GET"] } });
    expect((await get("/503")).status).toBe(503);
    expect(bad.count).toBe(1);
    expect((await get("/409", { method: "DELETE" })).status).toBe(409);
    expect(bad.count).toBe(2);
    expect((await get("/409")).status).toBe(409);
    expect(bad.count).toBe(5);
  });

  test("a status of gRPC in an answer that is only headers", async () => {
    const one = server((_, count) => new Response("", { headers: { "grpc-status": count < 3 ? "14" : "0" } }));
    await serve([one], {}, { retry: { ...retry, on: ["unavailable"] } });
    const answer = await get("/", { headers: { "content-type": "application/grpc" } });
    expect([answer.headers.get("grpc-status"), one.count]).toEqual(["0", 3]);
  });

  test("a try's timeout is tried again, the request's is the end", async () => {
    const slow = server(async (_, count) => {
      if (count === 1) await Bun.sleep(30_000);
      return new Response("quick");
    });
    await serve([slow], {}, { retry: { ...retry, on: ["5xx"] }, timeouts: { perTry: 300, request: 20_000 } });
    expect(await (await get()).text()).toBe("quick");
    expect(slow.count).toBe(2);
    slow.answer = () => Bun.sleep(30_000).then(() => new Response("late"));
    await proxy.control.update({
      routeTables: [routeTable([rule("all", { retry: { ...retry, on: ["5xx"] }, timeouts: { request: 100 } })])],
    });
    const answer = await get();
    expect([answer.status, answer.headers.get("x-fairlead-reason")]).toEqual([504, "request_timeout"]);
    expect(slow.count).toBe(3);
  });

  test("after the pause that the answer asks for", async () => {
    const one = server((_, count) =>
      count === 1 ? new Response("", { status: 503, headers: { "retry-after": "1" } }) : new Response("ok"),
    );
    await serve([one], {}, { retry: { ...retry, on: ["5xx"], retryAfter: 5_000 } });
    const began = performance.now();
    expect((await get()).status).toBe(200);
    expect(performance.now() - began).toBeGreaterThan(900);
  });

  test("no more of them than the budget has", async () => {
    const bad = server(failing);
    await serve(
      [bad],
      { retryBudget: { kind: "ratio", ratio: 0.2, minPerSecond: 0, ttl: 10_000 } },
      { retry: { ...retry, on: ["5xx"] } },
    );
    for (let index = 0; index < 20; index++) expect((await get()).status).toBe(503);
    expect(bad.count).toBeGreaterThan(20);
    expect(bad.count).toBeLessThanOrEqual(24);
  });

  test("never after the answer has begun", async () => {
    let count = 0;
    const raw = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data(socket) {
          count++;
          socket.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
          socket.flush();
          setTimeout(() => socket.end(), 50);
        },
      },
    });
    ends.push(() => raw.stop(true));
    await serve([raw], {}, { retry: { ...retry, on: ["5xx", "reset"] } });
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    const seen = await client.read(() => false);
    expect(seen).toEndWith("half");
    expect(count).toBe(1);
  });

  test("a connection that is reset before an answer, when asked for", async () => {
    let count = 0;
    const raw = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data(socket) {
          if (++count < 3) socket.end();
          else socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
        },
      },
    });
    ends.push(() => raw.stop(true));
    await serve([raw], {}, { retry: { ...retry, on: ["reset"] } });
    expect(await (await get("/", { method: "POST", body: "x" })).text()).toBe("ok");
    expect(count).toBe(3);
  });
});

describe("hedging", () => {
  /** Answers after so many milliseconds, and says whether it was given up. */
  function slowServer(milliseconds: () => number, status = 200) {
    let givenUp = 0;
    const one = server(async (request, count) => {
      request.signal.addEventListener("abort", () => givenUp++);
      await Bun.sleep(milliseconds());
      return new Response(`${count} of ${one.port}`, { status });
    });
    return Object.assign(one, { givenUp: () => givenUp });
  }
  // A condition that nothing here meets: hedging needs one.
  const hedge = { ...retry, on: ["retriable-4xx"] as const, hedge: true };

  test("a try that is late goes on beside the next, whose answer comes first", async () => {
    const slow = slowServer(() => 30_000);
    const quick = slowServer(() => 0);
    // Round robin: each request goes to the first, and what is beside it to the second.
    await serve([slow, quick], {}, { retry: { ...hedge, attempts: 1 }, timeouts: { perTry: 300 } });
    for (let index = 0; index < 2; index++)
      expect(await (await get("/", { method: "POST", body: "again" })).text()).toEndWith(`of ${quick.port}`);
    expect(quick.bodies).toEqual(["again", "again"]);
    await until(async () => slow.count > 0 && slow.givenUp() === slow.count);
    expect(quick.givenUp()).toBe(0);
  });

  test("a try that is late answers after all, and the one beside it is given up", async () => {
    const one = slowServer(() => (one.count === 1 ? 900 : 30_000));
    const log = join(proxy.folder, "access.log");
    await serve([one], {}, { retry: hedge, timeouts: { perTry: 300, request: 60_000 } }, ["--access-log", log]);
    expect(await (await get()).text()).toBe(`1 of ${one.port}`);
    await until(async () => one.givenUp() === one.count - 1);
    const line = await until(async () => {
      const text = await Bun.file(log).text();
      return text !== "" && (JSON.parse(text) as { attempts: number; status: number });
    });
    expect(line).toMatchObject({ attempts: one.count, status: 200 });
    expect(one.count).toBeGreaterThan(1);
  });

  test("an answer that the policy does not want is passed over while another may come", async () => {
    const bad = slowServer(() => 400, 503);
    const good = slowServer(() => 800);
    await serve([bad, good], {}, { retry: { ...hedge, attempts: 1, on: ["5xx"] }, timeouts: { perTry: 200 } });
    for (let index = 0; index < 2; index++) expect((await get()).status).toBe(200);
    good.answer = () => Bun.sleep(300).then(() => new Response("no", { status: 500 }));
    expect((await get()).status).toBeGreaterThanOrEqual(500);
  }, 20_000);

  test("with no try left it goes on until the request's own time is over", async () => {
    const one = slowServer(() => (one.count === 1 ? 500 : 30_000));
    await serve([one], {}, { retry: { ...hedge, attempts: 0 }, timeouts: { perTry: 200, request: 1_500 } });
    expect(await (await get()).text()).toBe(`1 of ${one.port}`);
    const answer = await get();
    expect([answer.status, answer.headers.get("x-fairlead-reason"), one.count]).toEqual([504, "request_timeout", 2]);
  });

  test("not with a body that is not kept", async () => {
    const one = slowServer(() => 30_000);
    await serve([one], {}, { retry: hedge, timeouts: { perTry: 300 } });
    const answer = await get("/", { method: "POST", body: "x".repeat(2_000_000) });
    expect([answer.status, answer.headers.get("x-fairlead-reason"), one.count]).toEqual([504, "try_timeout", 1]);
  });

  test("when the last of them breaks, that is the answer", async () => {
    let count = 0;
    const raw = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data(socket) {
          count++;
          setTimeout(() => socket.end(), 900);
        },
      },
    });
    ends.push(() => raw.stop(true));
    await serve([raw], {}, { retry: { ...hedge, attempts: 1 }, timeouts: { perTry: 300 } });
    const answer = await get();
    expect([answer.status, answer.headers.get("x-fairlead-reason"), count]).toEqual([503, "upstream_closed", 2]);
  });

  test("the number of tries is told to the backend and the client, where that is asked for", async () => {
    const seen: (string | null)[] = [];
    const one = server((request) => {
      seen.push(request.headers.get("x-envoy-attempt-count"));
      return new Response("", { status: seen.length < 3 ? 503 : 200 });
    });
    const attemptCount = { request: true, response: true };
    await serve([one], {}, { retry: { ...retry, on: ["5xx"] }, attemptCount });
    const answer = await get("/", { headers: { "x-envoy-attempt-count": "77" } });
    expect([seen, answer.headers.get("x-envoy-attempt-count")]).toEqual([["1", "2", "3"], "3"]);
    await proxy.control.update({
      endpoints: [endpoints("one", freePort())],
      routeTables: [routeTable([rule("all", { attemptCount: { response: true } })])],
    });
    const refused = await get();
    expect([refused.status, refused.headers.get("x-envoy-attempt-count")]).toEqual([503, "3"]);
  });
});

const detection = {
  consecutive5xx: 3,
  consecutiveGatewayErrors: 0,
  interval: 100,
  baseEjection: 60_000,
  maxEjection: 300_000,
  maxEjectionPercent: 50,
  alwaysEjectOne: true,
} satisfies Backend["outlierDetection"];

describe("health", () => {
  test("an endpoint that fails three times in a row is taken out, and comes back", async () => {
    const bad = server(failing);
    const good = server();
    await serve([bad, good], { outlierDetection: { ...detection, baseEjection: 300 } });
    for (let index = 0; index < 6; index++) await get();
    expect(bad.count).toBe(3);
    // It comes back when its time is over; then it is well.
    bad.answer = () => new Response("well");
    await until(async () => (await (await get()).text()) === "well");
    const metrics = await (await proxy.get("/metrics")).text();
    expect(metrics).toContain('fairlead_proxy_endpoint_ejections_total{backend="one",cause="consecutive5xx"} 1');
  });

  test("no more than half of them go, and all of them are used in panic", async () => {
    const bad = [server(failing), server(failing), server(failing), server(failing)];
    await serve(bad, { outlierDetection: { ...detection, consecutive5xx: 1 } });
    for (let index = 0; index < 12; index++) expect((await get()).status).toBe(503);
    const ejected = async () => (await (await proxy.get("/metrics")).text()).match(/ejections_total\{.*\} (\d+)/)?.[1];
    expect(await ejected()).toBe("2");
    await proxy.control.update({
      backends: [backend("one", { outlierDetection: { ...detection, consecutive5xx: 1 }, panicPercent: 60 })],
    });
    const before = bad.map(({ count }) => count);
    for (let index = 0; index < 8; index++) await get();
    expect(bad.map(({ count }, index) => count - before[index]!)).toEqual([2, 2, 2, 2]);
  });

  test("failures to connect count, and nobody left is told as such", async () => {
    const gone = freePort();
    await serve([{ port: gone }], { outlierDetection: { ...detection, consecutive5xx: 2, maxEjectionPercent: 100 } });
    const reasons = [];
    for (let index = 0; index < 3; index++) reasons.push((await get()).headers.get("x-fairlead-reason"));
    expect(reasons.at(-1)).toBe("no_healthy_endpoints");
  });

  test("failure accrual: shut, then one probe opens it", async () => {
    const one = server(failing);
    await serve([one], { failureAccrual: { maxFailures: 2, minPenalty: 300, maxPenalty: 1_000, jitterRatio: 0 } });
    for (let index = 0; index < 2; index++) await get();
    const refused = await get();
    expect([refused.headers.get("x-fairlead-reason"), one.count]).toEqual(["no_healthy_endpoints", 2]);
    one.answer = () => new Response("well");
    await until(async () => (await get()).status === 200);
    expect(one.count).toBe(3);
  });
});

describe("health checks", () => {
  const times = { interval: 50, timeout: 2_000, unhealthyThreshold: 2, healthyThreshold: 1 };
  const reasonOf = async () => (await get()).headers.get("x-fairlead-reason");

  test("by HTTP: an endpoint that is not well gets no requests until it is again", async () => {
    let well = true;
    const answer: Answer = (request) =>
      request.url.endsWith("/ready?deep") ? new Response("", { status: well ? 204 : 500 }) : new Response("ok");
    const sick = server(answer);
    const healthy = server((request) => new Response(request.url.endsWith("/ready?deep") ? "" : "other"));
    await serve([sick, healthy], {
      healthCheck: {
        ...times,
        check: { kind: "http", path: "/ready?deep", expected: [{ first: 200, last: 204 }] },
      },
    });
    await until(async () => (await (await get()).text()) === "ok");
    well = false;
    const unhealthy = async () => (await (await proxy.get("/metrics")).text()).includes('state="unhealthy"} 1');
    await until(unhealthy);
    for (let index = 0; index < 6; index++) expect(await (await get()).text()).toBe("other");
    well = true;
    await until(async () => (await (await get()).text()) === "ok");
  });

  test("by TCP", async () => {
    const gone = freePort();
    await serve([{ port: gone }], { healthCheck: { ...times, check: { kind: "tcp" } } });
    await until(async () => (await reasonOf()) === "no_healthy_endpoints");
    const back = Bun.serve({ port: gone, hostname: "127.0.0.1", fetch: () => new Response("back") });
    ends.push(() => back.stop(true));
    await until(async () => (await get()).status === 200);
  });

  test("by gRPC", async () => {
    let status = 1;
    const asked: string[] = [];
    const identity = (bytes: Buffer) => bytes;
    const health = new grpc.Server();
    health.addService(
      {
        check: {
          ...{ path: "/grpc.health.v1.Health/Check", requestStream: false, responseStream: false },
          ...{ requestSerialize: identity, requestDeserialize: identity },
          ...{ responseSerialize: identity, responseDeserialize: identity },
        },
      },
      {
        check(call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) {
          asked.push(call.request.subarray(2).toString());
          done(null, Buffer.from([8, status]));
        },
      },
    );
    const at = await new Promise<number>((resolve, reject) => {
      health.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      );
    });
    ends.push(() => health.forceShutdown());
    await serve([{ port: at }], {
      protocol: "h2c",
      healthCheck: { ...times, check: { kind: "grpc", service: "orders" } },
    });
    await until(async () => asked.length > 2);
    expect(new Set(asked)).toEqual(new Set(["orders"]));
    expect(await reasonOf()).not.toBe("no_healthy_endpoints");
    status = 2;
    await until(async () => (await reasonOf()) === "no_healthy_endpoints");
    status = 1;
    await until(async () => (await reasonOf()) !== "no_healthy_endpoints");
  });
});

describe("limits", () => {
  test("requests under way", async () => {
    const { promise, resolve } = Promise.withResolvers<Response>();
    const one = server(() => promise.then(() => new Response("done")));
    await serve([one], { limits: { requests: 2 } });
    const under = [get(), get()];
    await until(async () => one.count === 2);
    const third = await get();
    expect([third.status, third.headers.get("x-envoy-overloaded"), third.headers.get("x-fairlead-reason")]).toEqual([
      503,
      "true",
      "overflow",
    ]);
    resolve(new Response());
    for (const answer of await Promise.all(under)) expect(answer.status).toBe(200);
    expect((await get()).status).toBe(200);
  });

  test("requests of one connection, and how long an unused one is kept", async () => {
    const opened: number[] = [];
    const raw = Bun.listen<{ requests: number }>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(socket) {
          socket.data = { requests: 0 };
        },
        data(socket) {
          if (socket.data.requests++ === 0) opened.push(performance.now());
          socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        },
      },
    });
    ends.push(() => raw.stop(true));
    await serve([raw], { limits: { requestsPerConnection: 2 } });
    for (let index = 0; index < 6; index++) expect((await get()).status).toBe(200);
    expect(opened.length).toBe(3);
    await proxy.control.update({ backends: [backend("one", { limits: { idleTimeout: 50 } })] });
    await get();
    const before = opened.length;
    await Bun.sleep(100);
    await get();
    expect(opened.length).toBe(before + 1);
  });
});

describe("who is asked", () => {
  test("the same key goes to the same endpoint; a client without a cookie gets one", async () => {
    const servers = [server(), server(), server(), server()];
    await serve(servers, { balance: { kind: "ringHash" } }, { hash: [{ kind: "header", name: "x-user" }] });
    for (const user of ["ann", "bob", "cid", "dan", "eve"]) {
      const seen = new Set<string>();
      for (let index = 0; index < 4; index++) seen.add(await (await get("/", { headers: { "x-user": user } })).text());
      expect(seen.size).toBe(1);
    }
    await proxy.control.update({
      routeTables: [routeTable([rule("all", { hash: [{ kind: "cookie", name: "fl", path: "/", ttl: 60 }] })])],
    });
    const first = await get();
    const cookie = first.headers.get("set-cookie")!;
    expect(cookie).toMatch(/^fl=[0-9a-f-]{36}; Path=\/; Max-Age=60; HttpOnly; SameSite=Lax$/);
    const at = await first.text();
    for (let index = 0; index < 4; index++) {
      const again = await get("/", { headers: { cookie: cookie.split(";")[0]! } });
      expect([await again.text(), again.headers.get("set-cookie")]).toEqual([at, null]);
    }
  });

  test("a session keeps its endpoint, and gets another when that is gone", async () => {
    const servers = [server(), server(), server()];
    const persistence = { carrier: { kind: "cookie", name: "s" }, keeps: "endpoint" } satisfies Rule["persistence"];
    await serve(servers, {}, { persistence });
    const first = await get();
    const cookie = first.headers.get("set-cookie")!.split(";")[0]!;
    const at = await first.text();
    expect(cookie).not.toContain(at);
    for (let index = 0; index < 6; index++) {
      const again = await get("/", { headers: { cookie } });
      expect([await again.text(), again.headers.get("set-cookie")]).toEqual([at, null]);
    }
    const left = servers.filter((one) => String(one.port) !== at).map((one) => one.port);
    await proxy.control.update({ endpoints: [endpoints("one", ...left)] });
    const moved = await get("/", { headers: { cookie } });
    expect(await moved.text()).not.toBe(at);
    expect(moved.headers.get("set-cookie")).toStartWith("s=");
    await proxy.control.update({
      routeTables: [routeTable([rule("all", { persistence: { ...persistence, fallback: false } })])],
    });
    const refused = await get("/", { headers: { cookie } });
    expect([refused.status, refused.headers.get("x-fairlead-reason")]).toEqual([503, "kept_gone"]);
  });

  test("a session keeps its backend among weighted ones", async () => {
    const [a, b] = [server(), server()];
    await proxy.start();
    await proxy.control.update({
      backends: [backend("one"), backend("two")],
      endpoints: [endpoints("one", a.port), endpoints("two", b.port)],
      routeTables: [
        routeTable([
          rule("all", {
            action: { kind: "forward", to: [forwardTo("one"), forwardTo("two")] },
            persistence: { carrier: { kind: "header", name: "x-session" }, keeps: "backend" },
          }),
        ]),
      ],
      listeners: [plainListener(port)],
    });
    const first = await get();
    const at = await first.text();
    const session = first.headers.get("x-session")!;
    for (let index = 0; index < 6; index++)
      expect(await (await get("/", { headers: { "x-session": session } })).text()).toBe(at);
  });

  test("the quicker one, and endpoints of the own zone", async () => {
    const slow = server(async () => {
      await Bun.sleep(150);
      return new Response("slow");
    });
    const quick = server();
    await serve([slow, quick], { balance: { kind: "peakEwma", startAt: 1 } }, {}, ["--zone", "a"]);
    for (let index = 0; index < 20; index++) await get();
    expect(quick.count).toBeGreaterThan(slow.count * 3);

    const zoned = [slow, quick].map((one, index) => ({
      address: "127.0.0.1",
      port: one.port,
      weight: 1,
      zone: index === 0 ? "b" : "a",
    }));
    await proxy.control.update({
      backends: [backend("one", { locality: { zonePreference: { minimum: 0 } } })],
      endpoints: [{ backend: "one", from, endpoints: zoned }],
    });
    const before = slow.count;
    for (let index = 0; index < 10; index++) await get();
    expect(slow.count).toBe(before);
  });
});

describe("over HTTP/2 to the backend", () => {
  /** Answers what `answer` does, as streams of how many sessions. */
  async function http2Server(answer: (stream: ServerHttp2Stream, count: number, path: string) => void) {
    const made = createServer();
    const one = { port: 0, count: 0, sessions: 0 };
    made.on("session", () => one.sessions++);
    made.on("stream", (stream: ServerHttp2Stream, headers) => {
      stream.on("error", () => {});
      answer(stream, ++one.count, headers[":path"]!);
    });
    await new Promise<void>((done) => made.listen(0, "127.0.0.1", done));
    ends.push(() => made.close());
    one.port = (made.address() as { port: number }).port;
    return one;
  }

  const ok = (stream: ServerHttp2Stream, text = "ok") => {
    stream.respond({ ":status": 200 });
    stream.end(text);
  };

  test("statuses, timeouts and resets are tried again, bodies and all", async () => {
    const one = await http2Server((stream, count, path) => {
      if (count % 3 === 0) {
        const parts: Buffer[] = [];
        stream.on("data", (part: Buffer) => parts.push(part));
        stream.on("end", () => ok(stream, Buffer.concat(parts).toString()));
      } else if (path === "/status") {
        stream.respond({ ":status": 503 });
        stream.end("no");
      } else if (path === "/reset") stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    });
    await serve(
      [one],
      { protocol: "h2c" },
      { retry: { ...retry, on: ["5xx", "reset"] }, timeouts: { perTry: 500, request: 30_000 } },
    );
    for (const path of ["/status", "/reset", "/silent"]) {
      const answer = await get(path, { method: "POST", body: `for ${path}` });
      expect([answer.status, await answer.text()]).toEqual([200, `for ${path}`]);
    }
    expect(one.count).toBe(9);
  });

  test("limits of requests, and of requests of one connection", async () => {
    const held: ServerHttp2Stream[] = [];
    const one = await http2Server((stream, _, path) => (path === "/held" ? held.push(stream) : ok(stream)));
    await serve([one], { protocol: "h2c", limits: { requests: 2, requestsPerConnection: 3 } });
    const under = [get("/held"), get("/held")];
    await until(async () => held.length === 2);
    expect((await get()).headers.get("x-fairlead-reason")).toBe("overflow");
    for (const stream of held) ok(stream);
    for (const answer of await Promise.all(under)) expect(answer.status).toBe(200);
    for (let index = 0; index < 7; index++) expect((await get()).status).toBe(200);
    expect(one.sessions).toBe(3);
  });

  test("a try that is late and the one beside it are streams of one connection", async () => {
    const streams: ServerHttp2Stream[] = [];
    let reset = 0;
    const one = await http2Server((stream) => {
      streams.push(stream);
      stream.on("close", () => void (stream.rstCode === constants.NGHTTP2_CANCEL && reset++));
      if (streams.length === 2) setTimeout(() => ok(streams[0]!, "late"), 200);
      else if (streams.length === 4) ok(stream, "beside");
    });
    const hedged = { retry: { ...retry, on: ["5xx"] as const, attempts: 1, hedge: true }, timeouts: { perTry: 500 } };
    await serve([one], { protocol: "h2c" }, hedged);
    expect(await (await get("/", { method: "POST", body: "x" })).text()).toBe("late");
    await until(async () => reset === 1);
    // The third stays silent, the fourth answers.
    expect(await (await get("/", { method: "POST", body: "x" })).text()).toBe("beside");
    await until(async () => reset === 2);
    expect([one.count, one.sessions]).toEqual([4, 1]);
  });

  test("an endpoint that fails is taken out, and idle exchanges end", async () => {
    const bad = await http2Server((stream) => {
      stream.respond({ ":status": 503 }, { endStream: true });
    });
    const good = await http2Server((stream, _, path) => void (path === "/silent" || ok(stream)));
    await serve(
      [bad, good],
      { protocol: "h2c", outlierDetection: { ...detection, consecutive5xx: 2 } },
      { timeouts: { idle: 300 } },
    );
    for (let index = 0; index < 8; index++) await get();
    expect(bad.count).toBe(2);
    const answer = await get("/silent");
    expect([answer.status, answer.headers.get("x-fairlead-reason")]).toEqual([504, "upstream_idle"]);
  });
});

for (const [how, more, hedge] of [
  ["", {}, false],
  [", with PROXY headers", { proxyProtocol: 1 }, false],
  [", with clients' addresses", { originalSource: {} }, false],
  [", with hedging", {}, true],
] as const) {
  if ("originalSource" in more && process.getuid?.() !== 0) {
    console.log("skipped: clients' addresses need root");
    continue;
  }
  test(`after requests that failed in every way nothing is counted as under way${how}`, async () => {
    let turn = 0;
    const flaky = Bun.listen<{ seen: string }>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(socket) {
          socket.data = { seen: "" };
        },
        data(socket, bytes) {
          socket.data.seen += bytes.toString("latin1");
          if (!socket.data.seen.endsWith("end")) return;
          socket.data.seen = "";
          switch (turn++ % 7) {
            case 0:
              socket.end();
              break;
            case 1:
              socket.terminate();
              break;
            case 2:
              socket.write(`HTTP/1.1 503 no\r\ncontent-length: 100000\r\n\r\n${"x".repeat(100_000)}`);
              break;
            case 3:
              socket.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
              setTimeout(() => socket.terminate(), 5);
              break;
            case 4:
              break;
            case 5:
              socket.write("HTTP/1.1 500 no\r\ncontent-length: 2\r\n\r\nno");
              break;
            default:
              socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
          }
        },
      },
    });
    ends.push(() => flaky.stop(true));
    await serve(
      [flaky, { port: freePort() }],
      {
        limits: { connections: 6, pending: 8, requests: 12, retries: 5, requestsPerConnection: 5 },
        outlierDetection: { ...detection, consecutive5xx: 4, baseEjection: 100 },
        failureAccrual: { maxFailures: 5, minPenalty: 20, maxPenalty: 100, jitterRatio: 0.5 },
        panicPercent: 50,
        ...more,
      },
      { retry: { ...retry, hedge, on: ["5xx", "reset"] }, timeouts: { perTry: 60, request: 400, idle: 300 } },
    );
    const statuses = new Set<number>();
    const one = async (index: number) => {
      const abort = index % 5 === 0 ? { signal: AbortSignal.timeout(30) } : {};
      const answer = await get("/", { method: "POST", body: `${index} end`, ...abort }).catch(() => undefined);
      statuses.add(answer?.status ?? 0);
      await answer?.text().catch(() => {});
    };
    for (let round = 0; round < 15; round++)
      await Promise.all(Array.from({ length: 16 }, (_, index) => one(round * 16 + index)));
    expect([...statuses]).toContain(200);
    expect([...statuses]).toContain(503);
    await until(async () => {
      const metrics = await (await proxy.get("/metrics")).text();
      return (
        metrics.includes('upstream_active_requests{backend="one"} 0\n') &&
        metrics.includes('upstream_pending_requests{backend="one"} 0\n')
      );
    });
  }, 30_000);
}

test("shares follow weights within three standard deviations", async () => {
  const servers = [server(), server(), server()];
  await serve(servers);
  const weights = [1, 2, 3];
  const weighted = servers.map((one, index) => ({ address: "127.0.0.1", port: one.port, weight: weights[index]! }));
  await proxy.control.update({ endpoints: [{ backend: "one", from, endpoints: weighted }] });
  const all = 600;
  for (let index = 0; index < all; index += 20) await Promise.all(Array.from({ length: 20 }, () => get()));
  servers.forEach(({ count }, index) => {
    const share = weights[index]! / 6;
    expect(Math.abs(count - all * share)).toBeLessThan(3 * Math.sqrt(all * share * (1 - share)));
  });
});

describe("PROXY headers to backends", () => {
  /** Keeps what each connection begins with, and answers requests of HTTP/1. */
  function recorder() {
    const seen: Buffer[] = [];
    const made = Bun.listen<{ at: number }>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(socket) {
          socket.data = { at: seen.push(Buffer.alloc(0)) - 1 };
        },
        data(socket, bytes) {
          const all = Buffer.concat([seen[socket.data.at]!, bytes]);
          seen[socket.data.at] = all;
          if (all.includes("\r\n\r\n", all.length - 4)) socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        },
      },
    });
    ends.push(() => made.stop(true));
    return { port: made.port, seen };
  }

  test("version 1: each request has a connection of its own, which tells of its client", async () => {
    const one = recorder();
    await serve([one], { proxyProtocol: 1 });
    const client = await RawClient.connect(port);
    for (let index = 1; index <= 2; index++) {
      client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
      await client.read((all) => all.split("ok").length > index);
    }
    const begin = `PROXY TCP4 127.0.0.1 127.0.0.1 ${client.socket.localPort} ${port}\r\nGET / HTTP/1.1\r\n`;
    expect(one.seen.map((bytes) => bytes.toString("latin1").slice(0, begin.length))).toEqual([begin, begin]);
    client.close();
  });

  test("version 2, with limits and connections that cannot be made", async () => {
    const one = recorder();
    await serve([{ port: freePort() }, one], { proxyProtocol: 2, limits: { connections: 1 } });
    const answers = await Promise.all(Array.from({ length: 6 }, () => get()));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200]);
    expect(one.seen.every((bytes) => readProxyHeader(bytes) !== "malformed")).toBe(true);
    await until(async () =>
      (await (await proxy.get("/metrics")).text()).includes('upstream_connections{backend="one"} 0'),
    );
  });

  test("relayed connections begin with one, too", async () => {
    const one = recorder();
    await proxy.start();
    const to = [{ from, weight: 1, target: { backend: "one" }, filters: [] }];
    const rejected = await proxy.control.update({
      backends: [backend("one", { protocol: "tcp", proxyProtocol: 1 })],
      endpoints: [endpoints("one", one.port)],
      listeners: [{ ...plainListener(port), chains: [{ from, when: { kind: "plain" }, serve: { tcp: to } }] }],
    });
    expect(rejected).toEqual([]);
    const client = await RawClient.connect(port);
    client.send("hello");
    await until(async () => one.seen[0]?.includes("hello"));
    expect(one.seen[0]!.toString()).toBe(`PROXY TCP4 127.0.0.1 127.0.0.1 ${client.socket.localPort} ${port}\r\nhello`);
    client.close();
  });

  test("a check says that it is the proxy's own", async () => {
    const one = recorder();
    await serve([one], {
      proxyProtocol: 1,
      healthCheck: {
        ...{ interval: 50, timeout: 2_000, unhealthyThreshold: 1, healthyThreshold: 1 },
        check: { kind: "http", path: "/" },
      },
    });
    await until(async () => one.seen.length > 2);
    expect(one.seen[0]!.toString()).toStartWith("PROXY UNKNOWN\r\nGET / HTTP/1.1");
  });
});

describe("timeouts", () => {
  test("a try's time ends no answer that has begun, a stream's does", async () => {
    const one = server(
      () =>
        new Response(
          new ReadableStream({
            async start(controller) {
              for (let index = 0; index < 12; index++) {
                controller.enqueue("part ");
                await Bun.sleep(100);
              }
              controller.close();
            },
          }),
        ),
    );
    await serve([one], {}, { timeouts: { perTry: 300 } });
    expect(await (await get()).text()).toBe("part ".repeat(12));
    await proxy.control.update({ routeTables: [routeTable([rule("all", { timeouts: { stream: 300 } })])] });
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    const seen = await client.read(() => false);
    expect(seen).toContain("part ");
    expect(seen).not.toEndWith("0\r\n\r\n");
  });

  test("a request's time ends with the beginning of a tunnel, a stream's does not", async () => {
    const raw = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data(socket, bytes) {
          if (bytes.includes("GET")) {
            socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
          } else socket.write(bytes);
        },
      },
    });
    ends.push(() => raw.stop(true));
    await serve([raw], {}, { timeouts: { request: 300, perTry: 200, stream: 1_200 } });
    const client = await RawClient.connect(port);
    const began = performance.now();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    await client.read((all) => all.includes("\r\n\r\n"));
    await Bun.sleep(600);
    client.send("still there");
    await client.read((all) => all.endsWith("still there"));
    await client.read(() => false);
    expect(performance.now() - began).toBeGreaterThan(1_100);
  });

  test("nothing either way for longer than the idle timeout", async () => {
    const one = server(() => Bun.sleep(30_000).then(() => new Response("late")));
    await serve([one], {}, { timeouts: { idle: 200 } });
    const answer = await get();
    expect([answer.status, answer.headers.get("x-fairlead-reason")]).toEqual([504, "upstream_idle"]);
  });
});

describe("connections", () => {
  /** Counts connections, and says on which one a request came. */
  function counting(answer: (text: string, connection: number) => string | undefined = () => undefined) {
    let made = 0;
    let open = 0;
    const listener = Bun.listen<{ number: number; seen: string }>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(socket) {
          socket.data = { number: ++made, seen: "" };
          open++;
        },
        data(socket, bytes) {
          const { data } = socket;
          data.seen += bytes.toString("latin1");
          if (!data.seen.includes("\r\n\r\n")) return;
          const text = answer(data.seen, data.number) ?? `${listener.port}`;
          data.seen = "";
          const wait = text.startsWith("wait") ? 800 : 0;
          setTimeout(() => socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${text.length}\r\n\r\n${text}`), wait);
        },
        close: () => void open--,
      },
    });
    ends.push(() => listener.stop(true));
    return { port: listener.port, made: () => made, open: () => open };
  }

  test("are made before they are needed, as many as are said, and again when they die", async () => {
    const one = counting();
    const two = counting();
    await serve([one, two], { warm: { connections: 3 }, limits: { idleTimeout: 1_500 } });
    await until(async () => one.open() === 3 && two.open() === 3);
    // The old ones go when they have been idle for too long, others come in their place.
    await until(async () => one.made() >= 6 && one.open() === 3);
    expect((await get()).status).toBe(200);
    const [before] = [one.made()];
    await proxy.control.update({
      routeTables: [routeTable([rule("all", { action: { kind: "respond", status: 200, reason: "" } })])],
    });
    await until(async () => one.open() === 0 && two.open() === 0);
    expect(one.made()).toBeLessThan(before + 9);
  }, 30_000);

  test("are so many times those in use", async () => {
    const one = counting(() => "wait");
    await serve([one], { warm: { ratio: 2 } });
    await Promise.all([get(), get(), get()]);
    expect(one.made()).toBe(6);
  });

  test("are made ahead over HTTP/2, too, and none to who is out", async () => {
    const sessions = [0, 0];
    const servers = await Promise.all(
      sessions.map(async (_, index) => {
        const made = createServer();
        made.on("session", () => sessions[index]!++);
        made.on("stream", (stream: ServerHttp2Stream) => {
          stream.respond({ ":status": index === 0 ? 200 : 503 });
          stream.end("ok");
        });
        await new Promise<void>((done) => made.listen(0, "127.0.0.1", done));
        ends.push(() => made.close());
        return { port: (made.address() as { port: number }).port };
      }),
    );
    const config = { protocol: "h2c", outlierDetection: { ...detection, consecutive5xx: 1 } } as const;
    await serve(servers, config);
    for (let index = 0; index < 4; index++) await get();
    expect(sessions).toEqual([1, 1]);
    await proxy.control.update({ backends: [backend("one", { ...config, warm: { connections: 3 } })] });
    await until(async () => sessions[0] === 3);
    expect(sessions).toEqual([3, 1]);
  });

  test("that are unused are kept up to the limit", async () => {
    const one = counting(() => "wait");
    await serve([one], { limits: { idleConnections: 2 } });
    await Promise.all([get(), get(), get(), get(), get()]);
    expect(one.made()).toBe(5);
    await until(async () => one.open() === 2);
  });

  test("that are all in use are waited for, by sessions and hashes at their own endpoint", async () => {
    const [one, two] = [counting((text) => (text.includes("/slow") ? "wait" : undefined)), counting()];
    const persistence = { carrier: { kind: "header", name: "x-session" }, keeps: "endpoint" } as const;
    await serve([one, two], { limits: { connections: 1 } }, { persistence });
    const session = async (port: number) => {
      for (;;) {
        const answer = await get();
        if ((await answer.text()) === String(port)) return answer.headers.get("x-session")!;
        // The one connection that there may be is closed, so that the next request goes elsewhere.
        await proxy.control.update({ endpoints: [endpoints("one", two.port), endpoints("one", two.port, one.port)] });
        await proxy.control.update({ endpoints: [endpoints("one", port)] });
        await proxy.control.update({ endpoints: [endpoints("one", one.port, two.port)] });
      }
    };
    const ofOne = await session(one.port);
    const ofTwo = await session(two.port);
    const at = async (token: string, path = "/") => (await get(path, { headers: { "x-session": token } })).text();
    // An unused connection to the other endpoint makes room.
    for (let round = 0; round < 3; round++)
      expect([await at(ofOne), await at(ofTwo)]).toEqual([`${one.port}`, `${two.port}`]);
    // One in use is waited for.
    const slow = at(ofOne, "/slow");
    await Bun.sleep(50);
    const waiting = [at(ofTwo), at(ofOne), at(ofTwo)];
    expect(await slow).toBe("wait");
    expect(await Promise.all(waiting)).toEqual([`${two.port}`, `${one.port}`, `${two.port}`]);
    expect([one.open() + two.open()]).toEqual([1]);
    // Those who may be served anywhere do not pass who waits for an endpoint without a connection.
    const order: string[] = [];
    const again = at(ofOne, "/slow");
    await Bun.sleep(50);
    const bound = at(ofTwo).then(() => order.push("bound"));
    await Bun.sleep(50);
    const others = Array.from({ length: 3 }, () => get().then(() => order.push("other")));
    await Promise.all([again, bound, ...others]);
    expect(order[0]).toBe("bound");
  });

  test("that are all in use are not waited for by more than may wait, whoever they are for", async () => {
    const one = counting(() => "wait");
    const hash = [{ kind: "header", name: "x-user" }] as const;
    const config = { balance: { kind: "maglev" }, limits: { connections: 1, pending: 1 } } as const;
    const two = counting(() => "wait");
    await serve([one, two], config, { hash });
    const status = async () => (await get("/", { headers: { "x-user": "a" } })).status;
    const first = status();
    await until(async () => one.open() + two.open() === 1);
    await Bun.sleep(20);
    expect((await Promise.all([status(), status(), status()])).sort()).toEqual([200, 503, 503]);
    expect(await first).toBe(200);
  });
});

test("subsets are backends of their own: what one knows of an endpoint is not what another does", async () => {
  const [v1, v2] = [server(), server(failing)];
  const by = (name: string, backend: string) =>
    rule(name, {
      match: { headers: [{ name: "x-subset", match: { kind: "exact", value: name } }] },
      action: { kind: "forward", to: [forwardTo(backend)] },
    });
  await proxy.start();
  const watched = { outlierDetection: { ...detection, consecutive5xx: 1, maxEjectionPercent: 100 } };
  const rejected = await proxy.control.update({
    backends: [backend("one"), backend("one/v1", watched), backend("one/v2", watched)],
    endpoints: [endpoints("one", v1.port, v2.port), endpoints("one/v1", v1.port), endpoints("one/v2", v2.port)],
    routeTables: [routeTable([by("v1", "one/v1"), by("v2", "one/v2"), rule("all")])],
    listeners: [plainListener(port)],
  });
  expect(rejected).toEqual([]);
  const of = async (subset: string) => {
    const answer = await get("/", { headers: { "x-subset": subset } });
    return `${answer.status} ${answer.headers.get("x-fairlead-reason") ?? "answered"}`;
  };
  expect([await of("v1"), await of("v1"), await of("v2"), await of("v2")]).toEqual([
    ...["200 answered", "200 answered", "503 answered", "503 no_healthy_endpoints"],
  ]);
  expect([await of(""), await of("")].sort()).toEqual(["200 answered", "503 answered"]);
  expect([v1.count, v2.count]).toEqual([3, 2]);
});

test("policies that make no sense are refused by field", async () => {
  await proxy.start();
  const rejected = await proxy.control.update({
    backends: [
      backend("a", { limits: { requests: 0 } }),
      backend("b", { outlierDetection: { ...detection, maxEjectionPercent: 101 } }),
      backend("c", { balance: { kind: "maglev", tableSize: 10 } }),
    ],
    routeTables: [routeTable([rule("all", { retry: { ...retry, on: ["5xx", "always" as "5xx"] } })])],
  });
  expect(rejected.map(({ name, reason }) => `${name}: ${reason}`)).toEqual([
    "a: limits.requests 0 is no whole number of at least 1",
    "b: outlierDetection.maxEjectionPercent 101 is no number of 0 to 100",
    "c: balance.tableSize 10 is no prime",
    expect.stringContaining('main: hosts[0].rules[0].retry.on[1] "always" is no condition'),
  ]);
});
