// Tries that are made again, and beside each other, through a real proxy process: when, where, how often, what of it the client sees, and
// that nothing of them is left behind. Needs no privileges, but for clients' addresses.

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { endpoints, freePort, type ProxyUnderTest, routeTable, rule } from "./proxy-harness.ts";
import { RawClient } from "./proxy-raw.ts";
import { detection, eachUpstreamTest, failing, retry, until } from "./upstream-servers.ts";

let proxy: ProxyUnderTest;
let port: number;
const { ends, server, serve, get } = eachUpstreamTest((fresh, free) => {
  proxy = fresh;
  port = free;
});

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
