// Which endpoints are asked at all: what failures and checks take out of use and bring back, through a real proxy process, for a backend
// and for its subsets. Needs no privileges.

import { describe, expect, test } from "bun:test";
import * as grpc from "@grpc/grpc-js";
import {
  backend,
  endpoints,
  forwardTo,
  freePort,
  type ProxyUnderTest,
  plainListener,
  routeTable,
  rule,
} from "./proxy-harness.ts";
import { type Answer, detection, eachUpstreamTest, failing, until } from "./upstream-servers.ts";

let proxy: ProxyUnderTest;
let port: number;
const { ends, server, serve, get } = eachUpstreamTest((fresh, free) => {
  proxy = fresh;
  port = free;
});

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
